"""The story of one payment as lines on a screen: what each owner says of it, then where it is stuck."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from shared.inspection import FactsSeen, FactTold, Report, TransferSeen
from turnpike_cli.account import Account, listeners_of, stuck, verdict
from turnpike_cli.asking import SERVICES
from turnpike_cli.writing import first_line, moment, money, plain, wrapped

Line = tuple[datetime | None, str]


def lines(account: Account, *, entries: bool = False) -> list[str]:
    """At most 100 letters wide, and 40 lines high where all went well; `entries` are those of each transfer."""
    written = [f"Payment {plain(account.named)}"]
    if account.trace:
        written.append(f"trace {account.trace}")
    sections = (
        ("bot", of_bot(account)),
        ("payments", of_payments(account, entries=entries)),
        ("referrals", of_referrals(account)),
        ("vpn", of_vpn(account)),
        ("notifier", of_notifier(account)),
    )
    for owner, said in sections:
        written.append(SERVICES[owner])
        written += _section(said if owner not in account.silent else [(None, "does not answer")])
    written += ["facts", *_section(of_facts(account))]
    found = stuck(account)
    if len(found) > 1:
        written += ["", "what is not done"]
        written += [line for one in found for line in wrapped("  ", plain(str(one)))]
    return [*written, "", *wrapped("", plain(verdict(account)))]


def _section(said: Sequence[Line] | Iterator[Line]) -> list[str]:
    return [line for at, text in said for line in wrapped(f"  {moment(at):<23}  ", plain(text))]


def of_bot(account: Account) -> Iterator[Line]:
    reports = account.reports.reports if account.reports else ()
    for report in reports:
        yield from _of_report(report)
    if not reports:
        yield None, "knows of no report (what was told is kept for 30 days)"


def _of_report(report: Report) -> Iterator[Line]:
    for update in report.updates:
        ended = f", {update.state}{f' ({update.reason})' if update.reason else ''}"
        again = f" after {update.tries} tries" if update.tries else ""
        yield update.received_at, f"update {update.seq} received{ended}{again}"
    if report.fact is not None:
        amount = money(report.amount_minor or 0, report.currency or "")
        yield report.told_at, f"reported {amount}, charge {report.charge}, payer {report.payer or 'unknown'}"


def of_payments(account: Account, *, entries: bool) -> Iterator[Line]:
    payment = account.payment
    if payment is None:
        yield None, "has not booked it"
        return
    if order := payment.order:
        what = f"{order.plan} for {order.months} {'month' if order.months == 1 else 'months'}"
        price = money(order.price_minor, "RUB")
        yield order.placed_at, f"order {order.order} of person {order.person}: {what}, {price}, {order.state}"
    for invoice in payment.invoices:
        ended = "expired" if invoice.expired and invoice.state == "open" else invoice.state
        asked = money(invoice.asked_minor, invoice.currency)
        yield invoice.opened_at, f"invoice {invoice.invoice}: {asked} by {invoice.way}, {ended}"
    for receipt in payment.receipts:
        amount, value = money(receipt.amount_minor, receipt.currency), money(receipt.value_minor or 0, "RUB")
        worth = "" if receipt.value_minor is None else f", worth {value}"
        became = f"{receipt.outcome}, {receipt.because}"
        yield receipt.received_at, f"receipt {receipt.receipt}: {amount} by {receipt.acquirer}{worth}: {became}"
    for transfer in payment.transfers:
        yield transfer.at, f"transfer {transfer.transfer}: {transfer.reason}"
        if entries:
            yield from ((None, f"  {entry}") for entry in _entries(transfer))


def _entries(transfer: TransferSeen) -> Iterator[str]:
    for entry in transfer.entries:
        owner = f" of {entry.owner}" if entry.owner else ""
        yield f"{money(entry.amount_minor, entry.currency):>14}  {entry.account}{owner}"


def of_referrals(account: Account) -> Iterator[Line]:
    rewards = account.rewards
    if rewards is None:
        yield None, "was not asked: no money came from a known person"
        return
    if rewards.waits_since is not None:
        yield rewards.waits_since, "waits for the payer's start"
    elif not rewards.rewards:
        yield None, "has decided nothing about it"
    for reward in rewards.rewards:
        if reward.outcome == "rewarded":
            share = f"{reward.percent} % of {money(reward.value_minor, 'RUB')} at {reward.paying} paying"
            yield reward.decided_at, f"reward {money(reward.reward_minor, 'RUB')}, {share}, to {reward.partner}"
        else:
            why = f" (refused: {rewards.refused})" if rewards.refused else ""
            yield reward.decided_at, f"no reward: {reward.outcome}{why}"


def of_vpn(account: Account) -> Iterator[Line]:
    grant = account.grant
    if grant is None:
        yield None, "has given nothing for it" if account.bought else "was not asked: nothing was bought"
        return
    granted = "granted" if grant.told_at else "not granted yet"
    yield grant.heard_at, f"access row, {granted}; the subscription is {grant.state} until {moment(grant.ends_at)[:16]}"
    for job in grant.jobs:
        wish = "let in" if job.present else "shut out"
        error = f": {first_line(job.error)}" if job.error else ""
        at = job.agreed_at if job.state == "agreed" else job.run_at
        yield at, f"node {job.node}, {wish}: {job.state}, {job.tries} failed tries{error}"


def of_notifier(account: Account) -> Iterator[Line]:
    deliveries = account.deliveries.deliveries if account.deliveries else ()
    for one in deliveries:
        why = f" ({one.reason})" if one.reason else ""
        yield one.settled_at or one.written_at, f"{one.kind} to {one.person}: {one.state}{why}"
    if not deliveries:
        yield None, "has written nothing of it"


def of_facts(account: Account) -> Iterator[Line]:
    """Each with the handlers that are done with it; the others below, a line each."""
    for fact in account.told:
        listening = {one.handler: account.facts.get(one.service) for one in listeners_of(fact.topic)}
        done = [handler for handler, seen in listening.items() if seen is not None and _is_done(fact, handler, seen)]
        by = f", done by {', '.join(done)}" if done else ""
        yield fact.told_at, f"{fact.topic} {fact.fact}{', not told yet' if fact.waits else ''}{by}"
        for handler, seen in listening.items():
            if handler not in done:
                yield _undone(fact, handler, seen)


def _is_done(fact: FactTold, handler: str, seen: FactsSeen) -> bool:
    """Without a letter ever."""
    heard = any((one.fact, one.handler, one.outcome) == (fact.fact, handler, "done") for one in seen.heard)
    return heard and not any((one.fact, one.handler) == (fact.fact, handler) for one in seen.buried)


def _undone(fact: FactTold, handler: str, seen: FactsSeen | None) -> Line:
    if seen is None:
        return None, f"  {handler} does not answer"
    mine: UUID = fact.fact
    letter = next((one for one in seen.buried if (one.fact, one.handler) == (mine, handler)), None)
    for one in seen.heard:
        if (one.fact, one.handler) == (mine, handler):
            buried = f" (letter {letter.letter})" if letter else ""
            return one.heard_at, f"  {handler}: {one.outcome}{buried}"
    for failing in seen.failing:
        if (failing.fact, failing.handler) == (mine, handler):
            return None, f"  {handler}: failed {failing.tries} times, {first_line(failing.reason)}"
    return None, f"  {handler}: not heard"
