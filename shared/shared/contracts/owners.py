"""The five owners: their token, the package of their service, and the name that people read."""

OWNERS = {
    "bot": "bot_gateway",
    "payments": "payments",
    "referrals": "referrals",
    "vpn": "vpn_provisioner",
    "notifier": "notifier",
}
"""By the token in subjects, schemas and roles: the package of the service."""

SERVICE_NAMES = {owner: package.replace("_", "-") for owner, package in OWNERS.items()}
"""The one name of a service wherever a person reads it: commands, logs, traces, documents."""
