"""The spine measured: reports wait in the broker, and then are booked, rewarded, granted and written down as messages.

EVT_BOT ─▶ payments: receipt, book, order, facts ─▶ relay ─▶ JetStream ─┬─▶ referrals: the reward
                                                                        ├─▶ vpn: the access row
                                                                        └─▶ notifier: the receipt's message
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import nats
from nats.aio.client import Client

from shared.outbox import hour_of
from shared.owners import OWNERS
from tests.load.ground import Ground, hold, let_go
from tests.load.seed import Sale
from turnpike_local.broker import Broker

PUBLISHED_AT_ONCE = 1_000  # The most that JetStream takes as one atomic batch.
SETTLE_TIMEOUT_S = 300.0
POLL_S = 0.25
CALM_LOOKS = 3

COUNTS = """
select
  (select count(*) from payments.bookings where outcome = 'bought') as booked,
  (select count(*) from referrals.rewards where outcome = 'rewarded') as reward,
  (select count(*) from vpn.periods) as access,
  (select count(*) from notifier.deliveries where kind = 'paid_issuing') as receipt,
  (select count(*) from payments.transfers where reason = 'reward') as reward_booked,
  (select count(*) from notifier.deliveries where kind = 'reward_earned') as reward_told
"""

# A listener's row, and the receipt that it belongs to; each is written once and never changed here.
COMMITTED = {
    "reward": "select receipt as about, pg_xact_commit_timestamp(xmin) as at from referrals.rewards",
    "access": "select order_id as about, pg_xact_commit_timestamp(xmin) as at from vpn.periods",
    "receipt": """
select story as about, pg_xact_commit_timestamp(xmin) as at from notifier.deliveries where kind = 'paid_issuing'
""",
}
LISTENERS = ("reward", "access", "receipt")


@dataclass(frozen=True)
class Run:
    """One run: payments a second, latencies from the moment when each was due to the last of its effects."""

    payments: int
    took_s: float
    latencies_ms: tuple[float, ...]
    cpu_us: Mapping[str, float]
    """Microseconds of a processor per payment, by part."""
    gained: Mapping[str, int] = field(default_factory=dict)
    """Rows that each table has more than before, of those that have."""
    flush_ms: float = 0.0
    """What a flush of PostgreSQL's log took on average: a commit is stamped before it."""

    @property
    def per_s(self) -> float:
        return self.payments / self.took_s

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def drain(ground: Ground, sold: Sequence[Sale]) -> Run:
    """All reports lie in the broker before anybody may begin: how fast is the whole?"""
    programs = list(ground.programs.values())
    async with _connected(ground) as client, _every_effect(ground, sold):
        hold(programs)
        await publish_all(client, sold)
        rows_before, cpu_before, began = await ground.rows(), ground.cpu_s(), time.time()
        let_go(programs)
        await settled(ground.broker)
        used = cpu_us(ground, cpu_before, len(sold))
    gained = {table: count - rows_before[table] for table, count in (await ground.rows()).items()}
    ended = max((await committed_at(ground, sold)).values())
    return Run(len(sold), ended - began, (), used, {table: count for table, count in gained.items() if count})


async def at_rate(ground: Ground, sold: Sequence[Sale], per_s: float) -> Run:
    """Reports come evenly, so many a second: how long after it was due does each take?"""
    messages = {sale.order: message_of(sale) for sale in sold}
    due_at = {}
    async with _connected(ground) as client, _every_effect(ground, sold):
        flushes_before, cpu_before = await ground.flushes(), ground.cpu_s()
        async for sale, moment in evenly(sold, per_s):
            due_at[sale.order] = moment
            subject, body, headers = messages[sale.order]
            await client.publish(subject, body, headers=headers)
        await settled(ground.broker)
        used = cpu_us(ground, cpu_before, len(sold))
        count, took_ms = (now - then for now, then in zip(await ground.flushes(), flushes_before, strict=True))
    done = await committed_at(ground, sold)
    latencies = tuple((done[order] - moment) * 1000 for order, moment in due_at.items())
    took_s = max(done.values()) - min(due_at.values())
    return Run(len(sold), took_s, latencies, used, flush_ms=took_ms / max(1, count))


async def evenly(sold: Sequence[Sale], per_s: float) -> AsyncIterator[tuple[Sale, float]]:
    """Each sale with the moment when it was due, then or as soon after as we come to it: our lateness is latency."""
    began = time.time()
    for place, sale in enumerate(sold):
        due_at = began + place / per_s
        await asyncio.sleep(max(0.0, due_at - time.time()))
        yield sale, due_at


@asynccontextmanager
async def _connected(ground: Ground) -> AsyncIterator[Client]:
    client = await nats.connect(ground.broker.url)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _every_effect(ground: Ground, sold: Sequence[Sale]) -> AsyncIterator[None]:
    """A run counts only when each of its payments had each of its effects once."""
    before = await _counts(ground)
    yield
    gained = {name: count - before[name] for name, count in (await _counts(ground)).items()}
    assert gained == dict.fromkeys(gained, len(sold)), f"of {len(sold)} payments there are {json.dumps(gained)}"


async def _counts(ground: Ground) -> dict[str, int]:
    (row,) = await ground.fetch(COUNTS)
    return dict(row)


def cpu_us(ground: Ground, before: Mapping[str, float], payments: int) -> dict[str, float]:
    return {name: (used - before[name]) * 1e6 / payments for name, used in ground.cpu_s().items()}


async def publish_all(client: Client, sold: Sequence[Sale]) -> None:
    """As bot-gateway's relay would, in atomic batches."""
    for begin in range(0, len(sold), PUBLISHED_AT_ONCE):
        page, batch = sold[begin : begin + PUBLISHED_AT_ONCE], uuid4().hex
        for place, sale in enumerate(page, start=1):
            subject, body, headers = message_of(sale)
            headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place in (1, len(page)):
                last = {"Nats-Batch-Commit": "1"} if place == len(page) else {}
                answer = await client.request(subject, body, 10, headers=headers | last)
                assert b"error" not in answer.data, answer.data
            else:
                await client.publish(subject, body, headers=headers)


def message_of(sale: Sale) -> tuple[str, bytes, dict[str, str]]:
    fact = sale.report(datetime.now(UTC).replace(microsecond=0))
    headers = {
        "Nats-Msg-Id": str(fact.id),
        "Turnpike-Digest": str(fact.digest()),
        "Turnpike-Hour": hour_of(fact.at),
        "traceparent": sale.trace,
    }
    return fact.subject(), fact.model_dump_json().encode(), headers


async def settled(broker: Broker) -> None:
    """Nothing waits and nothing is unacknowledged, three times in a row: between two streams a fact is in neither.

    Raises TimeoutError.
    """
    ends_at, calm = time.monotonic() + SETTLE_TIMEOUT_S, 0
    while calm < CALM_LOOKS:
        if time.monotonic() > ends_at:
            raise TimeoutError(f"after {SETTLE_TIMEOUT_S:g} s there wait {await broker.unsettled()}")
        await asyncio.sleep(POLL_S)
        calm = 0 if await broker.unsettled() else calm + 1


async def committed_at(ground: Ground, sold: Sequence[Sale]) -> dict[Any, float]:
    """When the last of the three listeners committed, by order; seconds since the epoch.

    PostgreSQL stamps a commit, writes it to its log with that stamp, and then flushes the log and answers: what was
    stamped is on disk a flush later, or two where another is under way.
    """
    moments = {}
    for name in LISTENERS:
        moments[name] = {row["about"]: row["at"].timestamp() for row in await ground.fetch(COMMITTED[name])}
    receipts = {sale.order: sale.receipt for sale in sold}
    return {
        order: max(moments["reward"][receipt], moments["access"][order], moments["receipt"][order])
        for order, receipt in receipts.items()
    }


async def start_spine(ground: Ground, settings: Mapping[str, str] | None = None, *, metered: bool = True) -> None:
    """The four services behind the report. No node is named and nobody is written to: the story measures that."""
    through = () if metered else ("tests.load.unmetered",)
    async with asyncio.TaskGroup() as starting:
        for name in SPINE:
            given = dict(settings or {}) | (SILENT if name == "notifier" else {})
            starting.create_task(ground.run(name, *through, OWNERS[name], settings=given))


SPINE = ("payments", "referrals", "vpn", "notifier")
SILENT = {
    "TURNPIKE_BOT_TOKEN": "42:" + "nobody" * 6,
    "TURNPIKE_TELEGRAM_API_URL": "http://127.0.0.1:9",
    "TURNPIKE_NOTIFIER_MESSAGES_PER_S": "0.000001",
}
