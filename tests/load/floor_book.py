"""The floor's ledger: the writes of payments, in as few statements as one purchase allows.

A payment is two statements, a reward one. No account of a payer is locked: the amount enters and
leaves the wallet in one transaction, and the balance stays the same.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg.pgproto import pgproto

from shared.contracts.payload import read_payload
from tests.load.twin import Batch, Json, across, derived, digest_of, event_row

# Only new events of new charges are among the answers. The order's row is locked.
CLAIM = """, claimed as (
  insert into receipts (
    id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at
  )
  select id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at
  from unnest(
    $2::uuid[], $5::uuid[], $6::text[], $7::text[], $8::uuid[], $9::text[], $10::bigint[],
    $11::text[], $12::bigint[], $13::timestamptz[]
  ) as r (event_id, id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
  where event_id in (select event_id from fresh)
  on conflict do nothing
  returning id, received_at
)
select n.event_id, c.received_at, o.price_minor, o.plan, o.months, o.devices, o.traffic_bytes,
  o.node_group, o.list_month_minor
from unnest($2::uuid[], $5::uuid[], $14::uuid[]) as n (event_id, receipt, order_id)
join claimed c on c.id = n.receipt
join orders o on o.id = n.order_id
for update of o
"""

BOOK = """
with sold as (
  select *
  from unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[],
    $8::uuid[], $9::uuid[], $10::uuid[], $11::bigint[], $12::bigint[], $13::uuid[], $14::text[],
    $15::int[], $16::text[], $17::bigint[], $18::text[]
  ) as s (
    receipt, order_id, invoice, payer, charged, taken, spent, wallet, earned,
    owed, price_minor, amount_minor, event_id, topic, version, body, digest,
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
  set received_minor = s.amount_minor, state = 'paid'
  from sold s
  where i.id = s.invoice
), booked as (
  insert into bookings (receipt, outcome, because, order_id, invoice, value_minor, published_as)
  select receipt, 'bought', 'paid', order_id, invoice, price_minor, event_id from sold
), published as (
  insert into events (id, topic, version, body, digest, trace)
  select event_id, topic, version, body::json, digest, trace from sold
  returning seq
), pending as (
  insert into outbox (seq) select seq from published
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

REWARD = """, earned_rewards as (
  select *
  from unnest(
    $2::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::uuid[], $9::uuid[], $10::uuid[],
    $11::bigint[]
  ) as r (event_id, transfer, cause, person, wallet, earned, owed, reward_minor)
  where event_id in (select event_id from fresh)
), made as (
  insert into transfers (id, cause, reason, person)
  select transfer, cause, 'reward', person from earned_rewards
  on conflict do nothing
  returning id
), new_rewards as (
  select r.* from earned_rewards r join made on made.id = r.transfer
), opened as (
  insert into accounts (id, owner, kind, currency, balance_minor)
  select a.id, person, a.kind, 'RUB', 0
  from new_rewards
  cross join lateral (values (wallet, 'wallet'), (owed, 'owed')) as a (id, kind)
  union all
  values ($12::uuid, null::uuid, 'rewards', 'RUB', null::bigint)
  on conflict do nothing
), moved as (
  insert into accounts (id, owner, kind, currency, balance_minor)
  select earned, person, 'earned', 'RUB', sum(reward_minor)
  from new_rewards
  group by earned, person
  on conflict (id) do update set balance_minor = accounts.balance_minor + excluded.balance_minor
), summed as (
  insert into reward_hours as h (person, hour, amount_minor)
  select person, date_trunc('hour', now(), 'UTC'), sum(reward_minor)
  from new_rewards
  group by person
  on conflict (person, hour) do update set amount_minor = h.amount_minor + excluded.amount_minor
)
insert into entries (transfer, account, amount_minor, currency)
select e.*
from new_rewards
cross join lateral (
  values (transfer, $12::uuid, -reward_minor, 'RUB'), (transfer, earned, reward_minor, 'RUB')
) as e
"""

TERMS = ("plan", "months", "devices", "traffic_bytes", "node_group", "list_month_minor")


def account(kind: str, owner: UUID | None = None, currency: str = "RUB") -> UUID:
    return derived(f"account|{owner}|{kind}|{currency}")


def of_person(owner: UUID) -> tuple[UUID, UUID, UUID]:
    return account("wallet", owner), account("earned", owner), account("owed", owner)


SHOPS = (
    account("clearing:telegram_stars", None, "XTR"),
    account("exchange", None, "XTR"),
    account("exchange"),
)
REVENUE, REWARDS = account("revenue"), account("rewards")


async def confirm(connection: Any, batch: Batch) -> None:
    receipts = [_receipt(event) for event in batch.events.values()]
    orders = [_order_and_invoice(event)[0] for event in batch.events.values()]
    fresh = await batch.handle(connection, CLAIM, *across(receipts), orders)
    if fresh:
        sold = [_sold(batch.events[row["event_id"]], row) for row in fresh]
        await connection.execute(BOOK, *across(sold), *SHOPS, REVENUE)


def _order_and_invoice(event: Json) -> tuple[UUID, UUID]:
    payload = read_payload(event["payload"])
    assert payload is not None, "the seed writes only payloads of the right form"
    return payload.order, payload.invoice


def _receipt(event: Json) -> tuple[object, ...]:
    acquirer, charge, payer = event["acquirer"], event["charge"], event["payer"]
    currency, amount, payload = event["currency"], event["amount_minor"], event["payload"]
    id_ = derived(f"receipt|{acquirer}|{charge}")
    digest = digest_of(f"{currency}|{amount}")
    paid_at = datetime.fromisoformat(event["paid_at"])
    money = pgproto.UUID(payer), currency, amount, payload
    return id_, acquirer, charge, *money, digest, paid_at


def _sold(event: Json, row: Any) -> tuple[object, ...]:
    """A row of `sold`: the order and invoice, the ids of all that is written, and the event."""
    order, invoice = _order_and_invoice(event)
    payer, price = pgproto.UUID(event["payer"]), row["price_minor"]
    charged = f"{event['acquirer']}:{event['charge']}"
    receipt = derived(f"receipt|{event['acquirer']}|{event['charge']}")
    fields = {
        "received": {
            "receipt": str(receipt),
            "acquirer": event["acquirer"],
            "charge": event["charge"],
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
    about, now, trace = event["payer"], row["received_at"], event["trace"]
    confirmed = event_row("payments.payment.confirmed", charged, about, now, trace, fields)
    transfers = derived(f"transfer|{charged}|receipt"), derived(f"transfer|order:{order}|purchase")
    of_order = receipt, order, invoice, payer, charged
    return *of_order, *transfers, *of_person(payer), price, event["amount_minor"], *confirmed


async def book_rewards(connection: Any, batch: Batch) -> None:
    rewards = [_reward(event) for event in batch.events.values()]
    await batch.handle(connection, REWARD, *across(rewards), REWARDS)


def _reward(event: Json) -> tuple[object, ...]:
    partner, cause = pgproto.UUID(event["about"]), f"reward:{event['receipt']}"
    return (
        derived(f"transfer|{cause}|reward"),
        cause,
        partner,
        *of_person(partner),
        event["reward_minor"],
    )
