"""The floor: what the same durable writes cost with raw asyncpg and nats-py and nothing else.

A twin of the four services, on their tables and under their constraints: a batch is one transaction with its inbox
rows, facts leave through `untold` and are deleted when the broker has acknowledged them, a message is acknowledged
after the commit, and what happens once does so by the same unique keys. The book, where most is written, has SQL of its
own (`floor_book.py`): as few statements as one story allows, so that what is slow in ours shows in the ratio. The other
three use their services' statements. It knows one story only, a payment that buys at once, has no types, no decisions,
no refusals, no retries, no spans, no metrics and no logs; what a shop costs above it is what those cost.

    python -m tests.load.floor payments | referrals | vpn | notifier
"""

import asyncio
import json
import sys
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from asyncpg.pgproto import pgproto

from notifier import store as messages
from referrals import store as partners
from shared import outbox
from tests.load import floor_book
from tests.load.ground import Ground
from tests.load.twin import Act, Json, Twin, across, derived, once_heard, told
from vpn_provisioner.store import jobs, subscriptions

# referrals


async def reward(connection: Any, facts: list[Json]) -> None:
    now = await connection.fetchval("select now()")
    payers = [pgproto.UUID(fact["about"]) for fact in facts]
    known = {row["person"]: row["partner"] for row in await connection.fetch(partners.PARTNERS_OF, payers)}
    rows = await connection.fetch(partners.LOCK_PARTNERS, sorted(set(known.values())))
    paying = {row["person"]: row["paying"] for row in rows}
    await connection.fetch(partners.DECIDED, [pgproto.UUID(fact["received"]["receipt"]) for fact in facts])
    await connection.fetch(partners.PAYING, payers)
    levels = await connection.fetch(partners.SCALE)
    decided, steps, outgoing = [], [], []
    for fact, payer in sorted(zip(facts, payers, strict=True), key=lambda pair: pair[0]["booked_at"]):
        received, partner = fact["received"], known[payer]
        receipt, value = received["receipt"], received["value_minor"]
        paying[partner] += 1
        count = paying[partner]
        reached = [level for level in levels if level["paying_from"] <= count]
        percent = reached[-1]["percent"]
        ahead = levels[len(reached)] if len(reached) < len(levels) else None
        fields = {
            "receipt": receipt,
            "invitee": str(payer),
            "percent": percent,
            "value_minor": value,
            "reward_minor": value * percent // 100,
            "paying": count,
            "next_level_at": ahead["paying_from"] if ahead else None,
            "next_percent": ahead["percent"] if ahead else None,
        }
        outgoing.append(told("referrals.reward.earned", receipt, str(partner), now, fact["trace"], fields))
        amount, scale = value * percent // 100, reached[-1]["scale"]
        row = (pgproto.UUID(receipt), payer, value, "rewarded", partner, count, scale, percent, amount)
        decided.append((*row, outgoing[-1][0]))
        steps.append((payer, receipt))
    await connection.fetch(partners.REWARD, *across(decided))
    await connection.execute(partners.STEP, "activated", "registered", *across(steps))
    await connection.execute(partners.COUNT_PAYING, *across(list(paying.items())))
    await connection.fetch(outbox.TELL, *across(outgoing))


# vpn-provisioner


async def grant(connection: Any, facts: list[Json]) -> None:
    periods, people = [], []
    for fact in facts:
        order, person, terms = (
            pgproto.UUID(fact["bought"]["order"]),
            pgproto.UUID(fact["about"]),
            fact["bought"]["terms"],
        )
        begins = datetime.fromisoformat(fact["booked_at"])
        of_plan = (terms["plan"], terms["months"], terms["devices"], terms["traffic_bytes"], terms["node_group"])
        periods.append((order, person, begins, *of_plan, terms["list_month_minor"], fact["trace"]))
        ends = begins + timedelta(days=30 * terms["months"])
        people.append(
            (person, terms["plan"], terms["devices"], terms["traffic_bytes"], terms["node_group"], ends, uuid4())
        )
    await connection.fetch(subscriptions.ADD_PERIODS, *across(periods))
    await connection.fetch(subscriptions.BEGIN, *across(people))
    traces = [fact["trace"] for fact in facts]
    await connection.execute(jobs.WANT, [row[0] for row in people], traces)
    await connection.execute(jobs.UNWANT, [row[0] for row in people], traces)


# notifier


async def tell_of_payments(connection: Any, facts: list[Json]) -> None:
    rows = []
    for place, fact in enumerate(facts):
        order, person = fact["bought"]["order"], fact["about"]
        details = json.dumps({"price_minor": fact["bought"]["price_minor"]})
        of_story = (1, pgproto.UUID(order), 1, details, fact["trace"])
        rows.append(_message(person, order, "paid_issuing", of_story, fact, place, after_s=3.0))
    await _write(connection, rows)


async def tell_of_rewards(connection: Any, facts: list[Json]) -> None:
    rows = []
    for place, fact in enumerate(facts):
        names = ("reward_minor", "percent", "paying", "next_level_at", "next_percent")
        of_story = (1, None, 0, json.dumps({name: fact[name] for name in names}), fact["trace"])
        rows.append(_message(fact["about"], fact["receipt"], "reward_earned", of_story, fact, place, after_s=0.0))
    await _write(connection, rows)


def _message(
    person: str, cause: str, kind: str, of_story: tuple[object, ...], fact: Json, place: int, *, after_s: float
) -> tuple[object, ...]:
    id_ = derived(f"delivery|{person}|{cause}|{kind}")
    told_at = datetime.fromisoformat(fact["at"])
    return id_, pgproto.UUID(person), cause, kind, *of_story, told_at, place, after_s


async def _write(connection: Any, rows: list[Any]) -> None:
    people = sorted({row[1] for row in rows})
    await connection.execute(messages.KNOW_PEOPLE, people)
    await connection.execute(messages.HOLD, people)
    await connection.execute(messages.WRITE, *across(rows))
    if any(row[5] for row in rows):
        await connection.execute(messages.SUPERSEDE, people)
    await connection.execute(messages.SCHEDULE, people, messages.CHAT_PAUSE_S)


TWINS: dict[str, dict[str, Act]] = {
    "payments": {
        "payments_confirms_reported": floor_book.confirm,
        "payments_books_rewards": floor_book.book_rewards,
    },
    "referrals": {"referrals_rewards_confirmed": once_heard(reward)},
    "vpn": {"vpn_grants_confirmed": once_heard(grant)},
    "notifier": {
        "notifier_tells_confirmed": once_heard(tell_of_payments),
        "notifier_tells_rewards": once_heard(tell_of_rewards),
    },
}


async def start_floor(ground: Ground) -> None:
    for name in TWINS:
        await ground.run(name, "tests.load.floor", name)


if __name__ == "__main__":
    asyncio.run(Twin(sys.argv[1]).run(TWINS[sys.argv[1]]))
