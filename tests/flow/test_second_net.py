"""The broker comes back with less than it had, in a running shop: noticed by itself, told again, nothing twice."""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.bus import Bus
from shared.facts import PersonStarted
from shared.owners import OWNERS
from turnpike_cli.audit import Found, audit
from turnpike_local.sandbox.client import SandboxClient
from turnpike_local.stack import Stack
from turnpike_local.story import play, started

HANG_S = 120.0
AGO = """
update {owner}.facts set told_at = told_at - interval '3 hours';
update {owner}.inbox set hour = hour - interval '3 hours';
update {owner}.comparisons set due_at = now();
"""
DUE = "update {owner}.comparisons set due_at = now()"


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Stack]:
    async with Stack(servers_dir / "second-net") as stack:
        yield stack


@pytest.fixture
async def bus(shop: Stack) -> AsyncIterator[Bus]:
    opened = Bus(shop.broker.url, "test")
    await opened.open()
    yield opened
    await opened.close()


async def until(true: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(HANG_S):
            while not await true():
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"waited in vain until {what}")


async def until_at_rest(bus: Bus) -> None:
    off: list[Found] = []

    async def holds() -> bool:
        off[:] = [found for found in await audit(bus) if found.finding.violations]
        return not off

    try:
        await until(holds, "every invariant holds")
    except pytest.fail.Exception:
        pytest.fail(f"these do not hold: {off}")


async def asked(shop: Stack, sql: str, *args: object) -> Any:
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        return await connection.fetchval(sql, *args) if args else await connection.fetchval(sql)
    finally:
        await connection.close()


async def everywhere(shop: Stack, statements: str) -> None:
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        for owner in OWNERS:
            await connection.execute(statements.format(owner=owner))
    finally:
        await connection.close()


async def api(bus: Bus, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps(request).encode() if request else b""
    answer: dict[str, Any] = json.loads((await bus.client.request(f"$JS.API.{call}", body, 5)).data)
    return answer


async def test_a_copy_of_the_disk_from_before_the_purchase_is_told_the_purchase_again(shop: Stack, bus: Bus) -> None:
    """W-25: incarnation and durables are the old ones, and every fact since is gone; the sequence went back."""
    disk, copy = shop.broker.state_dir / "nats" / "store", shop.state_dir / "copy"
    await shop.broker.stop()
    shutil.copytree(disk, copy)
    await shop.broker.restart()
    story = await play(shop)
    assert story.ok, [check for check in story.checks if not check.holds]
    before = {owner: await asked(shop, f"select count(*) from {owner}.inbox") for owner in OWNERS}

    await shop.broker.stop()
    shutil.rmtree(disk)
    shutil.copytree(copy, disk)
    await shop.broker.restart()
    assert (await api(bus, "STREAM.INFO.EVT_PAYMENTS"))["state"]["messages"] <= 3

    async def told_again() -> bool:
        told = await asked(shop, "select count(*) from payments.facts")
        return bool((await api(bus, "STREAM.INFO.EVT_PAYMENTS"))["state"]["messages"] >= told)

    await until(told_again, "payments tells the purchase again")
    await until_at_rest(bus)
    assert {owner: await asked(shop, f"select count(*) from {owner}.inbox") for owner in OWNERS} == before


async def test_a_message_that_is_gone_is_missed_at_the_end_of_its_hour_and_heard_after_all(
    shop: Stack, bus: Bus
) -> None:
    """W-25: the stream is the same and goes on; of two who started while referrals was away it has one."""
    assert shop.sandbox is not None
    await shop.services["referrals"].stop()
    async with SandboxClient(shop.sandbox.url) as sandbox:
        for name in ("Carol", "Dave"):
            await started(await sandbox.new_person(name, language="en"))
            await until(lambda: _nothing_waits(shop), f"the start of {name} is told")
    carol, dave = await _last_two(shop)
    (lost,) = [seq for seq, body in [await _message(bus, back) for back in (0, 1, 2, 3)] if str(carol) in body]
    await api(bus, "STREAM.MSG.DELETE.EVT_BOT", {"seq": lost})
    await shop.broker.restart()  # It forgets the id with the message.
    await shop.services["referrals"].start()
    await until(lambda: _knows(shop, dave), "referrals hears of Dave")
    assert not await _knows(shop, carol)

    async def enlisted() -> bool:
        return bool(await asked(shop, "select count(*) from referrals.comparisons") > 0)

    await until(enlisted, "referrals knows what it has to compare")
    await everywhere(shop, AGO)
    await until(lambda: _knows(shop, carol), "referrals misses Carol and hears of her")

    async def agreed() -> bool:
        await everywhere(shop, DUE)
        return not await asked(shop, "select count(*) from referrals.differences")

    await until(agreed, "both sides agree again")
    await until_at_rest(bus)
    told_again = await asked(shop, "select actor from bot.commands where topic = 'bot.tell_again'")
    assert told_again == "service:referrals"


async def _nothing_waits(shop: Stack) -> bool:
    return not await asked(shop, "select count(*) from bot.untold")


async def _last_two(shop: Stack) -> list[Any]:
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        rows = await connection.fetch("select person from bot.people order by started_at desc limit 2")
        return [row["person"] for row in reversed(rows)]
    finally:
        await connection.close()


async def _message(bus: Bus, back: int) -> tuple[int, str]:
    """One of the last messages of bot's stream, its sequence and its headers and body."""
    last = (await api(bus, "STREAM.INFO.EVT_BOT"))["state"]["last_seq"]
    message = (await api(bus, "STREAM.MSG.GET.EVT_BOT", {"seq": last - back}))["message"]
    of_a_start = message["subject"] == PersonStarted.subject()
    return message["seq"], base64.b64decode(message["data"]).decode() if of_a_start else ""


async def _knows(shop: Stack, person: object) -> bool:
    return bool(await asked(shop, "select count(*) from referrals.people where person = $1", person))
