"""The pipeline of a payment: from reports in the broker to bookings, rewards, access, messages.

EVT_BOT ─▶ payments: receipt, book, order, events ─▶ relay ─▶ JetStream ─┬─▶ referrals: the reward
                                                                         ├─▶ vpn: the access row
                                                                         └─▶ notifier: the message
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

from shared.contracts.owners import OWNERS
from shared.messaging.relay import hour_of
from tests.load.seed import Sale
from tests.load.testbed import Testbed, pause, resume

PUBLISHED_AT_ONCE = 1_000  # The most that JetStream takes as one atomic batch.
QUIESCENT_TIMEOUT_S = 300.0
POLL_S = 0.25

PENDING = f"""
select pg_current_snapshot()::text as committed,
  {" + ".join(f"(select count(*) from {owner}.outbox)" for owner in OWNERS)} as pending
"""

COUNTS = """
select
  (select count(*) from payments.bookings where outcome = 'bought') as booked,
  (select count(*) from referrals.rewards where outcome = 'rewarded') as reward,
  (select count(*) from vpn.periods) as access,
  (select count(*) from notifier.deliveries where kind = 'paid_issuing') as receipt,
  (select count(*) from payments.transfers where reason = 'reward') as reward_booked,
  (select count(*) from notifier.deliveries where kind = 'reward_earned') as reward_message
"""

# A subscriber's row and its receipt or order. Each is written once and never changed here.
COMMITTED = {
    "reward": """
select receipt as about, pg_xact_commit_timestamp(xmin) as at
from referrals.rewards
""",
    "access": """
select order_id as about, pg_xact_commit_timestamp(xmin) as at
from vpn.periods
""",
    "receipt": """
select thread as about, pg_xact_commit_timestamp(xmin) as at
from notifier.deliveries
where kind = 'paid_issuing'
""",
}


@dataclass(frozen=True)
class Run:
    """One run: payments, and latencies from when each was due to the last of its effects.

    `cpu_us` is processor time per payment, by part. `gained` is the growth of each table that
    grew, in rows. `flush_ms` is the average flush of PostgreSQL's log; a commit is stamped
    before it.
    """

    payments: int
    took_s: float
    latencies_ms: tuple[float, ...]
    cpu_us: Mapping[str, float]
    gained: Mapping[str, int] = field(default_factory=dict)
    flush_ms: float = 0.0

    @property
    def per_s(self) -> float:
        return self.payments / self.took_s

    def percentile_ms(self, percent: float) -> float:
        return percentile(self.latencies_ms, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def drain(testbed: Testbed, sold: Sequence[Sale]) -> Run:
    """The throughput: all reports are in the broker before any service may begin."""
    programs = list(testbed.programs.values())
    async with _connected(testbed) as client, _every_effect(testbed, sold):
        pause(programs)
        await publish_all(client, sold)
        rows_before, cpu_before, began = await testbed.rows(), testbed.cpu_s(), time.time()
        resume(programs)
        await until_quiescent(testbed)
        used = cpu_us(testbed, cpu_before, len(sold))
    rows = await testbed.rows()
    gained = {table: count - rows_before[table] for table, count in rows.items()}
    ended = max((await committed_at(testbed, sold)).values())
    grown = {table: count for table, count in gained.items() if count}
    return Run(len(sold), ended - began, (), used, grown)


async def at_rate(testbed: Testbed, sold: Sequence[Sale], per_s: float) -> Run:
    """The latency: reports come evenly, so many a second."""
    messages = {sale.order: message_of(sale) for sale in sold}
    due_at = {}
    async with _connected(testbed) as client, _every_effect(testbed, sold):
        flushes_before, cpu_before = await testbed.flushes(), testbed.cpu_s()
        async for sale, moment in evenly(sold, per_s):
            due_at[sale.order] = moment
            subject, body, headers = messages[sale.order]
            await client.publish(subject, body, headers=headers)
        await until_quiescent(testbed)
        used = cpu_us(testbed, cpu_before, len(sold))
        flushes = await testbed.flushes()
        count, took_ms = (now - then for now, then in zip(flushes, flushes_before, strict=True))
    done = await committed_at(testbed, sold)
    latencies = tuple((done[order] - moment) * 1000 for order, moment in due_at.items())
    took_s = max(done.values()) - min(due_at.values())
    return Run(len(sold), took_s, latencies, used, flush_ms=took_ms / max(1, count))


async def evenly(sold: Sequence[Sale], per_s: float) -> AsyncIterator[tuple[Sale, float]]:
    """Each sale with the time at which it was due; the driver's own lateness is latency."""
    began = time.time()
    for place, sale in enumerate(sold):
        due_at = began + place / per_s
        await asyncio.sleep(max(0.0, due_at - time.time()))
        yield sale, due_at


@asynccontextmanager
async def _connected(testbed: Testbed) -> AsyncIterator[Client]:
    client = await nats.connect(testbed.broker.url)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _every_effect(testbed: Testbed, sold: Sequence[Sale]) -> AsyncIterator[None]:
    """A run counts only when each of its payments has each effect once."""
    before = await counts(testbed, COUNTS)
    yield
    await check_effects(testbed, COUNTS, before, len(sold))


async def counts(testbed: Testbed, sql: str) -> dict[str, int]:
    (row,) = await testbed.fetch(sql)
    return dict(row)


async def check_effects(
    testbed: Testbed, sql: str, before: Mapping[str, int], payments: int
) -> None:
    """Raises AssertionError unless each count has grown by the number of payments."""
    now = await counts(testbed, sql)
    gained = {name: count - before[name] for name, count in now.items()}
    assert gained == dict.fromkeys(gained, payments), (
        f"of {payments} payments there are {json.dumps(gained)}"
    )


def cpu_us(testbed: Testbed, before: Mapping[str, float], payments: int) -> dict[str, float]:
    return {name: (used - before[name]) * 1e6 / payments for name, used in testbed.cpu_s().items()}


async def publish_all(client: Client, sold: Sequence[Sale]) -> None:
    """As bot-gateway's relay does it, in atomic batches."""
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
    event = sale.report(datetime.now(UTC).replace(microsecond=0))
    headers = {
        "Nats-Msg-Id": str(event.id),
        "Turnpike-Digest": str(event.digest()),
        "Turnpike-Hour": hour_of(event.at),
        "traceparent": sale.trace,
    }
    return event.subject(), event.model_dump_json().encode(), headers


async def until_quiescent(testbed: Testbed) -> None:
    """Wait until no consumer has lag and nothing is pending. Raises TimeoutError."""
    ends_at = time.monotonic() + QUIESCENT_TIMEOUT_S
    while not await _is_quiescent(testbed):
        if time.monotonic() > ends_at:
            lag = await testbed.broker.consumer_lag()
            raise TimeoutError(f"after {QUIESCENT_TIMEOUT_S:g} s there is lag: {lag}")
        await asyncio.sleep(POLL_S)


async def _is_quiescent(testbed: Testbed) -> bool:
    """An event between two streams is in neither, but in an outbox.

    One place is asked after the other. An event that moves meanwhile ends a transaction.
    """
    if await testbed.broker.consumer_lag():
        return False
    (before,) = await testbed.fetch(PENDING)
    if before["pending"] or await testbed.broker.consumer_lag():
        return False
    (after,) = await testbed.fetch(PENDING)
    return bool(after == before)


async def committed_at(testbed: Testbed, sold: Sequence[Sale]) -> dict[Any, float]:
    """When the last of the three subscribers committed, by order; seconds since the epoch.

    PostgreSQL stamps a commit, writes it to its log, flushes the log, and answers. A stamped
    commit is on disk a flush later, or two when another flush is under way.
    """
    moments = {
        name: {row["about"]: row["at"].timestamp() for row in await testbed.fetch(sql)}
        for name, sql in COMMITTED.items()
    }
    receipts = {sale.order: sale.receipt for sale in sold}
    return {
        order: max(moments["reward"][receipt], moments["access"][order], moments["receipt"][order])
        for order, receipt in receipts.items()
    }


async def start_pipeline(
    testbed: Testbed, settings: Mapping[str, str] | None = None, *, metered: bool = True
) -> None:
    """Start the four services behind the report, without a node and without messages to Telegram.

    The scenarios measure those.
    """
    through = () if metered else ("tests.load.unmetered",)
    async with asyncio.TaskGroup() as starting:
        for name in PIPELINE:
            given = dict(settings or {}) | (NO_TELEGRAM if name == "notifier" else {})
            starting.create_task(testbed.run(name, *through, OWNERS[name], settings=given))


PIPELINE = ("payments", "referrals", "vpn", "notifier")
NO_TELEGRAM = {
    "TURNPIKE_BOT_TOKEN": "42:" + "nobody" * 6,
    "TURNPIKE_TELEGRAM_API_URL": "http://127.0.0.1:9",
    "TURNPIKE_NOTIFIER_MESSAGES_PER_S": "0.000001",
}
