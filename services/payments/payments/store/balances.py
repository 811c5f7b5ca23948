"""The SQL of balances: those of a person, with the last movements, and the trial balance."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.platform.db import Database, Row, Tx

BALANCES = """
select kind, balance_minor
from accounts
where owner = $1 and kind in ('wallet', 'earned', 'owed') and currency = 'RUB'
"""


async def balances_of(person: UUID, database: Database) -> dict[str, int]:
    """By kind of account, in kopecks. Empty for a person without accounts."""
    return {row["kind"]: row["balance_minor"] for row in await database.fetch(BALANCES, person)}


# By the hour: a reward is young until its whole hour is older.
YOUNG_REWARDS = """
select coalesce(sum(amount_minor), 0)::bigint
from reward_hours
where person = $1 and hour > shop_now() - $2::interval - interval '1 hour'
"""


async def young_rewards_of(person: UUID, mature_after: timedelta, database: Database) -> int:
    """The sum of the rewards that are younger than `mature_after`, in kopecks, to the hour."""
    amount_minor: int = await database.fetchval(YOUNG_REWARDS, person, mature_after)
    return amount_minor


# Each page reads one transfer more than it shows: that one says whether the next page has any.

MOVEMENTS = """
select t.id, t.at, t.cause, t.reason, m.amount_minor
from (
  select id, at, cause, reason
  from transfers
  where person = $1
  order by at desc, reason, id
  limit $2
) t
cross join lateral (
  select coalesce(sum(e.amount_minor), 0)::bigint as amount_minor
  from entries e
  join accounts a on a.id = e.account
  where e.transfer = t.id and a.owner = $1 and a.kind in ('wallet', 'earned')
) m
order by t.at desc, t.reason, t.id
"""


async def movements_of(person: UUID, most: int, database: Database) -> list[Row]:
    """The newest transfers, each with its effect on `wallet` and `earned` together."""
    return await database.fetch(MOVEMENTS, person, most)


TRANSFER_OF = "select at, reason, id from transfers where id = $2 and person = $1"


async def transfer_of(person: UUID, transfer: UUID, database: Database) -> Row | None:
    """The place of a transfer in the history of this person. None for one of somebody else."""
    return await database.fetchrow(TRANSFER_OF, person, transfer)


# Transfers of one moment are those of one transaction: a batch has at most some hundreds.

MOVEMENTS_BEFORE = """
select t.id, t.at, t.cause, t.reason, m.amount_minor
from (
  select id, at, cause, reason
  from transfers
  where person = $1 and at <= $3 and (at < $3 or (reason, id) > ($4, $5))
  order by at desc, reason, id
  limit $2
) t
cross join lateral (
  select coalesce(sum(e.amount_minor), 0)::bigint as amount_minor
  from entries e
  join accounts a on a.id = e.account
  where e.transfer = t.id and a.owner = $1 and a.kind in ('wallet', 'earned')
) m
order by t.at desc, t.reason, t.id
"""


async def movements_before(person: UUID, place: Row, most: int, database: Database) -> list[Row]:
    """Those that are older than this place."""
    return await database.fetch(MOVEMENTS_BEFORE, person, most, *place)


MOVEMENTS_AFTER = """
select t.id, t.at, t.cause, t.reason, m.amount_minor
from (
  select id, at, cause, reason
  from transfers
  where person = $1 and at >= $3 and (at > $3 or (reason, id) < ($4, $5))
  order by at, reason desc, id desc
  limit $2
) t
cross join lateral (
  select coalesce(sum(e.amount_minor), 0)::bigint as amount_minor
  from entries e
  join accounts a on a.id = e.account
  where e.transfer = t.id and a.owner = $1 and a.kind in ('wallet', 'earned')
) m
order by t.at desc, t.reason, t.id
"""


async def movements_after(person: UUID, place: Row, most: int, database: Database) -> list[Row]:
    """The next ones that are newer than this place, the newest of them first."""
    return await database.fetch(MOVEMENTS_AFTER, person, most, *place)


TOPPED_UP = """
select r.acquirer || ':' || r.charge as cause
from unnest($1::text[]) as named (cause)
join receipts r
  on r.acquirer = split_part(named.cause, ':', 1)
  and r.charge = substr(named.cause, strpos(named.cause, ':') + 1)
join bookings b on b.receipt = r.id
where b.because = 'topped_up'
"""


async def topped_up(causes: Sequence[str], database: Database) -> set[str]:
    """Those causes of receipts that paid for a top-up."""
    return {row["cause"] for row in await database.fetch(TOPPED_UP, list(causes))}


# By the person's transfers, each of which is caused by one receipt: receipts have no index by
# payer.
RECEIPTS_OF = """
select r.charge, r.paid_at, r.currency, r.amount_minor
from (
  select at, cause
  from transfers
  where person = $1 and reason = 'receipt'
  order by at desc
  limit 100
) t
join receipts r
  on r.acquirer = split_part(t.cause, ':', 1)
  and r.charge = substr(t.cause, strpos(t.cause, ':') + 1)
order by t.at desc, r.paid_at desc
limit 3
"""


async def receipts_of(person: UUID, database: Database) -> list[Row]:
    """The newest three."""
    return await database.fetch(RECEIPTS_OF, person)


# The audit of balances. A person with more transfers than the limit is folded in pages.

UNEQUAL = """
select a.id, a.owner, c.transfers = 101 as many
from unnest($1::uuid[]) as p (owner)
cross join lateral (
  select count(*) as transfers
  from (select from transfers where person = p.owner limit 101) as t
) c
join accounts a on a.owner = p.owner
where c.transfers = 101 or a.balance_minor <> (
  select coalesce(sum(e.amount_minor), 0)
  from (select id from transfers where person = p.owner limit 101) t
  join entries e on e.transfer = t.id and e.account = a.id
)
order by a.id
"""


async def unequal_balances(people: Sequence[UUID], tx: Tx, *, every_length: bool) -> list[str]:
    """The accounts of these people whose balance is not the sum of their entries.

    Without `every_length` nothing is said of people with more than a hundred transfers. The
    transaction must have one snapshot.
    """
    rows = await tx.fetch(UNEQUAL, people)
    unequal = [str(row["id"]) for row in rows if not row["many"]]
    if every_length:
        for person in sorted({row["owner"] for row in rows if row["many"]}):
            unequal += await _unequal_of(person, tx)
    return unequal


HELD = "select id, balance_minor from accounts where owner = $1"

MOVED_PAGE = """
select t.at, t.id, e.account, e.amount_minor
from (
  select at, id
  from transfers
  where person = $1 and (at, id) > ($2, $3)
  order by at, id
  limit 1000
) t
left join entries e on e.transfer = t.id
order by t.at, t.id
"""


async def _unequal_of(person: UUID, tx: Tx) -> list[str]:
    left = {row["id"]: row["balance_minor"] for row in await tx.fetch(HELD, person)}
    after: tuple[datetime, UUID] = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
    while page := await tx.fetch(MOVED_PAGE, person, *after):
        for row in page:
            if row["account"] in left:
                left[row["account"]] -= row["amount_minor"]
        after = (page[-1]["at"], page[-1]["id"])
    return [str(account) for account, rest in left.items() if rest]


# The trial balance: sums of what is closed, and the entries since then.

# The transfers since the closing are those of some minutes. `offset 0` makes PostgreSQL look up the
# entries of each: it cannot know how few there are.
TRIAL_BALANCE = """
select kind, currency, sum(amount_minor) as amount_minor
from (
  select kind, currency, amount_minor from closed_sums
  union all
  select a.kind, e.currency, e.amount_minor
  from ledger_closing c
  join transfers t on (t.at, t.id) > (c.closed_at, c.closed_id)
  cross join lateral (select * from entries where transfer = t.id offset 0) e
  join accounts a on a.id = e.account
) as sums
group by kind, currency
order by kind, currency
"""


async def trial_balance(database: Database) -> list[Row]:
    """One row per kind of account and currency."""
    return await database.fetch(TRIAL_BALANCE)
