"""What an operator sees of the door: updates by lane and outcome, what waits, what was refused."""

from prometheus_client import Counter, Gauge

UPDATES = Counter(
    "turnpike_updates", "Updates by lane and outcome: done, dropped, failed, put_off", ["lane", "outcome"]
)
UPDATES_KEPT = Gauge("turnpike_updates_kept", "Updates that wait, or were set aside", ["lane", "state"])
UPDATES_AGE = Gauge("turnpike_updates_age_seconds", "Age of the oldest of them", ["lane", "state"])
CHECKOUTS = Counter("turnpike_checkouts", "Pre-checkout answers: yes, or the reason of the no", ["answer"])
REFUSALS = Counter("turnpike_refusals", "What was asked for in a chat and not done", ["what", "reason"])
WEBHOOKS_REFUSED = Counter("turnpike_webhooks_refused", "Posts to /telegram that were not taken in", ["status"])
