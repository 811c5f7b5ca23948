"""The floor: the cost of the same durable writes with raw asyncpg and nats-py, and nothing else.

A twin of the four services, on their tables and under their constraints. A batch is one
transaction with its inbox rows. Events leave through `outbox`, in a transaction that ends when the
broker has acknowledged them. A message is acknowledged after the commit. Unique keys make each
effect happen once.

Writes are hand-written, in as few statements as one purchase allows (the ledger's are in
`floor_book.py`), so that the overhead of the shop shows in the ratio. The relay's statements are
the shop's. The twin knows one case: the first payment of an invited person who buys at once,
without a node. It has no types, decisions, refusals, retries, spans, metrics and logs; the shop's
cost above the floor is their cost.

    python -m tests.load.floor payments | referrals | vpn | notifier
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from asyncpg.pgproto import pgproto

from referrals.store.rewards import SCALE
from tests.load import floor_book
from tests.load.testbed import Testbed
from tests.load.twin import Act, Batch, Json, Twin, across, derived, event_row

# referrals

# A partner's row is the lock on their count. Only new events are among the answers.
COUNT = """
select n.event_id, r.person as partner, r.paying
from unnest($2::uuid[], $5::uuid[]) as n (event_id, payer)
join fresh using (event_id)
join people p on p.person = n.payer
join partners r on r.person = p.partner
order by r.person
for update of r
"""

REWARD = """
with decided as (
  select *
  from unnest(
    $1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::int[], $6::int[], $7::int[],
    $8::bigint[], $9::uuid[], $10::text[], $11::int[], $12::text[], $13::bigint[], $14::text[]
  ) as d (
    receipt, payer, value_minor, partner, paying, scale, percent, reward_minor,
    event_id, topic, version, body, digest, trace
  )
), rewarded as (
  insert into rewards (
    receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor,
    published_as
  )
  select
    receipt, payer, value_minor, 'rewarded', partner, paying, scale, percent, reward_minor,
    event_id
  from decided
), activated as (
  insert into invitations (invitee, state, follows, cause)
  select payer, 'activated', 'registered', receipt::text from decided
), counted as (
  update partners p
  set paying = c.paying
  from (select partner, max(paying) as paying from decided group by partner) c
  where p.person = c.partner
), published as (
  insert into events (id, topic, version, body, digest, trace)
  select event_id, topic, version, body::json, digest, trace from decided
  returning seq
)
insert into outbox (seq) select seq from published
"""


async def reward(connection: Any, batch: Batch) -> None:
    payers = [pgproto.UUID(event["about"]) for event in batch.events.values()]
    fresh = await batch.handle(connection, COUNT, payers)
    if fresh:
        levels, now = await connection.fetch(SCALE), datetime.now(UTC)
        paying = {row["partner"]: row["paying"] for row in fresh}
        decided = []
        payments = [(batch.events[row["event_id"]], row["partner"]) for row in fresh]
        for event, partner in sorted(payments, key=lambda one: (one[0]["booked_at"], one[0]["id"])):
            paying[partner] += 1
            decided.append(_decided(event, partner, paying[partner], levels, now))
        await connection.execute(REWARD, *across(decided))


def _decided(
    event: Json, partner: UUID, count: int, levels: Sequence[Any], now: datetime
) -> tuple[object, ...]:
    """A row of `decided`: the reward at this count, and its event."""
    received, payer = event["received"], event["about"]
    receipt, value = received["receipt"], received["value_minor"]
    reached = [level for level in levels if level["paying_from"] <= count]
    ahead = levels[len(reached)] if len(reached) < len(levels) else None
    scale, percent = reached[-1]["scale"], reached[-1]["percent"]
    amount = value * percent // 100
    fields = {
        "receipt": receipt,
        "invitee": payer,
        "percent": percent,
        "value_minor": value,
        "reward_minor": amount,
        "paying": count,
        "next_level_at": ahead["paying_from"] if ahead else None,
        "next_percent": ahead["percent"] if ahead else None,
    }
    about, trace = str(partner), event["trace"]
    earned = event_row("referrals.reward.earned", receipt, about, now, trace, fields)
    ids = pgproto.UUID(receipt), pgproto.UUID(payer)
    return *ids, value, partner, count, scale, percent, amount, *earned


# vpn-provisioner

GRANT = """, bought as (
  select *
  from unnest(
    $2::uuid[], $5::uuid[], $6::uuid[], $7::timestamptz[], $8::text[], $9::int[], $10::int[],
    $11::bigint[], $12::text[], $13::int[], $14::text[]
  ) as b (
    event_id, order_id, person, booked_at, plan, months, devices, traffic_bytes,
    node_group, list_month_minor, trace
  )
  where event_id in (select event_id from fresh)
), added as (
  insert into periods (
    order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor
  )
  select
    order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor
  from bought
), promised as (
  insert into grants (order_id, person, trace) select order_id, person, trace from bought
)
insert into subscriptions (person, plan, devices, traffic_bytes, node_group, ends_at, key, state)
select person, plan, devices, traffic_bytes, node_group,
  (booked_at at time zone 'UTC' + make_interval(months => months)) at time zone 'UTC',
  gen_random_uuid(), 'live'
from bought
"""


async def grant(connection: Any, batch: Batch) -> None:
    bought = [_bought(event) for event in batch.events.values()]
    await batch.handle(connection, GRANT, *across(bought))


def _bought(event: Json) -> tuple[object, ...]:
    order, person = pgproto.UUID(event["bought"]["order"]), pgproto.UUID(event["about"])
    terms = (event["bought"]["terms"][name] for name in floor_book.TERMS)
    return order, person, datetime.fromisoformat(event["booked_at"]), *terms, event["trace"]


# notifier

# The upsert of a recipient is the lock on the chat. Telegram allows one message a second in it.
NOTIFY = """, written as (
  select *
  from unnest(
    $2::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::uuid[], $9::text[], $10::text[],
    $11::timestamptz[]
  ) with ordinality as s (event_id, id, person, cause, thread, details, trace, occurred_at, place)
  where event_id in (select event_id from fresh)
), known as (
  insert into recipients (person, due_at)
  select distinct person, now() + $14::float8 * interval '1 second' from written order by person
  on conflict (person) do update
  set due_at = least(
    recipients.due_at, greatest(excluded.due_at, recipients.called_at + interval '1 second')
  )
  where recipients.claim is null
)
insert into deliveries (
  id, person, cause, kind, priority, thread, rank, details, trace, occurred_at, position,
  not_before
)
select
  id, person, cause, $12::text, 1, thread, $13::smallint, details::json, trace, occurred_at, place,
  now() + $14::float8 * interval '1 second'
from written
"""


async def notify_payments(connection: Any, batch: Batch) -> None:
    deliveries = []
    for event in batch.events.values():
        order, details = event["bought"]["order"], {"price_minor": event["bought"]["price_minor"]}
        deliveries.append(_delivery(event, order, "paid_issuing", pgproto.UUID(order), details))
    await batch.handle(connection, NOTIFY, *across(deliveries), "paid_issuing", 1, 3.0)


async def notify_rewards(connection: Any, batch: Batch) -> None:
    names = ("reward_minor", "percent", "paying", "next_level_at", "next_percent")
    deliveries = []
    for event in batch.events.values():
        details = {name: event[name] for name in names}
        deliveries.append(_delivery(event, event["receipt"], "reward_earned", None, details))
    await batch.handle(connection, NOTIFY, *across(deliveries), "reward_earned", 0, 0.0)


def _delivery(
    event: Json, cause: str, kind: str, thread: UUID | None, details: Json
) -> tuple[object, ...]:
    person, occurred_at = event["about"], datetime.fromisoformat(event["at"])
    id_ = derived(f"delivery|{person}|{cause}|{kind}")
    return (
        id_,
        pgproto.UUID(person),
        cause,
        thread,
        json.dumps(details),
        event["trace"],
        occurred_at,
    )


TWINS: dict[str, dict[str, Act]] = {
    "payments": {
        "payments_confirms_reported": floor_book.confirm,
        "payments_books_rewards": floor_book.book_rewards,
    },
    "referrals": {"referrals_rewards_confirmed": reward},
    "vpn": {"vpn_grants_confirmed": grant},
    "notifier": {
        "notifier_notifies_confirmed": notify_payments,
        "notifier_notifies_rewards": notify_rewards,
    },
}


async def start_floor(testbed: Testbed) -> None:
    async with asyncio.TaskGroup() as starting:
        for name in TWINS:
            starting.create_task(testbed.run(name, "tests.load.floor", name))


if __name__ == "__main__":
    asyncio.run(Twin(sys.argv[1]).run(TWINS[sys.argv[1]]))
