"""The SQL of receipts: a charge is claimed once, however often it is reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from payments.domain.confirmation import Receipt
from shared.contracts.message import digest_of
from shared.messaging import conflicts
from shared.messaging.conflicts import Conflict
from shared.platform.db import Tx, columns

CLAIM_RECEIPTS = """
insert into receipts (
  id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at, arrived_currency,
  arrived_minor, fee_minor
)
select *
from unnest(
  $1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::bigint[], $7::text[],
  $8::bigint[], $9::timestamptz[], $10::text[], $11::bigint[], $12::bigint[]
) as r (
  id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at, arrived_currency,
  arrived_minor, fee_minor
)
order by id
on conflict do nothing
returning id,
  exists (select from refunds f where f.receipt = receipts.id and f.state = 'waiting') as refunded
"""

# Before the receipts, and in their order among each other: two reports lock in one order.
CLAIM_CARDS = """
insert into card_charges (charge, receipt)
select charge, receipt
from unnest($1::text[], $2::uuid[]) as c (charge, receipt)
order by charge
on conflict do nothing
"""

CARDS = "select charge, receipt from card_charges where charge = any($1::text[])"

# A separate statement: only a later one sees the row of a transaction that the claim waited for.
# The columns and not `digest`: in older rows it covers more than the sum.
KNOWN = "select id, currency, amount_minor from receipts where id = any($1::uuid[])"


@dataclass(frozen=True)
class Claim:
    """The receipts that were not booked before, and how many of the others were plain repeats.

    `refunded` names the fresh ones whose refund came first.
    """

    fresh: list[Receipt]
    repeats: int
    refunded: list[UUID]


async def claim_receipts(receipts: Sequence[Receipt], tx: Tx) -> Claim:
    """Insert receipts. The first of each charge counts, by the time of payment, then as given.

    The same charge with another currency or amount is recorded as a conflict (I12). A webhook and
    a listing may tell payer and payload differently: those of the first report stand.
    """
    receipts = await claim_cards(receipts, tx)
    firsts: dict[UUID, Receipt] = {}
    for receipt in sorted(receipts, key=lambda receipt: receipt.paid_at):
        firsts.setdefault(receipt.id, receipt)
    rows = [
        (
            r.id,
            r.acquirer,
            r.charge,
            r.payer,
            r.currency,
            r.amount_minor,
            r.payload,
            digest_of_receipt(r),
            r.paid_at,
            r.arrived and r.arrived.currency,
            r.arrived and r.arrived.amount_minor,
            r.fee_minor,
        )
        for r in firsts.values()
    ]
    claimed = await tx.fetch(CLAIM_RECEIPTS, *columns(rows, 12))
    fresh = [firsts[row["id"]] for row in claimed]
    digests = {receipt.id: digest_of_receipt(receipt) for receipt in fresh}
    if known := firsts.keys() - digests:
        rows_known = await tx.fetch(KNOWN, list(known))
        digests |= {
            row["id"]: digest_of(row["currency"], row["amount_minor"]) for row in rows_known
        }
    found = [
        Conflict(receipt.id, digests[receipt.id], received)
        for receipt in receipts
        if (received := digest_of_receipt(receipt)) != digests[receipt.id]
    ]
    await conflicts.record("receipts", found, tx)
    refunded = [row["id"] for row in claimed if row["refunded"]]
    return Claim(fresh, len(receipts) - len(fresh) - len(found), refunded)


async def claim_cards(receipts: Sequence[Receipt], tx: Tx) -> list[Receipt]:
    """The receipts without those that contradict what Telegram calls a card's charge.

    One charge of Telegram is one charge of its acquirer. Another pair is a conflict (I12), and
    nothing of it is booked.
    """
    cards = {one.telegram_charge: one.id for one in reversed(receipts) if one.telegram_charge}
    if not cards:
        return list(receipts)
    await tx.execute(CLAIM_CARDS, list(cards), list(cards.values()))
    known = {row["charge"]: row["receipt"] for row in await tx.fetch(CARDS, list(cards))}
    true, found = [], []
    for one in receipts:
        if one.telegram_charge is None or known.get(one.telegram_charge) == one.id:
            true.append(one)
            continue
        charge = one.telegram_charge
        told = digest_of(charge, str(known.get(charge))), digest_of(charge, str(one.id))
        found.append(Conflict(one.id, *told))
    await conflicts.record("card_charges", found, tx)
    return true


def digest_of_receipt(receipt: Receipt) -> int:
    return digest_of(receipt.currency, receipt.amount_minor)
