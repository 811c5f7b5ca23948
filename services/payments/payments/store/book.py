"""The SQL of the book: what is locked, in one order everywhere, and what is written, once.

Locks are taken in one order, receipts or rewards, orders, accounts, each by id: two batches wait for each other, never
in a ring.
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
    standing = {row["id"]: row["digest"] for row in await tx.fetch(STANDING, list(firsts))}
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
where owner = any($1::uuid[]) and kind in ('wallet', 'earned', 'owed') and currency = 'RUB'
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


async def open_book(receipts: Sequence[Receipt], tx: Tx) -> Book:
    """Lock and read everything that these receipts touch."""
    named = [ids_in(receipt.payload) for receipt in receipts]
    payers = sorted({receipt.payer for receipt in receipts if receipt.payer})
    orders = {
        row["id"]: order_from(row)
        for row in await tx.fetch(LOCK_ORDERS, [order for order, _ in named if order], payers)
    }
    invoices = {
        row["id"]: Invoice(row["id"], row["order_id"], row["asked_minor"], row["asked_currency"])
        for row in await tx.fetch(INVOICES, [invoice for _, invoice in named if invoice])
    }
    holdings = await lock_holdings(payers, tx)
    rates = {row["currency"]: Rate(row["kopecks"], row["per_minor"]) for row in await tx.fetch(RATES)}
    return Book(await tx.now(), rates, orders, invoices, holdings)


async def lock_holdings(people: Sequence[UUID], tx: Tx) -> dict[UUID, Holdings]:
    """What the book holds for each of these people and what their open orders wait for, locked.

    The accounts are opened first: what does not exist cannot be locked, and two would both find nothing.
    """
    owned = [account for person in people for account in Holdings(person).accounts]
    await open_accounts(owned, tx)
    balances: dict[UUID, dict[str, int]] = {person: {} for person in people}
    for row in await tx.fetch(LOCK_HOLDINGS, list(people)):
        balances[row["owner"]][row["kind"]] = row["balance_minor"]
    waiting: dict[UUID, list[tuple[UUID, int]]] = {person: [] for person in people}
    for row in await tx.fetch(WAITING, list(people)):
        waiting[row["person"]].append((row["id"], row["received_minor"]))
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


# What a batch writes, each table once.

INSERT_BOOKINGS = """
insert into bookings (receipt, outcome, because, order_id, invoice, value_minor, told_as)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[], $7::uuid[])
"""

CHANGE_ORDERS = """
update orders o
set received_minor = c.received_minor,
    state = c.state,
    paid_at = case when c.state = 'paid' then now() end
from unnest($1::uuid[], $2::bigint[], $3::text[]) as c (id, received_minor, state)
where o.id = c.id
"""

CLOSE_INVOICES = """
update invoices
set state = case when id = any($2::uuid[]) then 'paid' else 'superseded' end
where order_id = any($1::uuid[]) and (state = 'open' or id = any($2::uuid[]))
"""


async def write_book(book: Book, facts: Sequence[Fact], tx: Tx) -> None:
    """Write what the fold decided: bookings with the fact that tells each, transfers, balances, orders, invoices."""
    await write_transfers(book.transfers, tx)
    bookings = [
        (b.receipt.id, b.outcome, b.because, b.order, b.invoice, b.value_minor, fact.id)
        for b, fact in zip(book.bookings, facts, strict=True)
    ]
    await tx.execute(INSERT_BOOKINGS, *columns(bookings, 7))
    changed = [book.orders[order] for order in sorted(book.changed)]
    if changed:
        rows = [(order.id, order.received_minor, order.state) for order in changed]
        await tx.execute(CHANGE_ORDERS, *columns(rows, 3))
    done = [order.id for order in changed if order.state != "open"]
    if done:
        paid = [booking.invoice for booking in book.bookings if booking.outcome == "bought" and booking.invoice]
        await tx.execute(CLOSE_INVOICES, done, paid)


OPEN_ACCOUNTS = """
insert into accounts (id, owner, kind, currency, balance_minor)
select id, owner, kind, currency, case when owner is not null then 0 end
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as a (id, owner, kind, currency)
order by id
on conflict do nothing
"""

INSERT_TRANSFERS = """
insert into transfers (id, cause, reason, person)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
"""

INSERT_ENTRIES = """
insert into entries (transfer, account, amount_minor, currency)
select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[])
"""

MOVE_BALANCES = """
update accounts a
set balance_minor = a.balance_minor + c.amount_minor
from unnest($1::uuid[], $2::bigint[]) as c (id, amount_minor)
where a.id = c.id
"""


async def write_transfers(transfers: Sequence[Transfer], tx: Tx, *, claimed: Collection[UUID] = ()) -> None:
    """Insert transfers and entries, and move the balances that they change. A cause booked before is refused.

    Those that are `claimed` have their own row already.
    """
    if not transfers:
        return
    # A person's were opened when they were locked.
    await open_accounts({e.account for transfer in transfers for e in transfer.entries if e.account.owner is None}, tx)
    unclaimed = [(t.id, t.cause, t.reason, t.person) for t in transfers if t.id not in claimed]
    if unclaimed:
        await tx.execute(INSERT_TRANSFERS, *columns(unclaimed, 4))
    entries = [(t.id, e.account.id, e.amount_minor, e.account.currency) for t in transfers for e in t.entries]
    await tx.execute(INSERT_ENTRIES, *columns(entries, 4))
    moved = [(account.id, amount_minor) for account, amount_minor in ledger.changes(transfers) if amount_minor]
    if moved:
        await tx.execute(MOVE_BALANCES, *columns(moved, 2))


async def open_accounts(accounts: Iterable[ledger.Account], tx: Tx) -> None:
    rows = [(account.id, account.owner, account.kind, account.currency) for account in accounts]
    await tx.execute(OPEN_ACCOUNTS, *columns(rows, 4))


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
