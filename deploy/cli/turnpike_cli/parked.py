"""`turnpike parked …`: money in suspense, and where an operator lets it go."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import click

from shared.contracts.message import Refused
from shared.contracts.payload import read_payload
from shared.contracts.payments import PaymentQuery
from shared.contracts.payments_acts import (
    ParkedQuery,
    ParkedReceipt,
    ParkedReceipts,
    Resolved,
    ResolveParked,
)
from shared.messaging.rpc import Bus
from turnpike_cli.acting import act, acting, acting_options
from turnpike_cli.amounts import RUBLES, digits_of
from turnpike_cli.formatting import moment, money, printable, table
from turnpike_cli.options import json_option
from turnpike_cli.people import person_argument, person_named
from turnpike_cli.querying import QUERY_TIMEOUT_S, CannotActError, run

MAX_LISTED = 1_000

REFUSALS = {
    "receipt_unknown": "no such receipt was parked; see turnpike parked list.",
    "returned": "its money was returned; see turnpike why.",
    "resolved_already": "somebody resolved this receipt already; see turnpike acts.",
    "not_yours": "the order or the receipt belongs to another person.",
    "no_rate": "its currency has no rate; name one with --rate.",
    "worth_too_much": "it would be worth a hundred billion rubles at that rate.",
}

BEGINNING = re.compile(r"[0-9a-f-]{8,36}", re.ASCII)


class ReceiptName(click.ParamType[UUID | str]):
    """The id of a receipt, or the beginning of it."""

    name = "receipt"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> UUID | str:
        named = str(value).strip().lower()
        with suppress(ValueError):
            return UUID(named)
        if not BEGINNING.fullmatch(named):
            self.fail(f"{named!r} is not an id from parked list.", param, ctx)
        return named


receipt_argument = click.argument("receipt", type=ReceiptName(), metavar="RECEIPT")
rate_option = click.option(
    "--rate",
    "rate_minor",
    type=RUBLES,
    metavar="AMOUNT",
    help="Value a unit of its currency at so many rubles; without the option by the shop's rates.",
)


@click.group("parked", epilog="Example: turnpike parked list")
def parked_command() -> None:
    """List parked money, and give it to a person or to an order.

    A receipt is parked when its payer or its value is unknown. RECEIPT is an id from `parked list`,
    or its first eight characters.
    """


@parked_command.command("list", epilog="Example: turnpike parked list --json")
@json_option
def list_command(*, as_json: bool) -> None:
    """List the receipts that wait, the oldest first."""
    run(lambda bus: print_parked(bus, as_json=as_json))


async def print_parked(bus: Bus, *, as_json: bool) -> int:
    """Returns the status of the command."""
    listed, more = await parked_receipts(bus)
    if as_json:
        answer = {"parked": [one.model_dump(mode="json") for one in listed], "more": more}
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(parked_lines(listed)))
        if more:
            click.echo(f"There are more: only the oldest {len(listed)} are shown.")
    return 0


async def parked_receipts(bus: Bus) -> tuple[list[ParkedReceipt], bool]:
    """At most `MAX_LISTED` of them, and whether there are more."""
    listed: list[ParkedReceipt] = []
    page = ParkedReceipts(receipts=(), more=True)
    while page.more and len(listed) < MAX_LISTED:
        query = ParkedQuery(after=listed[-1].receipt if listed else None)
        answer = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        assert isinstance(answer, ParkedReceipts), answer
        page = answer
        listed += page.receipts
    return listed, page.more


def parked_lines(listed: Sequence[ParkedReceipt]) -> list[str]:
    if not listed:
        return ["No money is parked."]
    rows = [
        (
            str(one.receipt),
            moment(one.paid_at)[:19],
            money(one.amount_minor, one.currency),
            one.because,
        )
        for one in listed
    ]
    first, *rest = table(("RECEIPT", "PAID (UTC)", "AMOUNT", "WHY"), rows)
    lines = [first]
    for row, one in zip(rest, listed, strict=True):
        charge = printable(f"{one.acquirer}:{one.charge}")
        lines += [row, f"    {charge}, parked {moment(one.parked_at)[:19]}"]
    return lines


async def receipt_named(bus: Bus, named: UUID | str) -> ParkedReceipt | None:
    """None for an id that does not wait: payments says why. Raises CannotActError."""
    listed, _ = await parked_receipts(bus)
    if isinstance(named, UUID):
        return next((one for one in listed if one.receipt == named), None)
    found = [one for one in listed if str(one.receipt).startswith(named)]
    if len(found) != 1:
        which = "No parked receipt" if not found else "More than one parked receipt"
        raise CannotActError(f"{which} begins with {named}.")
    return found[0]


@parked_command.command(
    "to-wallet",
    epilog='Example: turnpike parked to-wallet 0aab3d5e 777000 --reason "a screenshot"',
)
@receipt_argument
@person_argument
@rate_option
@acting_options
@json_option
def to_wallet_command(
    *,
    receipt: UUID | str,
    person: int | UUID,
    rate_minor: int | None,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Give a parked receipt to the wallet of a person.

    PERSON is a Telegram id, or the id of a person.
    """

    async def resolved(bus: Bus) -> int:
        by = (await acting(bus, operator, reason)).fields()
        fields = by | {"person": await person_named(bus, person)}
        found = await receipt_named(bus, receipt)
        return await resolve(bus, receipt, found, fields, rate_minor, as_json=as_json)

    run(resolved)


@parked_command.command(
    "to-order", epilog='Example: turnpike parked to-order 0aab3d5e --reason "a chat"'
)
@receipt_argument
@click.argument("order", type=click.UUID, required=False, metavar="[ORDER]")
@rate_option
@acting_options
@json_option
def to_order_command(
    *,
    receipt: UUID | str,
    order: UUID | None,
    rate_minor: int | None,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Give a parked receipt to an order, which buys if it is enough.

    Without ORDER it is the order that was named with the money.
    """

    async def resolved(bus: Bus) -> int:
        by = (await acting(bus, operator, reason)).fields()
        found = await receipt_named(bus, receipt)
        wanted = order or order_in(found)
        fields = by | {"order": wanted, "person": await person_of(bus, wanted)}
        return await resolve(bus, receipt, found, fields, rate_minor, as_json=as_json)

    run(resolved)


def order_in(parked: ParkedReceipt | None) -> UUID:
    """The order that the payload names. Raises CannotActError without one."""
    payload = read_payload(parked.payload) if parked else None
    if payload is None:
        raise CannotActError("No order was named with this money: name the ORDER.")
    return payload.order


async def person_of(bus: Bus, order: UUID) -> UUID:
    """The person of the order. Raises CannotActError for an unknown one."""
    answer = await bus.query(PaymentQuery(named=str(order)), timeout_s=QUERY_TIMEOUT_S)
    if isinstance(answer, Refused) or answer.order is None or answer.order.order != order:
        raise CannotActError(f"payments knows no order {order}.")
    return answer.order.person


async def resolve(
    bus: Bus,
    named: UUID | str,
    parked: ParkedReceipt | None,
    fields: dict[str, Any],
    rate_minor: int | None,
    *,
    as_json: bool,
) -> int:
    """Returns the status of the command."""
    wanted = fields | {"receipt": parked.receipt if parked else named}
    if rate_minor is not None:
        digits = digits_of(parked.currency if parked else "RUB")
        wanted |= {"kopecks": rate_minor, "per_minor": 10**digits}
    command = ResolveParked.model_validate(wanted)
    return await act(bus, command, sentence_of, REFUSALS, as_json=as_json)


def sentence_of(answer: Resolved) -> str:
    value = money(answer.value_minor, "RUB")
    if answer.outcome == "bought":
        return f"{value} bought order {answer.order} of person {answer.person}."
    lacks = f", and the order lacks {money(answer.missing_minor, 'RUB')}"
    rest = lacks if answer.missing_minor else ""
    return f"{value} are in the wallet of person {answer.person} ({answer.because}){rest}."
