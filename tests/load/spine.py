"""The spine measured: reports wait in the broker, and then are booked, rewarded, granted and written down as messages.

EVT_BOT ─▶ payments: receipt, book, order, facts ─▶ relay ─▶ JetStream ─┬─▶ referrals: the reward
                                                                        ├─▶ vpn: the access row
                                                                        └─▶ notifier: the receipt's message
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import nats
from nats.aio.client import Client

from shared.outbox import hour_of
from tests.load.ground import Ground, hold, let_go
from tests.load.seed import Sale
from turnpike_local.services import Program

PUBLISHED_AT_ONCE = 1_000  # The most that JetStream takes as one atomic batch.
SETTLE_TIMEOUT_S = 300.0
POLL_S = 0.25
SEND_EVERY_S = 0.01

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
    "booked": "select receipt as about, pg_xact_commit_timestamp(xmin) as at from payments.bookings",
    "reward": "select receipt as about, pg_xact_commit_timestamp(xmin) as at from referrals.rewards",
    "access": "select order_id as about, pg_xact_commit_timestamp(xmin) as at from vpn.periods",
    "receipt": """
select story as about, pg_xact_commit_timestamp(xmin) as at from notifier.deliveries where kind = 'paid_issuing'
""",
}
LISTENERS = ("reward", "access", "receipt")


@dataclass(frozen=True)
class Run:
    """One run: payments a second, latencies from the report's publication to the last of the three commits."""

    payments: int
    took_s: float
    latencies_ms: tuple[float, ...]
    cpu_us: Mapping[str, float]
    """Microseconds of a processor per payment, by part."""

    @property
    def per_s(self) -> float:
        return self.payments / self.took_s

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def drain(ground: Ground, sold: Sequence[Sale]) -> Run:
    """All reports lie in the broker before anybody may begin: how fast is the whole?"""
    programs = list(ground.programs.values())
    client = await nats.connect(ground.broker.url)
    try:
        hold(programs)
        await publish_all(client, sold)
        cpu_before, began = ground.cpu_s(), time.time()
        let_go(programs)
        await _until_settled(ground, len(sold))
        ended = max((await committed_at(ground, sold)).values())
        return Run(len(sold), ended - began, (), _cpu_us(ground, cpu_before, len(sold)))
    finally:
        await client.close()


async def at_rate(ground: Ground, sold: Sequence[Sale], per_s: float) -> Run:
    """Reports come evenly, so many a second: how long does each take?"""
    client = await nats.connect(ground.broker.url)
    try:
        cpu_before = ground.cpu_s()
        sent = await _publish_evenly(client, sold, per_s)
        await _until_settled(ground, len(sold))
        done = await committed_at(ground, sold)
        latencies = tuple((done[sale.order] - sent[sale.order]) * 1000 for sale in sold)
        took_s = max(done.values()) - min(sent.values())
        return Run(len(sold), took_s, latencies, _cpu_us(ground, cpu_before, len(sold)))
    finally:
        await client.close()


def _cpu_us(ground: Ground, before: Mapping[str, float], payments: int) -> dict[str, float]:
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


async def _publish_evenly(client: Client, sold: Sequence[Sale], per_s: float) -> dict[Any, float]:
    sent, began, place = {}, time.monotonic(), 0
    while place < len(sold):
        due = min(len(sold), int((time.monotonic() - began) * per_s) + 1)
        for sale in sold[place:due]:
            subject, body, headers = message_of(sale)
            await client.publish(subject, body, headers=headers)
            sent[sale.order] = time.time()
        place = due
        await asyncio.sleep(SEND_EVERY_S)
    return sent


def message_of(sale: Sale) -> tuple[str, bytes, dict[str, str]]:
    fact = sale.report(datetime.now(UTC).replace(microsecond=0))
    headers = {
        "Nats-Msg-Id": str(fact.id),
        "Turnpike-Digest": str(fact.digest()),
        "Turnpike-Hour": hour_of(fact.at),
        "traceparent": sale.trace,
    }
    return fact.subject(), fact.model_dump_json().encode(), headers


async def _until_settled(ground: Ground, payments: int) -> None:
    """Every effect of every payment is there. Raises TimeoutError with what is missing.

    The broker is asked, which costs nearly nothing, and the tables only once it has nothing left.
    """
    connection = await asyncpg.connect(ground.postgres.dsn())
    try:
        ends_at = time.monotonic() + SETTLE_TIMEOUT_S
        while await ground.broker.unsettled() or (counts := await _counts(connection)) != dict.fromkeys(
            counts, payments
        ):
            if time.monotonic() > ends_at:
                raise TimeoutError(f"of {payments} payments there are {json.dumps(await _counts(connection))}")
            await asyncio.sleep(POLL_S)
    finally:
        await connection.close()


async def _counts(connection: Any) -> dict[str, int]:
    return dict(await connection.fetchrow(COUNTS))


async def committed_at(ground: Ground, sold: Sequence[Sale]) -> dict[Any, float]:
    """When the last of the three listeners had committed, by order; seconds since the epoch."""
    connection = await asyncpg.connect(ground.postgres.dsn())
    try:
        moments = {}
        for name in LISTENERS:
            rows = await connection.fetch(COMMITTED[name])
            moments[name] = {row["about"]: row["at"].timestamp() for row in rows}
    finally:
        await connection.close()
    receipts = {sale.order: sale.receipt for sale in sold}
    return {
        order: max(moments["reward"][receipt], moments["access"][order], moments["receipt"][order])
        for order, receipt in receipts.items()
    }


async def start_spine(ground: Ground, settings: Mapping[str, str] | None = None) -> list[Program]:
    """The four services behind the report. No node is named and nobody is written to: the story measures that."""
    return [
        await ground.run("payments", "payments", settings=settings),
        await ground.run("referrals", "referrals", settings=settings),
        await ground.run("vpn", "vpn_provisioner", settings=settings),
        await ground.run("notifier", "notifier", settings=(dict(settings or {}) | SILENT)),
    ]


SILENT = {
    "TURNPIKE_BOT_TOKEN": "42:nobody",
    "TURNPIKE_TELEGRAM_API_URL": "http://127.0.0.1:9",
    "TURNPIKE_NOTIFIER_MESSAGES_PER_S": "0.000001",
}
