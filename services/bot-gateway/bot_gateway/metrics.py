"""Metrics of bot-gateway: updates by lane and outcome, refusals, and the walk over Stars."""

from prometheus_client import Counter, Gauge

UPDATES = Counter(
    "turnpike_updates",
    "Updates by lane and outcome: done, dropped, failed, put_off",
    ["lane", "outcome"],
)
UPDATES_KEPT = Gauge(
    "turnpike_updates_kept", "Updates that wait or were set aside", ["lane", "state"]
)
UPDATES_AGE = Gauge("turnpike_updates_age_seconds", "Age of the oldest of them", ["lane", "state"])
CHECKOUTS = Counter(
    "turnpike_checkouts", "Pre-checkout answers: approved, or the reason of the refusal", ["answer"]
)
REFUSALS = Counter("turnpike_refusals", "Requests in a chat that were refused", ["what", "reason"])
WEBHOOK_FAILING = Gauge(
    "turnpike_webhook_failing", "1 while updates wait because Telegram's posts to /telegram fail"
)
WEBHOOKS_REFUSED = Counter(
    "turnpike_webhooks_refused", "Posts to /telegram that were not stored, by status", ["status"]
)
STAR_TRANSACTIONS = Counter(
    "turnpike_star_transactions",
    "Transactions of Telegram's listing by kind: payment, refund, gift_purchase, unreadable, ...",
    ["kind"],
)
STARS_MISSING = Counter(
    "turnpike_stars_missing",
    "Payments and refunds that Telegram lists, and of which no update came; they are reported",
    ["kind"],
)
STAR_REFUNDS = Counter(
    "turnpike_star_refunds",
    "Charges of Stars that were asked back at Telegram by outcome: done, refused, put_off",
    ["outcome"],
)
STAR_WALKS = Counter(
    "turnpike_star_walks",
    "Walks over the listing: ended, begun again (it changed before the place), failed",
    ["outcome"],
)
