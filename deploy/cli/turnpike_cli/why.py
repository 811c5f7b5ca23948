"""`turnpike why PAYMENT`: queries every service about one payment, and reports where it is now."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import click

from shared.contracts.bot import PersonQuery, ReportsQuery
from shared.contracts.message import Query, Refused, Value
from shared.contracts.notifier import DeliveriesQuery
from shared.contracts.operations import EventRecords, EventsQuery
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.contracts.payments import PaymentLine, PaymentQuery, PaymentsQuery
from shared.contracts.referrals import RewardsQuery
from shared.contracts.vpn import GrantQuery
from shared.messaging.rpc import Bus, UnansweredError
from turnpike_cli.formatting import moment, money, table
from turnpike_cli.options import json_option
from turnpike_cli.payment_history import PaymentHistory, event_ids
from turnpike_cli.problems import problems
from turnpike_cli.querying import QUERY_TIMEOUT_S, REFUSED_STATUS, gathered, no_answer, run
from turnpike_cli.rendering import history_lines
from turnpike_cli.services import NAMED
from turnpike_cli.verdict import verdict

MAX_CHARACTERS = 300
MAX_EVENTS = 500

Answer = TypeVar("Answer", bound=Value)


@click.command("why", epilog="Example: turnpike why stxOmUUNcJXbWZKrPbcxEAs")
@click.argument("payment", type=NAMED, metavar="PAYMENT")
@click.option("--entries", is_flag=True, help="Print the entries of each transfer, too.")
@json_option
def why_command(*, payment: str, entries: bool, as_json: bool) -> None:
    """Show what every service recorded about one payment.

    PAYMENT is a charge id, the payload of an invoice, or the id of an order, an invoice or a
    receipt. With the Telegram id of a person, the payments of that person are listed. The last
    line is the outcome in one sentence, or where the payment is stuck and what to do. Times are
    those of the databases, in UTC.
    """
    run(lambda bus: Lookup(bus, entries=entries, as_json=as_json).print(payment))


class Lookup:
    """One run of the command. An owner that did not answer once is not queried again."""

    def __init__(self, bus: Bus, *, entries: bool, as_json: bool) -> None:
        self.bus = bus
        self.entries = entries
        self.as_json = as_json
        self.unresponsive: list[str] = []

    async def print(self, named: str) -> int:
        """Returns the status of the command."""
        history = await self.history(named[:MAX_CHARACTERS])
        if history is None and named.lstrip("-").isdecimal():
            return await self.print_person(int(named))
        if history is None:
            return self.print_unknown(named)
        if self.as_json:
            click.echo(json.dumps(as_dict(history), indent=2, ensure_ascii=False))
        else:
            click.echo("\n".join(history_lines(history, entries=self.entries)))
        return REFUSED_STATUS if history.unresponsive else 0

    def print_unknown(self, named: str) -> int:
        if self.unresponsive:
            others = f"The other services do not know a payment {named}."
            click.echo(f"{no_answer(self.unresponsive)} {others}", err=True)
            return REFUSED_STATUS
        click.echo(f"No service knows a payment {named}.", err=True)
        return 1

    async def history(self, named: str) -> PaymentHistory | None:
        """The records of all owners. Each is queried by the ids that earlier answers named.

        None for a payment that no owner knows.
        """
        payment = await self.query("payments", PaymentQuery(named=named))
        order = payment.order.order if payment and payment.order else _order_in(named)
        charges = (
            [receipt.telegram_charge or receipt.charge for receipt in payment.receipts]
            if payment
            else [charge for charge in (named, named.partition(":")[2]) if charge]
        )
        reports = await self.query("bot", ReportsQuery(charges=tuple(charges[:100]), order=order))
        if payment is None and not (reports and reports.reports):
            return None
        history = PaymentHistory(named, payment=payment, reports=reports)
        history = await self.with_effects(history)
        history = replace(history, events=await self.event_records(event_ids(history)))
        return replace(history, unresponsive=tuple(self.unresponsive))

    async def with_effects(self, history: PaymentHistory) -> PaymentHistory:
        """Adds the reward, the access and the messages that the payment led to."""
        receipts = [receipt for receipt in history.receipts if receipt.payer is not None]
        if receipts and receipts[0].payer:
            ids = tuple(receipt.receipt for receipt in receipts)
            query = RewardsQuery(receipts=ids, payer=receipts[0].payer)
            history = replace(history, rewards=await self.query("referrals", query))
        order = history.order
        if order is not None and history.bought is not None:
            history = replace(history, grant=await self.query("vpn", GrantQuery(order=order.order)))
        people = {receipt.payer for receipt in receipts if receipt.payer}
        people |= {
            one.partner
            for one in (history.rewards.rewards if history.rewards else ())
            if one.partner
        }
        causes = [str(receipt.receipt) for receipt in receipts]
        causes += [str(refund.refund) for refund in history.refunds]
        causes += [str(order.order)] if order else []
        if people and causes:
            wanted = DeliveriesQuery(people=tuple(sorted(people))[:100], causes=tuple(causes[:200]))
            history = replace(history, deliveries=await self.query("notifier", wanted))
        return history

    async def event_records(self, events: Sequence[UUID]) -> dict[str, EventRecords]:
        """What each owner published and handled of these events, queried concurrently."""
        wanted = tuple(events[:MAX_EVENTS])
        owners = [owner for owner in OWNERS if owner not in self.unresponsive]
        answers, unresponsive = await gathered(
            {owner: self.records_of(owner, wanted) for owner in owners}
        )
        self.unresponsive += unresponsive
        return answers

    async def records_of(self, owner: str, events: tuple[UUID, ...]) -> EventRecords:
        query = EventsQuery.of(owner)(events=events)
        answer = await self.bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        assert isinstance(answer, EventRecords), answer
        return answer

    async def query(self, owner: str, query: Query[Answer]) -> Answer | None:
        """The answer. None where the owner refuses or does not answer."""
        if owner in self.unresponsive:
            return None
        try:
            answer = await self.bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        except UnansweredError:
            self.unresponsive.append(owner)
            return None
        return None if isinstance(answer, Refused) else answer

    async def print_person(self, telegram_id: int) -> int:
        person = (
            await self.query("bot", PersonQuery(telegram_id=telegram_id))
            if abs(telegram_id) < 2**63
            else None
        )
        answer = (
            await self.query("payments", PaymentsQuery(person=person.person)) if person else None
        )
        if person is None or answer is None or not answer.payments:
            return self.print_unknown(str(telegram_id))
        if len(answer.payments) == 1:
            return await self.print(str(answer.payments[0].named))
        if self.as_json:
            found = {
                "person": str(person.person),
                "payments": [one.model_dump(mode="json") for one in answer.payments],
            }
            click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            click.echo(
                f"Payments of person {person.person}, the newest first (see `turnpike why ID`):"
            )
            click.echo("\n".join(payment_lines(answer.payments)))
        return 0


def payment_lines(payments: Sequence[PaymentLine]) -> list[str]:
    rows = [
        (
            str(one.named),
            moment(one.at)[:19],
            money(one.amount_minor, one.currency),
            f"{one.what}, {one.state}",
        )
        for one in payments
    ]
    return table(("ID", "WHEN (UTC)", "AMOUNT", "WHAT"), rows)


def _order_in(named: str) -> UUID | None:
    """The order that a payload begins with, or that `named` is.

    bot-gateway may know an order that payments does not.
    """
    try:
        return UUID(named.partition(".")[0])
    except ValueError:
        return None


def as_dict(history: PaymentHistory) -> dict[str, Any]:
    parts: dict[str, Value | None] = {"payment": history.payment, "reports": history.reports}
    parts |= {"rewards": history.rewards, "grant": history.grant, "deliveries": history.deliveries}
    return {
        "named": history.named,
        "trace": history.trace_id,
        **{name: part.model_dump(mode="json") if part else None for name, part in parts.items()},
        "events": {
            SERVICE_NAMES[owner]: records.model_dump(mode="json")
            for owner, records in history.events.items()
        },
        "unresponsive": [SERVICE_NAMES[owner] for owner in history.unresponsive],
        "problems": [
            {"where": one.where, "why": one.why, "remedy": one.remedy, "transient": one.transient}
            for one in problems(history)
        ],
        "verdict": verdict(history),
    }
