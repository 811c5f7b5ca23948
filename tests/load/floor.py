"""The floor: what the same durable writes cost with raw asyncpg and nats-py and nothing else.

A twin of the four services, on their tables, with their statements, locks and constraints: a batch is one transaction
with its inbox rows, facts leave through `untold` and are deleted when the broker has acknowledged them, a message is
acknowledged after the commit. It knows one story only, a payment that buys at once, has no types, no decisions, no
refusals, no retries, no spans, no metrics and no logs; what a shop costs above it is what those cost.

    python -m tests.load.floor payments | referrals | vpn | notifier
"""

import asyncio
import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import nats
from asyncpg.pgproto import pgproto

from notifier import store as messages
from payments.store import book
from referrals import store as partners
from shared import inbox, outbox
from shared.contract import NAMESPACE
from shared.streams import LISTENING, Listening
from tests.load.ground import Ground
from vpn_provisioner.store import jobs, subscriptions

MOST_PER_BATCH = 500
ASKED_AHEAD = 1_000

Json = dict[str, Any]
Act = Callable[[Any, list[Json]], Awaitable[None]]

_root = NAMESPACE.bytes


def derived(text: str) -> UUID:
    digest = bytearray(hashlib.sha1(_root + text.encode(), usedforsecurity=False).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    return pgproto.UUID(bytes(digest))


def digest_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def across(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


class Twin:
    """One process: a pool, a connection to NATS, a relay."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.told = asyncio.Event()

    async def run(self, hears: dict[str, Act]) -> None:
        dsn = os.environ[f"TURNPIKE_{self.owner.upper()}_DSN"]
        self.pool = await asyncpg.create_pool(dsn, min_size=1, max_size=5)
        self.nats = await nats.connect(os.environ["TURNPIKE_NATS_URL"], pending_size=64 * 1024 * 1024)
        door = await asyncio.start_server(_say_ok, "127.0.0.1", int(os.environ["TURNPIKE_HTTP_PORT"]))
        async with door:
            await asyncio.gather(
                self.relay(dsn),
                *(self.listen(entry, hears[entry.handler]) for entry in LISTENING if entry.handler in hears),
            )

    async def listen(self, listening: Listening, act: Act) -> None:
        queue: deque[Any] = deque()
        arrived, asked = asyncio.Event(), 0
        path, reply = f"{listening.stream}.{listening.handler}", self.nats.new_inbox()

        async def take(message: Any) -> None:
            queue.append(message)
            arrived.set()

        await self.nats.subscribe(reply, cb=take, pending_msgs_limit=-1)
        config = {"stream_name": listening.stream, "config": listening.consumer_config(), "action": "create"}
        create = f"$JS.API.CONSUMER.CREATE.{path}.{listening.filter_subject}"
        await self.nats.request(create, json.dumps(config).encode(), 5)
        while True:
            if asked <= ASKED_AHEAD // 2:
                wanted = {"batch": ASKED_AHEAD - asked, "expires": int(600e9)}
                await self.nats.publish(f"$JS.API.CONSUMER.MSG.NEXT.{path}", json.dumps(wanted).encode(), reply)
                asked = ASKED_AHEAD
            arrived.clear()
            if not queue:
                await arrived.wait()
            batch = [queue.popleft() for _ in range(min(MOST_PER_BATCH, len(queue)))]
            asked -= len(batch)
            await self.absorb(listening.handler, batch, act)
            for message in batch:
                await self.nats.publish(message.reply, b"+ACK")
            self.told.set()

    async def absorb(self, handler: str, batch: Sequence[Any], act: Act) -> None:
        rows, facts = [], {}
        for message in batch:
            headers = message.headers
            fact = json.loads(message.data)
            fact["trace"] = headers.get("traceparent")
            id_ = pgproto.UUID(fact["id"])
            facts[id_] = fact
            rows.append((id_, int(headers["Turnpike-Digest"]), datetime.fromisoformat(headers["Turnpike-Hour"])))
        rows.sort()
        async with self.pool.acquire() as connection, connection.transaction():
            new = await connection.fetch(inbox.REMEMBER, handler, *across(rows))
            if new:
                await act(connection, [facts[row["fact_id"]] for row in new])

    async def relay(self, dsn: str) -> None:
        connection, floor = await asyncpg.connect(dsn), 0
        while True:
            self.told.clear()
            async with connection.transaction():
                rows = await connection.fetch(outbox.TAKE, floor, MOST_PER_BATCH)
                if rows:
                    await self.publish(rows)
                    await connection.execute(outbox.FORGET, [False] * len(rows), [row["seq"] for row in rows])
                    floor = rows[-1]["seq"]
            if not rows:
                await self.told.wait()

    async def publish(self, rows: Sequence[Any]) -> None:
        """One atomic batch, or one message."""
        batch = uuid4().hex
        for place, row in enumerate(rows, start=1):
            headers = outbox.headers_of(row)
            if len(rows) > 1:
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place == len(rows) > 1:
                headers["Nats-Batch-Commit"] = "1"
            subject, body = outbox.subject_of(row), row["body"].encode()
            if place in (1, len(rows)):
                answer = await self.nats.request(subject, body, 5, headers=headers)
                assert b'"error"' not in answer.data, answer.data
            else:
                await self.nats.publish(subject, body, headers=headers)


async def _say_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


def told(topic: str, cause: str, about: str, now: datetime, trace: str | None, fields: Json) -> tuple[object, ...]:
    """A row for `facts`, as the outbox takes it."""
    id_ = derived(f"{cause}|{topic}|{about}")
    business = {"about": about, **fields}
    body = {"id": str(id_), "cause": cause, "at": now.isoformat(), **business}
    return id_, topic, 1, json.dumps(body), digest_of(json.dumps(business)), trace


# payments


def account(kind: str, owner: UUID | None = None, currency: str = "RUB") -> tuple[UUID, UUID | None, str, str]:
    return derived(f"account|{owner}|{kind}|{currency}"), owner, kind, currency


CLEARING, EXCHANGE_XTR = account("clearing:telegram_stars", None, "XTR"), account("exchange", None, "XTR")
EXCHANGE, REVENUE, REWARDS = account("exchange"), account("revenue"), account("rewards")


async def hold(connection: Any, people: Sequence[UUID]) -> dict[UUID, UUID]:
    """Open and lock the accounts of these people; answers their `earned`."""
    accounts = {person: [account(kind, person) for kind in ("wallet", "earned", "owed")] for person in people}
    await connection.execute(book.OPEN_ACCOUNTS, *across([row for rows in accounts.values() for row in rows]))
    await connection.fetch(book.LOCK_HOLDINGS, people)
    return {person: rows[1][0] for person, rows in accounts.items()}


async def confirm(connection: Any, facts: list[Json]) -> None:
    receipts, found = [], {}
    for fact in facts:
        order, invoice, _ = fact["payload"].split(".")
        receipt = derived(f"receipt|{fact['acquirer']}|{fact['charge']}")
        payer, amount = pgproto.UUID(fact["payer"]), fact["amount_minor"]
        said = digest_of(f"{fact['payer']}|{fact['currency']}|{amount}|{fact['payload']}")
        paid_at = datetime.fromisoformat(fact["paid_at"])
        row = (receipt, fact["acquirer"], fact["charge"], payer, fact["currency"], amount, fact["payload"], said)
        receipts.append((*row, paid_at))
        found[receipt] = (fact, pgproto.UUID(order), pgproto.UUID(invoice), payer)
    claimed = await connection.fetch(book.CLAIM_RECEIPTS, *across(receipts))
    fresh, now = [row["id"] for row in claimed], claimed[0]["received_at"]
    people = sorted({found[receipt][3] for receipt in fresh})
    await hold(connection, people)
    rows = await connection.fetch(book.LOCK_ORDERS, [found[receipt][1] for receipt in fresh], people)
    orders = {row["id"]: row for row in rows}
    await connection.fetch(book.INVOICES, [found[receipt][2] for receipt in fresh])
    await connection.fetch(book.RATES)

    transfers, entries, bookings, changed, invoices, outgoing = [], [], [], [], [], []
    for receipt in fresh:
        fact, order, invoice, payer = found[receipt]
        row, charged = orders[order], f"{fact['acquirer']}:{fact['charge']}"
        price, amount, wallet = row["price_minor"], fact["amount_minor"], account("wallet", payer)[0]
        taken, spent = derived(f"transfer|{charged}|receipt"), derived(f"transfer|order:{order}|purchase")
        transfers += [(taken, charged, "receipt", payer), (spent, f"order:{order}", "purchase", payer)]
        entries += [
            (taken, CLEARING[0], -amount, "XTR"),
            (taken, EXCHANGE_XTR[0], amount, "XTR"),
            (taken, EXCHANGE[0], -price, "RUB"),
            (taken, wallet, price, "RUB"),
            (spent, wallet, -price, "RUB"),
            (spent, REVENUE[0], price, "RUB"),
        ]
        terms = ("plan", "months", "devices", "traffic_bytes", "node_group", "list_month_minor")
        bought = {
            "order": str(order),
            "what": "subscription",
            "terms": {name: row[name] for name in terms},
            "price_minor": price,
        }
        received = {
            "receipt": str(receipt),
            "acquirer": fact["acquirer"],
            "charge": fact["charge"],
            "value_minor": price,
        }
        fields = {"received": received, "bought": bought, "booked_at": now.isoformat(), "wallet_minor": 0}
        fields |= {"missing_minor": 0}
        outgoing.append(told("payments.payment.confirmed", charged, fact["payer"], now, fact["trace"], fields))
        bookings.append((receipt, "bought", "paid", order, invoice, price, outgoing[-1][0]))
        changed.append((order, price, "paid"))
        invoices.append(invoice)
    shops = across([CLEARING, EXCHANGE_XTR, EXCHANGE, REVENUE])
    await connection.execute(book.WRITE_TRANSFERS, *across(transfers), *across(entries), [], [], *shops)
    done = [order for order, _, _ in changed]
    await connection.execute(book.WRITE_BOOKINGS, *across(bookings), *across(sorted(changed)), done, invoices)
    await connection.fetch(outbox.TELL, *across(outgoing))


async def book_rewards(connection: Any, facts: list[Json]) -> None:
    causes = {derived(f"transfer|reward:{fact['receipt']}|reward"): fact for fact in facts}
    claims = [(id_, f"reward:{fact['receipt']}", pgproto.UUID(fact["about"])) for id_, fact in sorted(causes.items())]
    fresh = [row["id"] for row in await connection.fetch(book.CLAIM_REWARDS, *across(claims))]
    people = sorted({pgproto.UUID(causes[id_]["about"]) for id_ in fresh})
    earned = await hold(connection, people)
    await connection.fetch(book.WAITING, people)
    entries, sums = [], dict.fromkeys(earned.values(), 0)
    for id_ in fresh:
        account_id, amount = earned[pgproto.UUID(causes[id_]["about"])], causes[id_]["reward_minor"]
        entries += [(id_, REWARDS[0], -amount, "RUB"), (id_, account_id, amount, "RUB")]
        sums[account_id] += amount
    moved = across(sorted(sums.items()))
    await connection.execute(book.WRITE_TRANSFERS, [], [], [], [], *across(entries), *moved, *across([REWARDS]))


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
    "payments": {"payments_confirms_reported": confirm, "payments_books_rewards": book_rewards},
    "referrals": {"referrals_rewards_confirmed": reward},
    "vpn": {"vpn_grants_confirmed": grant},
    "notifier": {"notifier_tells_confirmed": tell_of_payments, "notifier_tells_rewards": tell_of_rewards},
}


async def start_floor(ground: Ground) -> None:
    for name in TWINS:
        await ground.run(name, "tests.load.floor", name)


if __name__ == "__main__":
    asyncio.run(Twin(sys.argv[1]).run(TWINS[sys.argv[1]]))
