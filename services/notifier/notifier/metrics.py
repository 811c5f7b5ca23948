"""The metrics of notifier."""

from prometheus_client import Counter, Gauge

DELIVERIES = Counter(
    "turnpike_deliveries", "Attempts to deliver a message, by kind and outcome", ["kind", "outcome"]
)
LEASES_LOST = Counter(
    "turnpike_delivery_leases_lost", "Deliveries that took longer than their lease"
)
DELIVERIES_OPEN = Gauge("turnpike_deliveries_open", "Messages that are not settled yet", ["kind"])
