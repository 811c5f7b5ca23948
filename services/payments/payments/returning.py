"""The ends of refunds that operators asked for: the one path of such money out of the ledger."""

from uuid import UUID

from payments.domain import ledger
from payments.domain.outgoing import Outgoing
from payments.domain.refunds import Refund
from payments.store import accounts, outgoing, refunds
from payments.subscribers import book_refunds
from shared.platform.db import Tx


async def settle(id_: UUID, reference: str, tx: Tx) -> None:
    """The money left, under this reference of its acquirer: booked as any refund, once.

    The booking ends the refund under way. Where its listing or a report was booked before, only
    the hold is left to end. A late answer is booked, too, even if its row has ended.
    """
    row = await outgoing.found(id_, tx)
    assert row is not None, "a refund is kept for a year after its end"
    refund = Refund(
        row["acquirer"],
        row["charge"],
        reference,
        row["person"],
        row["currency"],
        row["amount_minor"],
        await tx.now(),
        row["trace"],
    )
    fresh = await refunds.claim_refunds([refund], tx)
    if await lock(row["receipt"], id_, tx) is not None:
        await outgoing.set_reference(id_, reference, tx)
    await book_refunds(fresh, tx)
    left = await lock(row["receipt"], id_, tx)
    if left is not None:
        await return_hold(left, tx)
        await outgoing.end([(id_, "settled", refund.id, reference, None)], tx)


async def release(id_: UUID, reason: str, tx: Tx) -> None:
    """The money did not leave: the hold goes back to the wallet. A repeat changes nothing."""
    row = await outgoing.found(id_, tx)
    assert row is not None, "a refund is kept for a year after its end"
    under_way = await lock(row["receipt"], id_, tx)
    if under_way is not None:
        await return_hold(under_way, tx)
        await outgoing.end([(id_, "released", None, None, reason)], tx)


async def lock(receipt: UUID, id_: UUID, tx: Tx) -> Outgoing | None:
    """This refund, locked in the order of every refund. None: it has ended."""
    await outgoing.lock_return(receipt, tx)
    under_way = (await outgoing.lock_open_of([receipt], tx)).get(receipt)
    return under_way if under_way is not None and under_way.id == id_ else None


async def return_hold(under_way: Outgoing, tx: Tx) -> None:
    """A debt of the person is settled by it first, as by any money."""
    if under_way.person is None or not under_way.held_minor:
        return
    holdings = (await accounts.lock_holdings([under_way.person], tx))[under_way.person]
    amount = under_way.acquirer, under_way.held_minor
    transfers = [ledger.hold_returned(holdings, under_way.cause, *amount)]
    settled = ledger.owed_settled(holdings.after(transfers[0]), under_way.cause)
    if settled is not None:
        transfers.append(settled)
    await accounts.write_transfers(transfers, tx)
