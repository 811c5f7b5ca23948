"""The service with an outside provider: it opens, receives notices, and looks itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
import pytest
from structlog.testing import capture_logs

from payments import metrics
from payments.app import build
from payments.domain.provider import Finding
from payments.workers import lease, opening, reading
from shared.contracts.payments import OpenedInvoice
from tests.kit.fake_provider import FakeProvider
from tests.kit.living import living, settings
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from tests.kit.ways_in import Till, a_till

WRONG_KEY = Finding("The secret key is wrong.", blocks=True)


@asynccontextmanager
async def shop(
    fresh_database: MakeDatabase, nats_url: str, provider: FakeProvider, **configured_by: str
) -> AsyncIterator[tuple[Till, str]]:
    """The service runs beside the till; and the address of its webhook."""
    async with a_till(fresh_database, provider) as till:
        configured = settings(till.dsn, nats_url).model_copy(update=configured_by)
        async with living(build(configured, [provider])):
            yield till, f"http://127.0.0.1:{configured.http_port}/webhooks/{provider.name}"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lease, opening, reading):
        monkeypatch.setattr(module, "POLL_S", 0.05)


async def open_page(till: Till) -> tuple[OpenedInvoice, str]:
    person = uuid4()
    asked = await till.ask(person)

    async def is_open() -> bool:
        return bool((await till.row(asked.invoice))["state"] == "open")

    await until(is_open)
    return asked, (await till.row(asked.invoice))["reference"]


async def test_webhook_books_a_payment(fresh_database: MakeDatabase, nats_url: str) -> None:
    """R-16: the same again without a notice, by the watcher."""
    provider = FakeProvider()
    async with shop(fresh_database, nats_url, provider) as (till, url):
        _, reference = await open_page(till)
        provider.pay(reference)
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"reference": reference}) as answer,
        ):
            assert (answer.status, await answer.text()) == (200, "received\n")

        async def booked() -> bool:
            return len(await till.bookings()) == count

        count = 1
        await until(booked)
        _, silent = await open_page(till)
        provider.pay(silent)
        await till.database.execute("update invoice_jobs set due_at = now()")
        count = 2
        await until(booked)
    assert provider.calls[0] == "start"
    assert provider.calls[-1] == "close"


@pytest.mark.parametrize(("sender", "status"), [("203.0.113.9", 401), ("77.75.153.10", 200)])
async def test_sender_is_known_behind_a_local_proxy(
    fresh_database: MakeDatabase, nats_url: str, sender: str, status: int
) -> None:
    """R-120: the server itself does not put the named sender in the place of the proxy."""
    provider = FakeProvider()
    async with shop(fresh_database, nats_url, provider, trusted_proxies="127.0.0.0/8") as (
        till,
        url,
    ):
        _, reference = await open_page(till)
        async with (
            aiohttp.ClientSession(headers={"X-Forwarded-For": sender}) as session,
            session.post(url, json={"reference": reference}) as answer,
        ):
            assert answer.status == status


async def test_blocked_account_is_said_at_the_start(
    fresh_database: MakeDatabase, nats_url: str
) -> None:
    """R-10: wrong credentials are an error with a sentence, and the service runs all the same."""
    provider = FakeProvider(findings=(WRONG_KEY, Finding("It is a test shop.", blocks=False)))
    with capture_logs() as logs:
        async with shop(fresh_database, nats_url, provider) as (till, _):
            blocking = metrics.PROVIDER_FINDINGS.labels("yookassa", "true")
            await until(lambda: blocking._value.get() == 1)
            assert await open_page(till)
    said = {one["finding"]: one["log_level"] for one in logs if one["event"] == "provider"}
    assert said == {WRONG_KEY.sentence: "error", "It is a test shop.": "warning"}


async def test_workers_log_what_they_did(fresh_database: MakeDatabase, nats_url: str) -> None:
    """W-84: an invoice is opened, and its payment found by the watcher."""
    provider = FakeProvider()
    with capture_logs() as logs:
        async with shop(fresh_database, nats_url, provider) as (till, _):
            _, reference = await open_page(till)
            provider.pay(reference)
            await till.database.execute("update invoice_jobs set due_at = now()")

            def done() -> dict[str, list[dict[str, int]]]:
                ended = [one for one in logs if one["event"] == "iteration_end"]
                return {
                    name: [one["outcomes"] for one in ended if one["loop"] == name]
                    for name in ("open_yookassa", "watch_yookassa")
                }

            await until(lambda: {"booked": 1} in done()["watch_yookassa"])
            assert done()["open_yookassa"] == [{"opened": 1}]
