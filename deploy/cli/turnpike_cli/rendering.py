"""The history of a payment as lines on a screen: the records of each service, the verdict."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from shared.contracts.bot import Report
from shared.contracts.operations import EventRecords, PublishedEvent
from shared.contracts.owners import SERVICE_NAMES
from shared.contracts.payments import TransferRecord
from turnpike_cli.formatting import first_line, moment, money, printable, wrapped
from turnpike_cli.payment_history import PaymentHistory, record_of, subscriptions_to
from turnpike_cli.problems import problems
from turnpike_cli.verdict import verdict

Line = tuple[datetime | None, str]


def history_lines(history: PaymentHistory, *, entries: bool = False) -> list[str]:
    """At most 100 columns wide, and 40 lines high where all went well.

    `entries` adds the entries of each transfer.
    """
    written = [f"Payment {printable(history.named)}"]
    if history.trace_id:
        written.append(f"trace {history.trace_id}")
    sections = (
        ("bot", _bot(history)),
        ("payments", _payments(history, entries=entries)),
        ("referrals", _referrals(history)),
        ("vpn", _vpn(history)),
        ("notifier", _notifier(history)),
    )
    for owner, lines in sections:
        written.append(SERVICE_NAMES[owner])
        answered = owner not in history.unresponsive
        written += _section(lines if answered else [(None, "does not answer")])
    written += ["events", *_section(_events(history))]
    found = problems(history)
    if len(found) > 1:
        written += ["", "steps that are not done"]
        written += [line for one in found for line in wrapped("  ", printable(str(one)))]
    return [*written, "", *wrapped("", printable(verdict(history)))]


def _section(lines: Sequence[Line] | Iterator[Line]) -> list[str]:
    return [
        line for at, text in lines for line in wrapped(f"  {moment(at):<23}  ", printable(text))
    ]


def _bot(history: PaymentHistory) -> Iterator[Line]:
    reports = history.reports.reports if history.reports else ()
    for report in reports:
        yield from _report(report)
    if not reports:
        yield None, "has no report (published events are kept for 30 days)"


def _report(report: Report) -> Iterator[Line]:
    for update in report.updates:
        ended = f", {update.state}{f' ({update.reason})' if update.reason else ''}"
        again = f" after {update.tries} tries" if update.tries else ""
        yield update.received_at, f"update {update.seq} received{ended}{again}"
    if report.event is not None:
        amount = money(report.amount_minor or 0, report.currency or "")
        payer = report.payer or "unknown"
        yield report.recorded_at, f"reported {amount}, charge {report.charge}, payer {payer}"


def _payments(history: PaymentHistory, *, entries: bool) -> Iterator[Line]:
    payment = history.payment
    if payment is None:
        yield None, "has not booked it"
        return
    if order := payment.order:
        plan = f"{order.plan} for {order.months} {'month' if order.months == 1 else 'months'}"
        price = money(order.price_minor, "RUB")
        text = f"order {order.order} of person {order.person}: {plan}, {price}, {order.state}"
        yield order.placed_at, text
    for invoice in payment.invoices:
        ended = "expired" if invoice.expired and invoice.state == "open" else invoice.state
        asked = money(invoice.asked_minor, invoice.currency)
        yield invoice.opened_at, f"invoice {invoice.invoice}: {asked} by {invoice.way}, {ended}"
    for receipt in payment.receipts:
        amount = money(receipt.amount_minor, receipt.currency)
        value = money(receipt.value_minor or 0, "RUB")
        worth = "" if receipt.value_minor is None else f", worth {value}"
        became = f"{receipt.outcome}, {receipt.because}"
        text = f"receipt {receipt.receipt}: {amount} by {receipt.acquirer}{worth}: {became}"
        yield receipt.received_at, text
    for refund in payment.refunds:
        amount = money(refund.amount_minor, refund.currency)
        worth = "" if refund.value_minor is None else f", worth {money(refund.value_minor, 'RUB')}"
        owed = f", {money(refund.owed_minor, 'RUB')} owed" if refund.owed_minor else ""
        text = f"refund {refund.refund}: {amount}{worth}: {refund.state}{owed}"
        yield refund.refunded_at, text
    for transfer in payment.transfers:
        yield transfer.at, f"transfer {transfer.transfer}: {transfer.reason}"
        if entries:
            yield from ((None, f"  {entry}") for entry in _entries(transfer))


def _entries(transfer: TransferRecord) -> Iterator[str]:
    for entry in transfer.entries:
        owner = f" of {entry.owner}" if entry.owner else ""
        yield f"{money(entry.amount_minor, entry.currency):>14}  {entry.account}{owner}"


def _referrals(history: PaymentHistory) -> Iterator[Line]:
    rewards = history.rewards
    if rewards is None:
        yield None, "was not asked: no known person paid"
        return
    if rewards.waits_since is not None:
        yield rewards.waits_since, "waits for the payer's /start"
    elif not rewards.rewards:
        yield None, "has made no decision about it"
    for reward in rewards.rewards:
        if reward.outcome == "rewarded":
            value = money(reward.value_minor, "RUB")
            share = f"{reward.percent} % of {value} at {reward.paying} paying"
            earned = money(reward.reward_minor, "RUB")
            back = f", {money(reward.reversed_minor, 'RUB')} taken back"
            text = f"reward {earned}, {share}, to {reward.partner}"
            yield reward.decided_at, text + (back if reward.reversed_minor else "")
        else:
            why = f" (refused: {rewards.refused})" if rewards.refused else ""
            yield reward.decided_at, f"no reward: {reward.outcome}{why}"


def _vpn(history: PaymentHistory) -> Iterator[Line]:
    grant = history.grant
    if grant is None:
        asked = history.bought is not None
        yield None, "has granted nothing for it" if asked else "was not asked: nothing was bought"
        return
    granted = "granted" if grant.announced_at else "not granted yet"
    granted = "refunded before it was granted" if grant.withdrawn else granted
    subscription = f"the subscription is {grant.state} until {moment(grant.ends_at)[:16]}"
    yield grant.handled_at, f"access row, {granted}; {subscription}"
    for job in grant.jobs:
        change = "add" if job.present else "remove"
        error = f": {first_line(job.error)}" if job.error else ""
        at = job.agreed_at if job.state == "agreed" else job.run_at
        yield at, f"node {job.node}, {change}: {job.state}, {job.tries} failed tries{error}"


def _notifier(history: PaymentHistory) -> Iterator[Line]:
    deliveries = history.deliveries.deliveries if history.deliveries else ()
    for one in deliveries:
        why = f" ({one.reason})" if one.reason else ""
        yield one.settled_at or one.written_at, f"{one.kind} to {one.person}: {one.state}{why}"
    if not deliveries:
        yield None, "has no message about it"


def _events(history: PaymentHistory) -> Iterator[Line]:
    """Each event with the handlers that are done with it. Other handlers follow, one a line."""
    for event in history.published:
        handlers = {
            one.handler: history.events.get(one.service) for one in subscriptions_to(event.topic)
        }
        done = [
            handler
            for handler, records in handlers.items()
            if records is not None and _is_done(event, handler, records)
        ]
        pending = ", pending" if event.pending else ""
        by = f", done by {', '.join(done)}" if done else ""
        yield event.recorded_at, f"{event.topic} {event.event}{pending}{by}"
        for handler, records in handlers.items():
            if handler not in done:
                yield _not_done(event, handler, records)


def _is_done(event: PublishedEvent, handler: str, records: EventRecords) -> bool:
    """Done, and never dead-lettered."""
    handled = record_of(records.handled, event.event, handler)
    dead_letter = record_of(records.dead_lettered, event.event, handler)
    return handled is not None and handled.outcome == "done" and dead_letter is None


def _not_done(event: PublishedEvent, handler: str, records: EventRecords | None) -> Line:
    if records is None:
        return None, f"  {handler} does not answer"
    if handled := record_of(records.handled, event.event, handler):
        dead_letter = record_of(records.dead_lettered, event.event, handler)
        number = f" (dead letter {dead_letter.dead_letter})" if dead_letter else ""
        return handled.handled_at, f"  {handler}: {handled.outcome.replace('_', '-')}{number}"
    if failing := record_of(records.failing, event.event, handler):
        return None, f"  {handler}: failed {failing.tries} times, {first_line(failing.reason)}"
    return None, f"  {handler}: not handled"
