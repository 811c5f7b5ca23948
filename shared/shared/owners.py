"""Who owns what: the token in subjects, schemas and roles, and the package that runs."""

OWNERS = {
    "bot": "bot_gateway",
    "payments": "payments",
    "referrals": "referrals",
    "vpn": "vpn_provisioner",
    "notifier": "notifier",
}
