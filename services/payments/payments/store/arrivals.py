"""The SQL of what arrived of a receipt, where its provider told it after the booking."""

from collections.abc import Sequence

from payments.domain.arrivals import Arrival, LateArrival
from payments.domain.provider import Sum
from shared.platform.db import Row, Tx, columns

KNOWN = """
select r.charge, r.id as receipt, r.currency, r.amount_minor,
  coalesce(l.arrived_currency, r.arrived_currency) as arrived_currency,
  coalesce(l.arrived_minor, r.arrived_minor) as arrived_minor,
  coalesce(l.fee_minor, r.fee_minor) as fee_minor,
  b.outcome <> 'suspense' and not exists (select from refunds f where f.receipt = r.id) as is_plain
from receipts r
join bookings b on b.receipt = r.id
left join late_arrivals l on l.receipt = r.id
where r.acquirer = $1 and r.charge = any($2::text[])
"""


async def known(acquirer: str, charges: Sequence[str], tx: Tx) -> dict[str, Arrival]:
    """The ledger's records of these charges. An unknown one is absent."""
    rows = await tx.fetch(KNOWN, acquirer, list(charges))
    return {row["charge"]: arrival_from(row) for row in rows}


def arrival_from(row: Row) -> Arrival:
    arrived = Sum(currency, row["arrived_minor"]) if (currency := row["arrived_currency"]) else None
    return Arrival(
        row["receipt"],
        Sum(row["currency"], row["amount_minor"]),
        arrived,
        row["fee_minor"],
        row["is_plain"],
    )


# The lock of refunds and resolutions: each of the three sees what the others did.
LOCK_RECEIPTS = """
select pg_advisory_xact_lock(hashtext(current_schema()), hashtext(l.receipt::text))
from (select unnest($1::uuid[]) as receipt order by 1) l
"""


async def lock(late: Sequence[LateArrival], tx: Tx) -> None:
    """Until the commit. Before any account is locked."""
    await tx.fetch(LOCK_RECEIPTS, [one.receipt for one in late])


CLAIM = """
insert into late_arrivals (receipt, arrived_currency, arrived_minor, fee_minor)
select *
from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[])
  as l (receipt, arrived_currency, arrived_minor, fee_minor)
order by receipt
on conflict do nothing
returning receipt
"""


async def claim(late: Sequence[LateArrival], tx: Tx) -> list[LateArrival]:
    """Keep what was told; those that nobody told before."""
    rows = [(one.receipt, *one.arrived, one.fee_minor) for one in late]
    claimed = {row["receipt"] for row in await tx.fetch(CLAIM, *columns(rows, 4))}
    return [one for one in late if one.receipt in claimed]
