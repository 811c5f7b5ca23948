"""Where a payment is stuck, why, and what an operator can do about it."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.contracts.operations import EventRecords, PublishedEvent
from shared.contracts.owners import SERVICE_NAMES
from shared.contracts.streams import Subscription
from turnpike_cli.formatting import first_line, moment, money
from turnpike_cli.payment_history import PaymentHistory, record_of, subscriptions_to

ON_ITS_WAY_S = 5.0
"""A younger event may still be on its way, by its owner's clock."""

REPLAY = "fix the cause, then run turnpike dead-letters replay"


@dataclass(frozen=True)
class Problem:
    """A step that is not done. A `transient` one may be done in a moment, without an operator."""

    where: str
    """The name of the service."""
    why: str
    remedy: str
    transient: bool = False

    def __str__(self) -> str:
        state = "on its way" if self.transient else "stuck"
        return f"{state} at {self.where}: {self.why}; fix: {self.remedy}"


def problems(history: PaymentHistory) -> list[Problem]:
    """Every step that is not done, in the order in which a payment passes them."""
    return [
        *_reports(history),
        *_suspense(history),
        *_events(history),
        *_access(history),
        *_messages(history),
        *_unresponsive(history),
    ]


def _reports(history: PaymentHistory) -> Iterator[Problem]:
    for report in history.reports.reports if history.reports else ():
        for update in report.updates:
            reason = update.reason
            if update.state == "waiting":
                since = f"the report has been waiting since {moment(update.received_at)}"
                yield Problem(
                    "bot-gateway",
                    since + _after(update.tries, reason),
                    "read the log of bot-gateway (it retries by itself)",
                    not update.tries,
                )
            elif update.state == "failed" and report.event is None:
                why = f"the report in update {update.seq} cannot be read ({first_line(reason)})"
                yield Problem("bot-gateway", why, "look up the payment in Telegram")


def _suspense(history: PaymentHistory) -> Iterator[Problem]:
    for receipt in history.receipts:
        if receipt.outcome == "suspense":
            amount = money(receipt.amount_minor, receipt.currency)
            why = f"{amount} is held in suspense ({receipt.because})"
            remedy = f"find out who paid it, then run turnpike parked to-wallet {receipt.receipt}"
            yield Problem("payments", why, f"{remedy} PERSON")


def _events(history: PaymentHistory) -> Iterator[Problem]:
    for event in history.published:
        owner = event.topic.split(".")[0]
        young = event.age_s < ON_ITS_WAY_S
        if event.pending:
            why = f"{event.topic} has been pending since {moment(event.recorded_at)}"
            yield Problem(
                SERVICE_NAMES[owner],
                why,
                "check that NATS is running and has free disk space",
                young,
            )
        for subscription in subscriptions_to(event.topic):
            records = history.events.get(subscription.service)
            if records is not None:
                yield from _handling(records, event, subscription, young=young or event.pending)


def _handling(
    records: EventRecords, event: PublishedEvent, subscription: Subscription, *, young: bool
) -> Iterator[Problem]:
    where, handler = SERVICE_NAMES[subscription.service], subscription.handler
    dead_letter = record_of(records.dead_lettered, event.event, handler)
    failing = record_of(records.failing, event.event, handler)
    if dead_letter is not None and dead_letter.replayed_at is None:
        why = f"{handler} dead-lettered {event.topic} ({first_line(dead_letter.reason)})"
        yield Problem(where, why, f"{REPLAY} {where} {dead_letter.dead_letter}")
    elif failing is not None:
        why = f"{handler} is failing on {event.topic}" + _after(failing.tries, failing.reason)
        yield Problem(where, why, "fix the cause (the handler retries by itself)")
    elif record_of(records.handled, event.event, handler) is None:
        why = f"{handler} has not handled {event.topic}"
        remedy = (
            "run this again in a moment"
            if young
            else f"check that {where} is running and its consumer exists"
        )
        yield Problem(where, why, remedy, young)


def _access(history: PaymentHistory) -> Iterator[Problem]:
    grant = history.grant
    if grant is None:
        return
    where = SERVICE_NAMES["vpn"]
    for job in grant.jobs:
        if job.state == "dead":
            error = first_line(job.error)
            times = "once" if job.tries == 1 else f"{job.tries} times"
            why = f"node {job.node} refused the access job {times} ({error})"
            yield Problem(where, why, f"{REPLAY} {where} {grant.person}")
        elif job.state == "waiting":
            why = f"the access job for node {job.node} is waiting" + _after(job.tries, job.error)
            remedy = f"check that node {job.node} answers (the job is retried by itself)"
            yield Problem(where, why, remedy, grant.age_s < ON_ITS_WAY_S and not job.error)
    ungranted = grant.announced_at is None and not grant.withdrawn
    if ungranted and not grant.jobs and grant.state == "live":
        yield Problem(where, "no node serves the group of the plan", "add a node to the group")


def _messages(history: PaymentHistory) -> Iterator[Problem]:
    for one in history.deliveries.deliveries if history.deliveries else ():
        if one.state in ("waiting", "claimed"):
            next_try_at = moment(one.not_before)
            why = f"the message {one.kind} is not sent yet (next try at {next_try_at})"
            yield Problem(
                "notifier",
                why + _after(one.tries, one.reason),
                "check that Telegram answers (the message is retried by itself)",
                not one.reason,
            )
        elif one.state in ("failed", "unknown"):
            why = f"the message {one.kind} was not delivered ({first_line(one.reason)})"
            yield Problem("notifier", why, "write to the person")


def _unresponsive(history: PaymentHistory) -> Iterator[Problem]:
    for owner in history.unresponsive:
        yield Problem(
            SERVICE_NAMES[owner],
            "it does not answer",
            f"check that {SERVICE_NAMES[owner]} is running",
        )


def _after(tries: int, reason: str | None) -> str:
    if not tries:
        return f" ({first_line(reason)})" if reason else ""
    counted = f"{tries} {'try' if tries == 1 else 'tries'}"
    return f", after {counted} ({first_line(reason) or 'no reason is known'})"
