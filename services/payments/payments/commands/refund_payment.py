"""An operator returns money: it is held in the act, and a worker asks its acquirer then."""

from collections.abc import Callable, Mapping
from uuid import UUID

from payments.domain import ledger
from payments.domain.ledger import Holdings
from payments.domain.outgoing import Outgoing, may_return
from payments.domain.provider import Returning, Unsupported
from payments.returning import release, settle
from payments.store import accounts, orders, outgoing, resolutions
from shared.contracts.message import Refused
from shared.contracts.money import converted
from shared.contracts.payments_refunds import OutgoingRefund, RefundPayment, ResolveRefund
from shared.messaging.idempotency import Changed
from shared.platform import telemetry
from shared.platform.db import Row, Tx

RELEASED_BY_OPERATOR = "an operator looked: the money did not leave"
NO_ACCOUNT = Unsupported(
    "the shop has no keys of this provider any more: return it in its cabinet, or credit the "
    "wallet (turnpike balance add)."
)

WaysOut = Mapping[str, Returning | Unsupported]
"""By acquirer."""


async def refund_payment(
    command: RefundPayment, tx: Tx, *, ways_out: WaysOut, ring: Callable[[], None]
) -> Changed | Refused:
    """The hold and the row in one transaction. Two operators at once: the second is refused."""
    receipt = await outgoing.receipt(command.receipt, tx)
    way_out = way_out_of(command, receipt, ways_out)
    if isinstance(way_out, Refused):
        return way_out
    returned_minor = await outgoing.lock_return(command.receipt, tx)
    await resolutions.lock_receipt(command.receipt, tx)
    # Read again under the locks: an operator may have resolved it, or another returns it.
    receipt = await outgoing.receipt(command.receipt, tx)
    assert receipt is not None, "receipts are never deleted"
    if await outgoing.is_under_way(command.receipt, tx):
        return Refused(reason="under_way")
    amount_minor = amount_of(command, receipt, returned_minor, way_out)
    if isinstance(amount_minor, Refused):
        return amount_minor
    holdings, held_minor = await hold_of(receipt, returned_minor, amount_minor, tx)
    under_way = Outgoing(
        command.id,
        command.receipt,
        receipt["acquirer"],
        holdings.person if holdings else None,
        amount_minor,
        held_minor,
        None,
        asked=False,
    )
    if holdings is not None and held_minor:
        amount = under_way.acquirer, held_minor
        transfer = ledger.hold(holdings, under_way.cause, *amount)
        await accounts.write_transfers([transfer], tx)
    named = receipt["charge"], command.currency, command.actor
    row = await outgoing.insert(under_way, *named, telemetry.current_trace(), tx)
    tx.after_commit(ring)
    return changed(holdings, row)


def way_out_of(
    command: RefundPayment, receipt: Row | None, ways_out: WaysOut
) -> Returning | Refused:
    if receipt is None:
        return Refused(reason="receipt_unknown")
    if command.person is not None and command.person != receipt["payer"]:
        return Refused(reason="not_yours")
    if command.currency != receipt["currency"]:
        return Refused(reason="wrong_currency", detail=receipt["currency"])
    way_out = ways_out.get(receipt["acquirer"])
    if way_out is None:
        return Refused(reason="no_account", detail=NO_ACCOUNT.sentence)
    if isinstance(way_out, Unsupported):
        return Refused(reason="unsupported", detail=way_out.sentence)
    return way_out


def amount_of(
    command: RefundPayment, receipt: Row, returned_minor: int, way_out: Returning
) -> int | Refused:
    """Parked money goes back whole: the rest of it could not be resolved any more."""
    paid_minor = receipt["amount_minor"]
    left_minor, is_parked = paid_minor - returned_minor, receipt["value_minor"] is None
    in_parts = way_out.in_parts and not is_parked
    amount = may_return(command.amount_minor, left_minor, paid_minor, in_parts=in_parts)
    if isinstance(amount, int):
        return amount
    detail = str(left_minor) if amount == "more_than_left" else None
    return Refused(reason=amount, detail=detail)


async def hold_of(
    receipt: Row, returned_minor: int, amount_minor: int, tx: Tx
) -> tuple[Holdings | None, int]:
    """The payer's holdings, locked, and the part of the value that the wallet has free.

    Money that an open order has received is not held: the order may be paid meanwhile, and is
    undone.
    """
    if receipt["payer"] is None or receipt["value_minor"] is None:
        return None, 0
    person: UUID = receipt["payer"]
    balances = await accounts.lock_balances([person], tx)
    parts = await orders.received_parts([person], tx)
    holdings = accounts.holdings_from(balances, parts)[person]
    ratio = receipt["value_minor"], receipt["amount_minor"]
    value_minor = converted(returned_minor + amount_minor, *ratio)
    value_minor -= converted(returned_minor, *ratio)
    return holdings, min(value_minor, holdings.free_minor)


def changed(holdings: Holdings | None, row: Row) -> Changed:
    wallet_minor = holdings.wallet_minor if holdings else 0
    after_minor = wallet_minor - row["held_minor"]
    return Changed(
        refund_from(row),
        {"currency": "RUB", "state": None, "wallet_minor": wallet_minor},
        {"currency": "RUB", "state": row["state"], "wallet_minor": after_minor},
    )


def refund_from(row: Row) -> OutgoingRefund:
    names = OutgoingRefund.model_fields.keys() - {"refund"}
    return OutgoingRefund(refund=row["id"], **{name: row[name] for name in names})


async def resolve_refund(command: ResolveRefund, tx: Tx) -> Changed | Refused:
    """An operator looked at the acquirer. Only a refund that waits for that is ended so."""
    row = await outgoing.found(command.refund, tx)
    if row is None:
        return Refused(reason="refund_unknown")
    await outgoing.lock_return(row["receipt"], tx)
    before = await outgoing.found(command.refund, tx)
    assert before is not None, "only refunds that ended are dropped"
    if before["state"] != "pending_review":
        return Refused(reason="not_in_review", detail=before["state"])
    if command.outcome == "released":
        await release(command.refund, RELEASED_BY_OPERATOR, tx)
    else:
        reference = reference_of(command, before)
        if reference is None:
            return Refused(reason="reference_missing")
        await settle(command.refund, reference, tx)
    after = await outgoing.found(command.refund, tx)
    assert after is not None, "it has just ended"
    return Changed(refund_from(after), {"state": before["state"]}, {"state": after["state"]})


def reference_of(command: ResolveRefund, row: Row) -> str | None:
    """Telegram has no ids of refunds: a charge is returned once."""
    if row["acquirer"] == "telegram_stars":
        return str(row["charge"])
    return command.reference or row["reference"]
