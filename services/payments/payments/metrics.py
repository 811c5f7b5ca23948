"""Prometheus metrics of outside providers. An acquirer is labelled by its name."""

from prometheus_client import Counter, Gauge

OPENINGS = Counter(
    "turnpike_invoice_openings",
    "Tries to open an invoice by outcome: opened, found, refused, unknown, slow_down, unavailable",
    ["acquirer", "outcome"],
)
PROVIDER_FINDINGS = Gauge(
    "turnpike_provider_findings",
    "Sentences of the provider's check at the start, by whether they block payments",
    ["acquirer", "blocks"],
)
NOTICES = Counter(
    "turnpike_notices",
    "Requests of a webhook by outcome: received, repeated, ignored, forged, malformed, …",
    ["acquirer", "outcome"],
)
READS = Counter(
    "turnpike_payment_reads",
    "Payments read back by lane and outcome: booked, pending, canceled, foreign, unknown, …",
    ["acquirer", "lane", "outcome"],
)
INVOICE_JOBS = Gauge(
    "turnpike_invoice_jobs",
    "Invoices by what is done about them: open, watch",
    ["acquirer", "step"],
)
NOTICES_LEFT = Gauge(
    "turnpike_notices_left", "Notices that are not done: waiting, parked", ["acquirer", "state"]
)
FISCAL_RECEIPTS_LEFT = Gauge(
    "turnpike_fiscal_receipts_left",
    "Receipts for the tax office that are not registered: waiting, failed",
    ["acquirer", "state"],
)
RECONCILED_AGE = Gauge(
    "turnpike_reconciled_age_seconds",
    "Time since the last finished reconciliation of a provider",
    ["acquirer"],
)
REFUND_CALLS = Counter(
    "turnpike_refund_calls",
    "Asked refunds by outcome: settled, refused, pending, unknown, pending_review, unavailable",
    ["acquirer", "outcome"],
)
OUTGOING_REFUNDS = Gauge(
    "turnpike_outgoing_refunds",
    "Refunds of operators that have not ended: held, calling, pending, pending_review",
    ["acquirer", "state"],
)
DIFFERENCES = Counter(
    "turnpike_reconciliation_differences",
    "Differences between a provider's listing and the ledger, by kind",
    ["acquirer", "kind"],
)
