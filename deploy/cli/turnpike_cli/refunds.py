"""`turnpike refund` and `turnpike refunds …`: money that an operator returns."""

import json
from collections.abc import Sequence
from typing import Any, get_args
from uuid import UUID

import click

from shared.contracts.message import MAX_CHARGE_CHARACTERS, Refused
from shared.contracts.payments import PaymentQuery, ReceiptRecord
from shared.contracts.payments_refunds import (
    OutgoingRefund,
    OutgoingRefunds,
    OutgoingState,
    RefundPayment,
    RefundsQuery,
    ResolveRefund,
)
from shared.messaging.rpc import Bus
from turnpike_cli.acting import Ending, act, acting, acting_options
from turnpike_cli.amounts import minor_units
from turnpike_cli.formatting import moment, money, printable, table, wrapped
from turnpike_cli.options import json_option
from turnpike_cli.parked import ReceiptName
from turnpike_cli.querying import QUERY_TIMEOUT_S, CannotActError, run
from turnpike_cli.services import Named

MAX_LISTED = 1_000

REFUSALS: dict[str, Ending] = {
    "returned_already": "all of it was returned; see turnpike why.",
    "under_way": "another refund of it has not ended; see turnpike refunds list.",
    "only_whole": "Stars and parked money are returned whole only: leave --amount out.",
    "unsupported": lambda sentence: sentence,
    "no_account": lambda sentence: sentence,
}
RESOLVE_REFUSALS: dict[str, Ending] = {
    "refund_unknown": "no such refund; see turnpike refunds list.",
    "not_in_review": lambda state: (
        f"it is {state}: only a refund in pending_review can be ended by hand."
    ),
    "reference_missing": "name the provider's own id of the refund with --reference.",
}


class ChargeName(Named):
    """A charge, as `turnpike why` takes it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        named = super().convert(value, param, ctx)
        if len(named) > MAX_CHARGE_CHARACTERS:
            self.fail(f"it has at most {MAX_CHARGE_CHARACTERS} characters.", param, ctx)
        return named


@click.command("refund", epilog='Example: turnpike refund 2c85bd64 --amount 50 --reason "a chat"')
@click.argument("charge", type=ChargeName(), metavar="CHARGE")
@click.option(
    "--amount",
    metavar="AMOUNT",
    help="Return only this amount. Without it, all that is left is returned.",
)
@acting_options
@json_option
def refund_command(
    *, charge: str, amount: str | None, operator: str, reason: str, as_json: bool
) -> None:
    """Return the money of a payment by the way that it came.

    CHARGE is an id that `turnpike why` knows: a charge, an order or a receipt. AMOUNT is in the
    currency of the payment: 50, or 50.00 with kopecks. The money is held at once, and the provider
    is asked then. Access and orders change when the money has left.
    """
    run(lambda bus: refund(bus, charge, amount, operator, reason, as_json=as_json))


async def refund(
    bus: Bus, charge: str, amount: str | None, operator: str, reason: str, *, as_json: bool
) -> int:
    """Returns the status of the command."""
    by = await acting(bus, operator, reason)
    receipt = await receipt_of(bus, charge)
    amount_minor = None if amount is None else amount_of(amount, receipt.currency)
    command = RefundPayment(
        **by.fields(),
        receipt=receipt.receipt,
        person=receipt.payer,
        currency=receipt.currency,
        amount_minor=amount_minor,
    )

    def more(left: str) -> str:
        return f"only {money(int(left), receipt.currency)} are left of this payment."

    refusals: dict[str, Ending] = {**REFUSALS, "more_than_left": more}
    return await act(bus, command, sentence_of, refusals, as_json=as_json)


def names_of(receipt: ReceiptRecord) -> tuple[str, ...]:
    """A card in Telegram has two: its acquirer's, and Telegram's."""
    told = receipt.telegram_charge
    telegram = (told, f"telegram_card:{told}") if told else ()
    return (receipt.charge, f"{receipt.acquirer}:{receipt.charge}", *telegram)


async def receipt_of(bus: Bus, named: str) -> ReceiptRecord:
    """The one receipt that is meant. Raises CannotActError for none, and for several."""
    answer = await bus.query(PaymentQuery(named=named), timeout_s=QUERY_TIMEOUT_S)
    receipts = () if isinstance(answer, Refused) else answer.receipts
    exact = [one for one in receipts if named in names_of(one)]
    found = exact or [one for one in receipts if str(one.receipt) == named] or list(receipts)
    if not found:
        raise CannotActError(f"payments knows no payment {named}.")
    if len(found) > 1:
        charges = ", ".join(printable(one.charge) for one in found)
        raise CannotActError(f"Several payments came for {named}: name one charge of {charges}.")
    return found[0]


def amount_of(text: str, currency: str) -> int:
    """Raises CannotActError for a text of another form."""
    amount_minor = minor_units(text, currency)
    if amount_minor is None:
        raise CannotActError(f"{text!r} is not an amount in {currency}: write 50, or 50.00.")
    return amount_minor


def sentence_of(answer: OutgoingRefund) -> str:
    amount = money(answer.amount_minor, answer.currency)
    held = money(answer.held_minor, "RUB")
    return (
        f"{amount} of {printable(answer.charge)} are being returned; {held} of the wallet are held "
        f"meanwhile. turnpike refunds list shows refund {answer.refund}."
    )


@click.group("refunds", epilog="Example: turnpike refunds list")
def refunds_command() -> None:
    """List refunds of operators, and end unclear ones.

    REFUND is an id from `refunds list`, or its first eight characters. Only a refund in
    pending_review can be ended by hand, since nobody knows its outcome: look it up at the provider
    first.
    """


@refunds_command.command("list", epilog="Example: turnpike refunds list --state pending_review")
@click.option(
    "--state",
    type=click.Choice(get_args(OutgoingState)),
    metavar="STATE",
    help="Show only refunds that are held, calling, pending, pending_review, settled or released.",
)
@json_option
def list_command(*, state: OutgoingState | None, as_json: bool) -> None:
    """List the refunds that operators asked for, the newest first."""
    run(lambda bus: print_refunds(bus, state, as_json=as_json))


async def print_refunds(bus: Bus, state: OutgoingState | None, *, as_json: bool) -> int:
    """Returns the status of the command."""
    listed, more = await refunds_of(bus, state)
    if as_json:
        found = {"refunds": [one.model_dump(mode="json") for one in listed], "more": more}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    click.echo("\n".join(refund_lines(listed)))
    if more:
        click.echo(f"There are more: only the newest {len(listed)} are shown.")
    return 0


async def refunds_of(bus: Bus, state: OutgoingState | None) -> tuple[list[OutgoingRefund], bool]:
    """The newest, at most `MAX_LISTED` of them, and whether there are more."""
    listed: list[OutgoingRefund] = []
    page = OutgoingRefunds(refunds=(), more=True)
    while page.more and len(listed) < MAX_LISTED:
        query = RefundsQuery(state=state, before=listed[-1].refund if listed else None)
        answer = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        assert isinstance(answer, OutgoingRefunds), answer
        page = answer
        listed += page.refunds
    return listed, page.more


async def refund_named(bus: Bus, named: UUID | str) -> UUID:
    """Raises CannotActError for a beginning that no refund has, or several."""
    if isinstance(named, UUID):
        return named
    listed, _ = await refunds_of(bus, None)
    found = [one.refund for one in listed if str(one.refund).startswith(named)]
    if len(found) != 1:
        why = f"{len(found) or 'No'} refunds begin"
        raise CannotActError(f"{why} with {named}; see turnpike refunds list.")
    return found[0]


def refund_lines(listed: Sequence[OutgoingRefund]) -> list[str]:
    if not listed:
        return ["No refund was asked for."]
    rows = [
        (
            str(one.refund),
            moment(one.requested_at)[:19],
            money(one.amount_minor, one.currency),
            one.state,
        )
        for one in listed
    ]
    first, *rest = table(("REFUND", "ASKED (UTC)", "AMOUNT", "STATE"), rows)
    lines = [first]
    for row, one in zip(rest, listed, strict=True):
        lines += [row, *wrapped("    ", printable(f"{one.acquirer}:{one.charge}"))]
        if one.reason:
            lines += wrapped("    ", printable(one.reason))
    return lines


refund_argument = click.argument("refund", type=ReceiptName(), metavar="REFUND")


@refunds_command.command(
    "settle",
    epilog='Example: turnpike refunds settle 5b3f0d52 --reason "it is there"',
)
@refund_argument
@click.option(
    "--reference",
    type=ChargeName(),
    metavar="ID",
    help="Name the provider's own id of the refund; Stars have none.",
)
@acting_options
@json_option
def settle_command(
    *, refund: UUID | str, reference: str | None, operator: str, reason: str, as_json: bool
) -> None:
    """Book a refund that the provider shows as made."""
    run(lambda bus: resolve(bus, refund, "settled", reference, operator, reason, as_json=as_json))


@refunds_command.command(
    "release",
    epilog='Example: turnpike refunds release 5b3f0d52 --reason "it is not"',
)
@refund_argument
@acting_options
@json_option
def release_command(*, refund: UUID | str, operator: str, reason: str, as_json: bool) -> None:
    """Give the held money back to the wallet: the refund was not made."""
    run(lambda bus: resolve(bus, refund, "released", None, operator, reason, as_json=as_json))


async def resolve(
    bus: Bus,
    named: UUID | str,
    outcome: str,
    reference: str | None,
    operator: str,
    reason: str,
    *,
    as_json: bool,
) -> int:
    """Returns the status of the command."""
    by = (await acting(bus, operator, reason)).fields()
    wanted = by | {
        "refund": await refund_named(bus, named),
        "outcome": outcome,
        "reference": reference,
    }
    command = ResolveRefund.model_validate(wanted)
    return await act(bus, command, resolved_sentence, RESOLVE_REFUSALS, as_json=as_json)


def resolved_sentence(answer: OutgoingRefund) -> str:
    amount = money(answer.amount_minor, answer.currency)
    return f"{amount} of {printable(answer.charge)}: the refund is {answer.state}."
