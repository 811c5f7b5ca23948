"""The SQL of the book: what is locked, in one order everywhere, and what is written, once.

Locks are taken in one order, receipts or rewards, accounts that are opened, accounts that were there, orders, each by
id: two batches wait for each other, never in a ring. Round trips are the price of a lone payment, so what is known is
not asked and each kind of row is written by one statement.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from payments import ledger
from payments.confirmation import Book, Invoice, Order, Rate, Receipt, ids_in
from payments.ledger import Holdings, Transfer
from shared import contradictions
from shared.contract import Fact, digest_of
from shared.contradictions import Contradiction
from shared.db import Row, Tx, columns
from shared.facts import RewardEarned, Terms

# Receipts: once per charge, whoever reports it.

CLAIM_RECEIPTS = """
insert into receipts (id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
select *
from unnest(
  $1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::bigint[], $7::text[], $8::bigint[],
  $9::timestamptz[]
) as r (id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
order by id
on conflict do nothing
returning id
"""

# A statement of its own: only a later one sees the row of a transaction that the claim waited for.
STANDING = "select id, digest from receipts where id = any($1::uuid[])"


@dataclass(frozen=True)
class Claim:
    """What nobody booked before, and how many only repeat what stands."""

    fresh: list[Receipt]
    repeats: int


async def claim_receipts(receipts: Sequence[Receipt], tx: Tx) -> Claim:
    """Of each charge the first counts, by when it was paid, then as given; other fields are a contradiction (I12)."""
    firsts: dict[UUID, Receipt] = {}
    for receipt in sorted(receipts, key=lambda receipt: receipt.paid_at):
        firsts.setdefault(receipt.id, receipt)
    rows = [
        (r.id, r.acquirer, r.charge, r.payer, r.currency, r.amount_minor, r.payload, said_by(r), r.paid_at)
        for r in firsts.values()
    ]
    fresh = [firsts[row["id"]] for row in await tx.fetch(CLAIM_RECEIPTS, *columns(rows, 9))]
    standing = {receipt.id: said_by(receipt) for receipt in fresh}
    if known := firsts.keys() - standing:
        standing |= {row["id"]: row["digest"] for row in await tx.fetch(STANDING, list(known))}
    differing = [receipt for receipt in receipts if said_by(receipt) != standing[receipt.id]]
    met = (Contradiction(receipt.id, standing[receipt.id], said_by(receipt)) for receipt in differing)
    await contradictions.note("receipts", met, tx)
    return Claim(fresh, len(receipts) - len(fresh) - len(differing))


def said_by(receipt: Receipt) -> int:
    """The digest of who paid what; when it was paid may be told differently by a listing."""
    return digest_of(receipt.payer, receipt.currency, receipt.amount_minor, receipt.payload)


# The locked state that a batch folds over.

LOCK_ORDERS = """
select *
from orders
where id in (
  select unnest($1::uuid[])
  union
  select id from orders where person = any($2::uuid[]) and state = 'open'
)
order by id
for update
"""

INVOICES = "select id, order_id, asked_minor, asked_currency from invoices where id = any($1::uuid[])"

LOCK_HOLDINGS = """
select owner, kind, balance_minor
from accounts
where id = any($1::uuid[])
order by id
for update
"""

# Under the accounts' locks nobody adds to a part: whoever books a receipt holds its payer's wallet.
WAITING = """
select person, id, received_minor
from orders
where person = any($1::uuid[]) and state = 'open' and received_minor > 0
order by id
"""

RATES = """
select distinct on (currency) currency, kopecks, per_minor
from rates
where from_at <= now()
order by currency, from_at desc
"""


async def open_book(fresh: Sequence[Receipt], tx: Tx) -> Book:
    """Lock and read everything that these fresh receipts touch."""
    named = [ids_in(receipt.payload) for receipt in fresh]
    payers = sorted({receipt.payer for receipt in fresh if receipt.payer})
    balances = await lock_balances(payers, tx)
    # Under the accounts' locks: an order that somebody placed and paid a part of while we waited for them is here, too.
    orders = {
        row["id"]: order_from(row)
        for row in await tx.fetch(LOCK_ORDERS, [order for order, _ in named if order], payers)
    }
    parts = [(o.person, o.id, o.received_minor) for o in orders.values() if o.state == "open" and o.received_minor]
    invoices = {
        row["id"]: Invoice(row["id"], row["order_id"], row["asked_minor"], row["asked_currency"])
        for row in await tx.fetch(INVOICES, [invoice for _, invoice in named if invoice])
    }
    rates = {row["currency"]: Rate(row["kopecks"], row["per_minor"]) for row in await tx.fetch(RATES)}
    return Book(await tx.now(), rates, orders, invoices, holdings_from(balances, parts))


async def lock_holdings(people: Sequence[UUID], tx: Tx) -> dict[UUID, Holdings]:
    """What the book holds for each of these people, locked, and what open orders of those who owe wait for."""
    balances = await lock_balances(people, tx)
    owing = [person for person, held in balances.items() if held["owed"]]
    waiting = await tx.fetch(WAITING, owing) if owing else []
    return holdings_from(balances, [(row["person"], row["id"], row["received_minor"]) for row in waiting])


Balances = dict[UUID, dict[str, int]]


async def lock_balances(people: Sequence[UUID], tx: Tx) -> Balances:
    """The balance of each of these people's accounts by kind, locked.

    The accounts are opened first: what does not exist cannot be locked, and two would both find nothing. One that was
    opened just now is empty and as good as locked: until we commit, whoever opens it too waits.
    """
    accounts = {person: Holdings(person).accounts for person in people}
    every = [account for three in accounts.values() for account in three]
    opened = {row["id"] for row in await tx.fetch(OPEN_ACCOUNTS, *account_columns(every))}
    balances: Balances = {
        person: {account.kind: 0 for account in three if account.id in opened} for person, three in accounts.items()
    }
    if known := [account.id for account in every if account.id not in opened]:
        for row in await tx.fetch(LOCK_HOLDINGS, known):
            balances[row["owner"]][row["kind"]] = row["balance_minor"]
    return balances


def holdings_from(balances: Balances, parts: Iterable[tuple[UUID, UUID, int]]) -> dict[UUID, Holdings]:
    """The holdings of people, of whom open orders have received parts: person, order, kopecks."""
    waiting: dict[UUID, list[tuple[UUID, int]]] = {person: [] for person in balances}
    for person, order, received_minor in parts:
        if person in waiting:  # Money may name an order of somebody whom it does not concern.
            waiting[person].append((order, received_minor))
    return {
        person: Holdings(person, held["wallet"], held["earned"], -held["owed"], tuple(waiting[person]))
        for person, held in balances.items()
    }


def order_from(row: Row) -> Order:
    terms = Terms(
        plan=row["plan"],
        months=row["months"],
        devices=row["devices"],
        traffic_bytes=row["traffic_bytes"],
        node_group=row["node_group"],
        list_month_minor=row["list_month_minor"],
    )
    return Order(
        row["id"],
        row["person"],
        row["price_minor"],
        row["received_minor"],
        row["state"],
        terms,
        row["placed_at"],
        row["honoured_until"],
        row["trace"],
    )


# What a batch writes.

WRITE_BOOKINGS = """
with changed as (
  update orders o
  set received_minor = c.received_minor,
      state = c.state,
      paid_at = case when c.state = 'paid' then now() end
  from unnest($8::uuid[], $9::bigint[], $10::text[]) as c (id, received_minor, state)
  where o.id = c.id
), closed as (
  update invoices
  set state = case when id = any($12::uuid[]) then 'paid' else 'superseded' end
  where order_id = any($11::uuid[]) and (state = 'open' or id = any($12::uuid[]))
)
insert into bookings (receipt, outcome, because, order_id, invoice, value_minor, told_as)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[], $7::uuid[])
"""


async def write_book(book: Book, facts: Sequence[Fact], tx: Tx) -> None:
    """Write what the fold decided: bookings with the fact that tells each, transfers, balances, orders, invoices."""
    await write_transfers(book.transfers, tx)
    bookings = [
        (b.receipt.id, b.outcome, b.because, b.order, b.invoice, b.value_minor, fact.id)
        for b, fact in zip(book.bookings, facts, strict=True)
    ]
    orders = [book.orders[order] for order in sorted(book.changed)]
    changed = [(order.id, order.received_minor, order.state) for order in orders]
    done = [order.id for order in orders if order.state != "open"]
    paid = [booking.invoice for booking in book.bookings if booking.outcome == "bought" and booking.invoice]
    await tx.execute(WRITE_BOOKINGS, *columns(bookings, 7), *columns(changed, 3), done, paid)


OPEN_ACCOUNTS = """
insert into accounts (id, owner, kind, currency, balance_minor)
select id, owner, kind, currency, case when owner is not null then 0 end
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as a (id, owner, kind, currency)
order by id
on conflict do nothing
returning id
"""

# The trigger looks at the entries when all of this is done: it finds the transfers and accounts that came with them.
# A transfer that was booked before is refused by whichever unique index meets it first.
WRITE_TRANSFERS = """
with opened as (
  insert into accounts (id, owner, kind, currency)
  select * from unnest($11::uuid[], $12::uuid[], $13::text[], $14::text[]) as a (id, owner, kind, currency)
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


async def write_transfers(transfers: Sequence[Transfer], tx: Tx, *, claimed: Collection[UUID] = ()) -> None:
    """Insert transfers and entries, and move the balances that they change. A cause booked before is refused.

    Those that are `claimed` have their own row already. People's accounts were opened when they were locked; the
    shop's own are opened here.
    """
    if not transfers:
        return
    unclaimed = [(t.id, t.cause, t.reason, t.person) for t in transfers if t.id not in claimed]
    entries = [(t.id, e.account.id, e.amount_minor, e.account.currency) for t in transfers for e in t.entries]
    balances = [(account.id, amount_minor) for account, amount_minor in ledger.changes(transfers) if amount_minor]
    shops = {e.account for transfer in transfers for e in transfer.entries if e.account.owner is None}
    await tx.execute(
        WRITE_TRANSFERS, *columns(unclaimed, 4), *columns(entries, 4), *columns(balances, 2), *account_columns(shops)
    )


def account_columns(accounts: Iterable[ledger.Account]) -> list[list[object]]:
    return columns([(account.id, account.owner, account.kind, account.currency) for account in accounts], 4)


# Rewards: once per receipt, whoever is named as its partner.

CLAIM_REWARDS = """
insert into transfers (id, cause, reason, person)
select id, cause, 'reward', person
from unnest($1::uuid[], $2::text[], $3::uuid[]) as r (id, cause, person)
order by id
on conflict do nothing
returning id
"""

# Again a statement of its own, for who waited.
BOOKED_REWARDS = """
select t.id, t.person, sum(e.amount_minor)::bigint as reward_minor
from transfers t
join entries e on e.transfer = t.id and e.amount_minor > 0
where t.id = any($1::uuid[])
group by t.id
"""


async def claim_rewards(events: Sequence[RewardEarned], tx: Tx) -> dict[UUID, RewardEarned]:
    """Take the receipts that nobody was rewarded for, by the transfer that each has now; the first of a batch counts.

    Before any account is locked: two partners named for one receipt have no lock in common. Another partner or amount
    than the booked one is a contradiction (I12).
    """
    firsts: dict[UUID, RewardEarned] = {}
    for event in events:
        firsts.setdefault(ledger.reward_id(event.receipt), event)
    rows = [(transfer, ledger.reward_cause(event.receipt), event.about) for transfer, event in firsts.items()]
    fresh = {row["id"] for row in await tx.fetch(CLAIM_REWARDS, *columns(rows, 3))}
    said = {transfer: digest_of(firsts[transfer].about, firsts[transfer].reward_minor) for transfer in fresh}
    if known := firsts.keys() - fresh:
        for row in await tx.fetch(BOOKED_REWARDS, list(known)):
            said[row["id"]] = digest_of(row["person"], row["reward_minor"])
    met = (
        Contradiction(event.id, said[ledger.reward_id(event.receipt)], digest_of(event.about, event.reward_minor))
        for event in events
    )
    await contradictions.note("rewards", (one for one in met if one.known != one.heard), tx)
    return {transfer: firsts[transfer] for transfer in fresh}
