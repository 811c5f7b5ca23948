"""The floor: what the same durable writes cost with raw asyncpg and nats-py and nothing else.

A twin of the four services, on their tables and under their constraints: a batch is one transaction with its inbox
rows, facts leave through `untold`, taken out by a transaction that ends when the broker has acknowledged them, a
message is acknowledged after the commit, and what happens once does so by the same unique keys. What is written is
written by hand, in as few statements as one story allows (the book's are in `floor_book.py`), so that what is slow in
ours shows in the ratio; the relay's statements are the shop's. It knows one story only, the first payment of somebody
who was invited and buys at once, with no node to let him in. It has no types, no decisions, no refusals, no retries, no
spans, no metrics and no logs; what a shop costs above it is what those cost.

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

from referrals.store import SCALE
from tests.load import floor_book
from tests.load.ground import Ground
from tests.load.twin import Act, Batch, Json, Twin, across, derived, told

# referrals

# A partner's row is the lock on his count. Who was heard before is not among the answers.
COUNT = """
select n.fact_id, r.person as partner, r.paying
from unnest($2::uuid[], $5::uuid[]) as n (fact_id, payer)
join heard using (fact_id)
join people p on p.person = n.payer
join partners r on r.person = p.partner
order by r.person
for update of r
"""

REWARD = """
with decided as (
  select *
  from unnest(
    $1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::int[], $6::int[], $7::int[], $8::bigint[],
    $9::uuid[], $10::text[], $11::int[], $12::text[], $13::bigint[], $14::text[]
  ) as d (
    receipt, payer, value_minor, partner, paying, scale, percent, reward_minor,
    fact_id, topic, version, body, digest, trace
  )
), rewarded as (
  insert into rewards (receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor, told_as)
  select receipt, payer, value_minor, 'rewarded', partner, paying, scale, percent, reward_minor, fact_id from decided
), activated as (
  insert into invitations (invitee, state, follows, cause)
  select payer, 'activated', 'registered', receipt::text from decided
), counted as (
  update partners p
  set paying = c.paying
  from (select partner, max(paying) as paying from decided group by partner) c
  where p.person = c.partner
), told as (
  insert into facts (id, topic, version, body, digest, trace)
  select fact_id, topic, version, body::json, digest, trace from decided
  returning seq
)
insert into untold (seq) select seq from told
"""


async def reward(connection: Any, batch: Batch) -> None:
    payers = [pgproto.UUID(fact["about"]) for fact in batch.facts.values()]
    fresh = await batch.hear(connection, COUNT, payers)
    if fresh:
        levels, now = await connection.fetch(SCALE), datetime.now(UTC)
        paying = {row["partner"]: row["paying"] for row in fresh}
        decided = []
        heard = [(batch.facts[row["fact_id"]], row["partner"]) for row in fresh]
        for fact, partner in sorted(heard, key=lambda one: (one[0]["booked_at"], one[0]["id"])):
            paying[partner] += 1
            decided.append(_decided(fact, partner, paying[partner], levels, now))
        await connection.execute(REWARD, *across(decided))


def _decided(fact: Json, partner: UUID, count: int, levels: Sequence[Any], now: datetime) -> tuple[object, ...]:
    """A row of `decided`: the reward at this count, and the fact that tells it."""
    receipt, value, payer = fact["received"]["receipt"], fact["received"]["value_minor"], fact["about"]
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
    earned = told("referrals.reward.earned", receipt, str(partner), now, fact["trace"], fields)
    return pgproto.UUID(receipt), pgproto.UUID(payer), value, partner, count, scale, percent, amount, *earned


# vpn-provisioner

GRANT = """, bought as (
  select *
  from unnest(
    $2::uuid[], $5::uuid[], $6::uuid[], $7::timestamptz[], $8::text[], $9::int[], $10::int[], $11::bigint[],
    $12::text[], $13::int[], $14::text[]
  ) as b (
    fact_id, order_id, person, booked_at, plan, months, devices, traffic_bytes,
    node_group, list_month_minor, trace
  )
  where fact_id in (select fact_id from heard)
), added as (
  insert into periods (
    order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor
  )
  select order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor from bought
), promised as (
  insert into grants (order_id, person, trace) select order_id, person, trace from bought
)
insert into subscriptions (person, plan, devices, traffic_bytes, node_group, ends_at, key, state)
select person, plan, devices, traffic_bytes, node_group,
  (booked_at at time zone 'UTC' + make_interval(months => months)) at time zone 'UTC', gen_random_uuid(), 'live'
from bought
"""


async def grant(connection: Any, batch: Batch) -> None:
    bought = [_bought(fact) for fact in batch.facts.values()]
    await batch.hear(connection, GRANT, *across(bought))


def _bought(fact: Json) -> tuple[object, ...]:
    order, person = pgproto.UUID(fact["bought"]["order"]), pgproto.UUID(fact["about"])
    terms = (fact["bought"]["terms"][name] for name in floor_book.TERMS)
    return order, person, datetime.fromisoformat(fact["booked_at"]), *terms, fact["trace"]


# notifier

# The upsert of a recipient is the lock on the chat. Telegram: no more than one message a second in one chat.
TELL = """, said as (
  select *
  from unnest(
    $2::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::uuid[], $9::text[], $10::text[], $11::timestamptz[]
  ) with ordinality as s (fact_id, id, person, cause, story, details, trace, told_at, place)
  where fact_id in (select fact_id from heard)
), known as (
  insert into recipients (person, due_at)
  select distinct person, now() + $14::float8 * interval '1 second' from said order by person
  on conflict (person) do update
  set due_at = least(recipients.due_at, greatest(excluded.due_at, recipients.spoken_at + interval '1 second'))
  where recipients.claim is null
)
insert into deliveries (id, person, cause, kind, lane, story, rank, details, trace, told_at, place, not_before)
select id, person, cause, $12::text, 1, story, $13::smallint, details::json, trace, told_at, place,
  now() + $14::float8 * interval '1 second'
from said
"""


async def tell_of_payments(connection: Any, batch: Batch) -> None:
    said = []
    for fact in batch.facts.values():
        order, details = fact["bought"]["order"], {"price_minor": fact["bought"]["price_minor"]}
        said.append(_said(fact, order, "paid_issuing", pgproto.UUID(order), details))
    await batch.hear(connection, TELL, *across(said), "paid_issuing", 1, 3.0)


async def tell_of_rewards(connection: Any, batch: Batch) -> None:
    names = ("reward_minor", "percent", "paying", "next_level_at", "next_percent")
    said = [
        _said(fact, fact["receipt"], "reward_earned", None, {name: fact[name] for name in names})
        for fact in batch.facts.values()
    ]
    await batch.hear(connection, TELL, *across(said), "reward_earned", 0, 0.0)


def _said(fact: Json, cause: str, kind: str, story: UUID | None, details: Json) -> tuple[object, ...]:
    person, told_at = fact["about"], datetime.fromisoformat(fact["at"])
    id_ = derived(f"delivery|{person}|{cause}|{kind}")
    return id_, pgproto.UUID(person), cause, story, json.dumps(details), fact["trace"], told_at


TWINS: dict[str, dict[str, Act]] = {
    "payments": {
        "payments_confirms_reported": floor_book.confirm,
        "payments_books_rewards": floor_book.book_rewards,
    },
    "referrals": {"referrals_rewards_confirmed": reward},
    "vpn": {"vpn_grants_confirmed": grant},
    "notifier": {"notifier_tells_confirmed": tell_of_payments, "notifier_tells_rewards": tell_of_rewards},
}


async def start_floor(ground: Ground) -> None:
    async with asyncio.TaskGroup() as starting:
        for name in TWINS:
            starting.create_task(ground.run(name, "tests.load.floor", name))


if __name__ == "__main__":
    asyncio.run(Twin(sys.argv[1]).run(TWINS[sys.argv[1]]))
