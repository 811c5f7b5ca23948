"""Providers that are away, late or broken: each unclear answer has one outcome."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from payments.domain.provider import (
    Failure,
    SlowDown,
    Unavailable,
    Unknown,
    Unsupported,
)
from payments.providers.caller import ANSWER_BYTES
from payments.providers.protocol import Provider
from tests.kit.providers import CLIENTS, answering, asked_by, sample, started
from tests.kit.waiting import HANG_S

CLOSED = "http://127.0.0.1:1"  # Nobody listens there.
SINCE = datetime(2026, 10, 1, tzinfo=UTC)


async def outcomes(provider: Provider) -> dict[str, Any]:
    """Every call once."""
    asked, until = asked_by(provider.ways[0], SINCE), SINCE + timedelta(hours=1)
    return {
        "open": await provider.open(asked),
        "find": await provider.find(asked),
        "read": await provider.read(["1"]),
        "list_payments": await provider.list_payments(SINCE, until, None),
        "list_refunds": await provider.list_refunds(SINCE, until, None),
        "refund": await provider.refund("1", 100, "RUB", uuid4()),
        "read_refund": await provider.read_refund("1"),
        "capture": await provider.capture("1", 100, "RUB"),
        "cancel": await provider.cancel("1"),
    }


async def all_are(provider: Provider, *expected: type[Failure]) -> None:
    for call, outcome in (await outcomes(provider)).items():
        if not isinstance(outcome, Unsupported):
            assert isinstance(outcome, expected), f"{call}: {outcome}"


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_provider_that_is_away_was_not_asked(name: str) -> None:
    async with started(CLIENTS[name](CLOSED)) as provider:
        await all_are(provider, Unavailable)
        (finding,) = await provider.check()
        assert not finding.blocks


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_late_answer_is_unknown(name: str) -> None:
    """R-56: within the client's own time-out. The answer comes only after that."""
    timed_out = asyncio.Event()

    async def late(_: web.Request) -> web.Response:
        await timed_out.wait()
        return web.Response()

    async with answering(late) as url, started(CLIENTS[name](url, call_timeout_s=0.5)) as provider:
        asked = asked_by(provider.ways[0], SINCE)
        async with asyncio.timeout(HANG_S):
            outcome = await provider.open(asked)
        timed_out.set()
        assert isinstance(outcome, Unknown)
        assert outcome.then == ("find" if name == "cryptobot" else "repeat")


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"", Unknown),
        (200, b"<html>", Unknown),
        (200, b"[]", Unknown),
        (200, b"[" * 100_000, Unknown),
        (200, b"\xff", Unknown),
        (200, b'{"id": 7, "items": 7, "ok": true, "result": {"items": 7}}', Unknown),
        (302, b"", Unknown),
        (403, b"<html>blocked by a guard</html>", Unknown),
        (429, b"", SlowDown),
        (500, b"", Unknown),
        (502, b"<html>", Unknown),
        (503, b"{}", Unknown),
    ],
)
async def test_an_unclear_answer_has_one_outcome(
    name: str, status: int, body: bytes, expected: type[Failure]
) -> None:
    """R-56: only the provider's own error refuses. Reads and acts are alike."""

    async def answer(request: web.Request) -> web.Response:
        headers = {"Location": str(request.url.with_path("/elsewhere"))} if status == 302 else {}
        return web.Response(status=status, body=body, headers=headers)

    async with answering(answer) as url, started(CLIENTS[name](url)) as provider:
        found = await outcomes(provider)
        if status == 200 and body.startswith(b"{"):  # An object, but none of a payment.
            for call in ("read", "read_refund", "capture", "cancel"):
                del found[call]
        for call, outcome in found.items():
            if not isinstance(outcome, Unsupported):
                assert isinstance(outcome, expected), f"{call}: {outcome}"


@pytest.mark.parametrize("name", CLIENTS)
async def test_credentials_follow_no_redirect(name: str) -> None:
    """S-07: they are for one address."""
    reached = []

    async def elsewhere(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.json_response({})

    async with answering(elsewhere) as other:

        async def moved(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": other})

        async with answering(moved) as url, started(CLIENTS[name](url)) as provider:
            await all_are(provider, Unknown)
    assert not reached


async def test_a_list_in_another_order_proves_nothing() -> None:
    """R-56: the invoice may be behind the old ones, so it is neither absent nor at an end."""
    paid = [sample("cryptobot/invoice_in_asset"), sample("cryptobot/invoice_paid")]
    body = json.dumps({"ok": True, "result": {"items": paid}}, default=str)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    async with answering(answer) as url, started(CLIENTS["cryptobot"](url)) as provider:
        later = SINCE + timedelta(days=60)
        assert isinstance(await provider.find(asked_by("crypto", later)), Unknown)
        assert isinstance(await provider.list_payments(later, later, None), Unknown)


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_answer_has_a_bound(name: str) -> None:
    """A broken server cannot fill the memory."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 1024 * 1024)
            sent += 1024 * 1024

    async with answering(endless) as url, started(CLIENTS[name](url)) as provider:
        outcome = await provider.open(asked_by(provider.ways[0], SINCE))
    assert isinstance(outcome, Unknown)
    assert str(ANSWER_BYTES) in outcome.reason
    assert sent < 3 * ANSWER_BYTES


@pytest.mark.parametrize("name", CLIENTS)
async def test_credentials_are_in_no_outcome(name: str) -> None:
    """S-07: also not those of the proxy."""
    proxy = "http://user:hunter2@127.0.0.1:1"
    async with started(CLIENTS[name]("http://a.invalid", proxy=proxy)) as provider:
        shown = [repr(provider), *(repr(one) for one in (await outcomes(provider)).values())]
        shown += [one.sentence for one in await provider.check()]
    assert not any("hunter2" in one for one in shown)
    assert any("Unavailable" in one for one in shown)
