"""The SQL of accounts, transfers and entries: the ledger.

Every transaction takes its locks in one order: receipts or rewards, accounts that it opens,
accounts that exist, orders; each by id. Two batches may wait for each other, but never in a
circle. A lone payment pays for every round trip, so known values are not queried again, and each
kind of row is written by one statement.
"""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from payments.domain import ledger
from payments.domain.ledger import Holdings, Transfer
from payments.store import debts, orders
from shared.platform.db import Tx, columns


async def lock_holdings(people: Sequence[UUID], tx: Tx) -> dict[UUID, Holdings]:
    """The holdings of these people, locked, with the reserved parts of those who owe."""
    balances = await lock_balances(people, tx)
    owing = [person for person, held in balances.items() if held["owed"]]
    parts = await orders.received_parts(owing, tx) if owing else []
    return holdings_from(balances, parts)


Balances = dict[UUID, dict[str, int]]
"""By person and kind of account, in kopecks."""

OPEN_ACCOUNTS = """
insert into accounts (id, owner, kind, currency, balance_minor)
select id, owner, kind, currency, case when owner is not null then 0 end
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as a (id, owner, kind, currency)
order by id
on conflict do nothing
returning id
"""

LOCK_BALANCES = """
select owner, kind, balance_minor
from accounts
where id = any($1::uuid[])
order by id
for update
"""


async def lock_balances(people: Sequence[UUID], tx: Tx) -> Balances:
    """The balances of these people's accounts, locked.

    Missing accounts are opened first: a missing row cannot be locked, and two transactions would
    both find none. An account that was opened here is empty and needs no further lock: another
    transaction that opens it waits for this commit.
    """
    accounts = {person: Holdings(person).accounts for person in people}
    every = [account for three in accounts.values() for account in three]
    opened = {row["id"] for row in await tx.fetch(OPEN_ACCOUNTS, *account_columns(every))}
    balances: Balances = {
        person: {account.kind: 0 for account in three if account.id in opened}
        for person, three in accounts.items()
    }
    if known := [account.id for account in every if account.id not in opened]:
        for row in await tx.fetch(LOCK_BALANCES, known):
            balances[row["owner"]][row["kind"]] = row["balance_minor"]
    return balances


def holdings_from(
    balances: Balances, parts: Iterable[tuple[UUID, UUID, int]]
) -> dict[UUID, Holdings]:
    """Holdings from balances, and from received parts of open orders: person, order, kopecks."""
    reserved: dict[UUID, list[tuple[UUID, int]]] = {person: [] for person in balances}
    for person, order, received_minor in parts:
        if person in reserved:  # A payload may name an order of a person who pays nothing here.
            reserved[person].append((order, received_minor))
    return {
        person: Holdings(
            person, held["wallet"], held["earned"], -held["owed"], tuple(reserved[person])
        )
        for person, held in balances.items()
    }


# The trigger checks the entries at the end of the statement, so it sees the transfers and accounts
# that were inserted beside them. A transfer that was booked before violates a unique index.
WRITE_TRANSFERS = """
with opened as (
  insert into accounts (id, owner, kind, currency)
  select *
  from unnest($11::uuid[], $12::uuid[], $13::text[], $14::text[]) as a (id, owner, kind, currency)
  order by id
  on conflict do nothing
), made as (
  insert into transfers (id, cause, reason, person)
  select * from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
), moved as (
  update accounts a
  set balance_minor = a.balance_minor + c.amount_minor
  from unnest($9::uuid[], $10::bigint[]) as c (id, amount_minor)
  where a.id = c.id
)
insert into entries (transfer, account, amount_minor, currency)
select * from unnest($5::uuid[], $6::uuid[], $7::bigint[], $8::text[])
"""


async def write_transfers(
    transfers: Sequence[Transfer], tx: Tx, *, claimed: Collection[UUID] = ()
) -> None:
    """Insert transfers with their entries, and move the balances.

    `claimed` names transfers whose row exists already. Accounts of people were opened when they
    were locked; the shop's accounts are opened here. A debt that is paid is marked. Raises
    UniqueViolationError for a cause that was booked before.
    """
    if not transfers:
        return
    unclaimed = [(t.id, t.cause, t.reason, t.person) for t in transfers if t.id not in claimed]
    entries = [
        (t.id, e.account.id, e.amount_minor, e.account.currency)
        for t in transfers
        for e in t.entries
    ]
    balances = [
        (account.id, amount_minor)
        for account, amount_minor in ledger.changes(transfers)
        if amount_minor
    ]
    of_the_shop = {
        e.account for transfer in transfers for e in transfer.entries if e.account.owner is None
    }
    await tx.execute(
        WRITE_TRANSFERS,
        *columns(unclaimed, 4),
        *columns(entries, 4),
        *columns(balances, 2),
        *account_columns(of_the_shop),
    )
    settling = {t.person for t in transfers if t.reason == "owed_settled" and t.person}
    if settling:
        await debts.settle(sorted(settling), tx)


def account_columns(accounts: Iterable[ledger.Account]) -> list[list[object]]:
    return columns(
        [(account.id, account.owner, account.kind, account.currency) for account in accounts], 4
    )
