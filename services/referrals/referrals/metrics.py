"""The metrics of referrals."""

from prometheus_client import Counter

REFUSED = Counter(
    "turnpike_invitations_refused",
    "People who were not bound to the inviter they named",
    ["reason"],
)
WAITED = Counter("turnpike_payments_waited", "Payments that came before the start of their payer")
DECIDED = Counter(
    "turnpike_rewards_decided", "Reward decisions about receipts, by outcome", ["outcome"]
)
