"""Notices of YooKassa at a steady rate: from the moment when each was due to the answer.

the driver ─▶ payments: the webhook, a row, 200 ─▶ read back at the stand-in ─▶ booked
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import aiohttp

from payments.domain.provider import Asked, Opened
from payments.providers.yookassa.client import Yookassa
from tests.load.pipeline import check_effects, counts, evenly, percentile
from tests.load.seed import PRICE_MINOR, Sale, sales, seed
from tests.load.table import Line
from tests.load.testbed import Testbed
from tests.load.yookassa import SHOP, settings, stand_in
from turnpike_local.yookassa import YookassaControl

RATE = 200
SECONDS = 20
WARM_UP = 200
REPEATED = 10
"""One notice of so many is a repeated one."""
AT_ONCE = 16
POLL_S = 0.25
BOOK_TIMEOUT_S = 300.0

ASK_BY_SBP = """
update payments.invoices i
set way = 'sbp', acquirer = 'yookassa', asked_minor = $3, asked_currency = 'RUB', worth_minor = $3,
  reference = r.reference, pay_url = 'https://pay.example/'
from unnest($1::uuid[], $2::text[]) as r (invoice, reference)
where i.id = r.invoice
"""

# The watcher asks after the run: here the notices do all the work.
WATCH = """
insert into payments.invoice_jobs (invoice, acquirer, step, reference, due_at)
select id, acquirer, 'watch', reference, now() + interval '1 hour'
from payments.invoices
"""

# The provider's pace holds while notices come. Afterwards only the bookings matter, not the pace.
LIFT_PACE = """
update payments.provider_pace
set every = '1 millisecond', next_at = now()
where acquirer = 'yookassa' and lane = 'notice'
"""

WAITING = "select count(*) from payments.notices where state in ('waiting', 'asking')"

COUNTS = """
select
  (select count(*) from payments.receipts where acquirer = 'yookassa') as receipts,
  (select count(*) from payments.bookings where outcome = 'bought') as booked,
  (select count(*) from payments.transfers where reason = 'receipt') as came,
  (select count(*) from payments.transfers where reason = 'purchase') as bought,
  (select count(*) from payments.invoices where state = 'paid') as paid
"""


@dataclass(frozen=True)
class Answered:
    """The answers of the webhook, in the order of the notices."""

    statuses: tuple[int, ...]
    latencies_ms: tuple[float, ...]

    @property
    def accepted_percent(self) -> float:
        return 100 * self.statuses.count(200) / len(self.statuses)


async def measure(testbed: Testbed) -> list[Line]:
    told = RATE * SECONDS
    sold = sales(WARM_UP + told - told // REPEATED, seed=5, payers_per_partner=1)
    warm_up, measured = sold[:WARM_UP], sold[WARM_UP:]
    again = measured[: told // REPEATED]
    lot = [*measured, *again]
    Random(5).shuffle(lot)
    async with stand_in(testbed.folder) as url:
        bodies = await _paid_at_provider(testbed, url, sold)
        # Before the service runs: its reconciliation books old payments from the listing at once.
        before = await counts(testbed, COUNTS)
        program = await testbed.run("payments", "payments", settings=settings(url))
        async with _webhook(program.url) as http:
            await _tell(http, warm_up, bodies)
            await testbed.analyze()
            answered = await _tell(http, lot, bodies)
        await testbed.fetch(LIFT_PACE)
        await _until_settled(testbed)
        await check_effects(testbed, COUNTS, before, len(sold))
    return _lines(answered)


def _lines(answered: Answered) -> list[Line]:
    at_rate = f"at {RATE}/s, one in {REPEATED} repeated"
    p50, p99 = (percentile(answered.latencies_ms, percent) for percent in (50, 99))
    what = f"notices of YooKassa {at_rate}: p99 of the answer"
    return [
        Line("notices.p99", what, p99, "ms", target=50, at_least=False),
        Line("notices.p50", "p50 of the answer", p50, "ms"),
        Line("notices.accepted", "answered 200", answered.accepted_percent, "%", target=100),
    ]


async def _paid_at_provider(
    testbed: Testbed, url: str, sold: Sequence[Sale]
) -> Mapping[Sale, dict[str, Any]]:
    """The notice of each sale: all were opened by our client, and paid by their payers."""
    free, bodies = asyncio.Semaphore(AT_ONCE), dict[Sale, dict[str, Any]]()
    provider = Yookassa(SHOP.shop_id, SHOP.secret_key, f"{url}/v3")
    await provider.start()
    async with YookassaControl(url) as payers, asyncio.TaskGroup() as group:

        async def pay(sale: Sale) -> None:
            async with free:
                opened = await provider.open(_asked(sale))
                assert isinstance(opened, Opened), opened
                paid = await payers.pay(opened.reference)
                bodies[sale] = {"type": "notification", "event": "payment.succeeded"}
                bodies[sale]["object"] = paid

        for sale in sold:
            group.create_task(pay(sale))
    await provider.close()
    await seed(testbed.postgres.dsn(), sold)
    references = [bodies[sale]["object"]["id"] for sale in sold]
    await testbed.fetch(ASK_BY_SBP, [sale.invoice for sale in sold], references, PRICE_MINOR)
    await testbed.fetch(WATCH)
    return bodies


def _asked(sale: Sale) -> Asked:
    return Asked(
        invoice=sale.invoice,
        way="sbp",
        amount_minor=PRICE_MINOR,
        currency="RUB",
        description=f"VPN #{sale.order.hex[:8]}",
        payload=sale.payload,
        return_url="https://t.me/",
        expires_in_s=1800,
        since=datetime.now(UTC),
    )


@asynccontextmanager
async def _webhook(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


async def _tell(
    http: aiohttp.ClientSession, sold: Sequence[Sale], bodies: Mapping[Sale, dict[str, Any]]
) -> Answered:
    """Post a notice of each sale when it is due, whether or not those before were answered."""

    async def post(sale: Sale, due_at: float) -> tuple[int, float]:
        async with http.post("/webhooks/yookassa", json=bodies[sale]) as answer:
            await answer.read()
            return answer.status, (time.time() - due_at) * 1000

    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(post(sale, due_at)) async for sale, due_at in evenly(sold, RATE)]
    answers = [post.result() for post in posts]
    return Answered(tuple(status for status, _ in answers), tuple(took for _, took in answers))


async def _until_settled(testbed: Testbed) -> None:
    """Wait until no notice is left. Raises TimeoutError."""
    async with asyncio.timeout(BOOK_TIMEOUT_S):
        while (await testbed.fetch(WAITING))[0]["count"]:
            await asyncio.sleep(POLL_S)
