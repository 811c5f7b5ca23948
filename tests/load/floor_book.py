"""The floor's book: what payments writes for a story, in as few statements as that story allows.

A payment is two statements, a reward one. No account of a payer is locked: what comes into the wallet leaves it in the
same transaction, and its balance stays what it was.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg.pgproto import pgproto

from tests.load.twin import Batch, Json, across, derived, digest_of, told

# Who was heard before, or was paid before, is not among the answers. The order's row is locked.
CLAIM = """, claimed as (
  insert into receipts (id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
  select id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at
  from unnest(
    $2::uuid[], $5::uuid[], $6::text[], $7::text[], $8::uuid[], $9::text[], $10::bigint[], $11::text[], $12::bigint[],
    $13::timestamptz[]
  ) as r (fact_id, id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
  where fact_id in (select fact_id from heard)
  on conflict do nothing
  returning id, received_at
)
select n.fact_id, c.received_at, o.price_minor, o.plan, o.months, o.devices, o.traffic_bytes, o.node_group,
  o.list_month_minor
from unnest($2::uuid[], $5::uuid[], $14::uuid[]) as n (fact_id, receipt, order_id)
join claimed c on c.id = n.receipt
join orders o on o.id = n.order_id
for update of o
"""

BOOK = """
with sold as (
  select *
  from unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[], $8::uuid[], $9::uuid[],
    $10::uuid[], $11::bigint[], $12::bigint[], $13::uuid[], $14::text[], $15::int[], $16::text[], $17::bigint[],
    $18::text[]
  ) as s (
    receipt, order_id, invoice, payer, charged, taken, spent, wallet, earned,
    owed, price_minor, amount_minor, fact_id, topic, version, body, digest,
    trace
  )
), opened as (
  insert into accounts (id, owner, kind, currency, balance_minor)
  select a.id, payer, a.kind, 'RUB', 0
  from sold
  cross join lateral (values (wallet, 'wallet'), (earned, 'earned'), (owed, 'owed')) as a (id, kind)
  union all
  values
    ($19::uuid, null::uuid, 'clearing:telegram_stars', 'XTR', null::bigint),
    ($20::uuid, null, 'exchange', 'XTR', null),
    ($21::uuid, null, 'exchange', 'RUB', null),
    ($22::uuid, null, 'revenue', 'RUB', null)
  on conflict do nothing
), made as (
  insert into transfers (id, cause, reason, person)
  select t.id, t.cause, t.reason, payer
  from sold
  cross join lateral (
    values (taken, charged, 'receipt'), (spent, 'order:' || order_id, 'purchase')
  ) as t (id, cause, reason)
), paid as (
  update orders o
  set received_minor = s.price_minor, state = 'paid', paid_at = now()
  from sold s
  where o.id = s.order_id
), closed as (
  update invoices i
  set state = 'paid'
  from sold s
  where i.id = s.invoice
), booked as (
  insert into bookings (receipt, outcome, because, order_id, invoice, value_minor, told_as)
  select receipt, 'bought', 'paid', order_id, invoice, price_minor, fact_id from sold
), told as (
  insert into facts (id, topic, version, body, digest, trace)
  select fact_id, topic, version, body::json, digest, trace from sold
  returning seq
), waiting as (
  insert into untold (seq) select seq from told
)
insert into entries (transfer, account, amount_minor, currency)
select e.*
from sold
cross join lateral (
  values
    (taken, $19::uuid, -amount_minor, 'XTR'),
    (taken, $20::uuid, amount_minor, 'XTR'),
    (taken, $21::uuid, -price_minor, 'RUB'),
    (taken, wallet, price_minor, 'RUB'),
    (spent, wallet, -price_minor, 'RUB'),
    (spent, $22::uuid, price_minor, 'RUB')
) as e
"""

REWARD = """, told as (
  select *
  from unnest(
    $2::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::uuid[], $9::uuid[], $10::uuid[], $11::bigint[]
  ) as r (fact_id, transfer, cause, person, wallet, earned, owed, reward_minor)
  where fact_id in (select fact_id from heard)
), made as (
  insert into transfers (id, cause, reason, person)
  select transfer, cause, 'reward', person from told
  on conflict do nothing
  returning id
), fresh as (
  select told.* from told join made on made.id = told.transfer
), opened as (
  insert into accounts (id, owner, kind, currency, balance_minor)
  select a.id, person, a.kind, 'RUB', 0
  from fresh
  cross join lateral (values (wallet, 'wallet'), (owed, 'owed')) as a (id, kind)
  union all
  values ($12::uuid, null::uuid, 'rewards', 'RUB', null::bigint)
  on conflict do nothing
), moved as (
  insert into accounts (id, owner, kind, currency, balance_minor)
  select earned, person, 'earned', 'RUB', sum(reward_minor) from fresh group by earned, person
  on conflict (id) do update set balance_minor = accounts.balance_minor + excluded.balance_minor
)
insert into entries (transfer, account, amount_minor, currency)
select e.*
from fresh
cross join lateral (
  values (transfer, $12::uuid, -reward_minor, 'RUB'), (transfer, earned, reward_minor, 'RUB')
) as e
"""

TERMS = ("plan", "months", "devices", "traffic_bytes", "node_group", "list_month_minor")


def account(kind: str, owner: UUID | None = None, currency: str = "RUB") -> UUID:
    return derived(f"account|{owner}|{kind}|{currency}")


def of_person(owner: UUID) -> tuple[UUID, UUID, UUID]:
    return account("wallet", owner), account("earned", owner), account("owed", owner)


SHOPS = account("clearing:telegram_stars", None, "XTR"), account("exchange", None, "XTR"), account("exchange")
REVENUE, REWARDS = account("revenue"), account("rewards")


async def confirm(connection: Any, batch: Batch) -> None:
    receipts = [_receipt(fact) for fact in batch.facts.values()]
    orders = [pgproto.UUID(fact["payload"].split(".")[0]) for fact in batch.facts.values()]
    fresh = await batch.hear(connection, CLAIM, *across(receipts), orders)
    if fresh:
        sold = [_sold(batch.facts[row["fact_id"]], row) for row in fresh]
        await connection.execute(BOOK, *across(sold), *SHOPS, REVENUE)


def _receipt(fact: Json) -> tuple[object, ...]:
    payer, currency, amount, payload = fact["payer"], fact["currency"], fact["amount_minor"], fact["payload"]
    id_ = derived(f"receipt|{fact['acquirer']}|{fact['charge']}")
    said = digest_of(f"{payer}|{currency}|{amount}|{payload}")
    paid_at = datetime.fromisoformat(fact["paid_at"])
    return id_, fact["acquirer"], fact["charge"], pgproto.UUID(payer), currency, amount, payload, said, paid_at


def _sold(fact: Json, row: Any) -> tuple[object, ...]:
    """A row of `sold`: what was paid for, the ids of all that is written for it, and the fact that tells it."""
    order, invoice = (pgproto.UUID(part) for part in fact["payload"].split(".")[:2])
    payer, price, charged = pgproto.UUID(fact["payer"]), row["price_minor"], f"{fact['acquirer']}:{fact['charge']}"
    receipt = derived(f"receipt|{fact['acquirer']}|{fact['charge']}")
    fields = {
        "received": {
            "receipt": str(receipt),
            "acquirer": fact["acquirer"],
            "charge": fact["charge"],
            "value_minor": price,
        },
        "bought": {
            "order": str(order),
            "what": "subscription",
            "terms": {name: row[name] for name in TERMS},
            "price_minor": price,
        },
        "booked_at": row["received_at"].isoformat(),
        "wallet_minor": 0,
        "missing_minor": 0,
    }
    confirmed = told("payments.payment.confirmed", charged, fact["payer"], row["received_at"], fact["trace"], fields)
    transfers = derived(f"transfer|{charged}|receipt"), derived(f"transfer|order:{order}|purchase")
    of_order = receipt, order, invoice, payer, charged
    return *of_order, *transfers, *of_person(payer), price, fact["amount_minor"], *confirmed


async def book_rewards(connection: Any, batch: Batch) -> None:
    rewards = [_reward(fact) for fact in batch.facts.values()]
    await batch.hear(connection, REWARD, *across(rewards), REWARDS)


def _reward(fact: Json) -> tuple[object, ...]:
    partner, cause = pgproto.UUID(fact["about"]), f"reward:{fact['receipt']}"
    return derived(f"transfer|{cause}|reward"), cause, partner, *of_person(partner), fact["reward_minor"]
