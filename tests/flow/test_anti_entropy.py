"""A running shop whose broker lost messages: they are republished, and nothing happens twice."""

import base64
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.contracts.bot import PersonStarted
from shared.contracts.owners import OWNERS
from shared.messaging.rpc import Bus
from tests.kit.quiescence import Quiescence
from tests.kit.waiting import until
from turnpike_local.sandbox.client import SandboxClient
from turnpike_local.scenario import play, started
from turnpike_local.services import Program
from turnpike_local.stack import Stack

HANG_S = 120.0
EVERY_S = 0.2
THREE_HOURS_OLDER = """
update {owner}.events set recorded_at = recorded_at - interval '3 hours';
update {owner}.inbox set hour = hour - interval '3 hours';
update {owner}.comparisons set due_at = now();
"""
DUE = "update {owner}.comparisons set due_at = now()"
PENDING = "select count(*) from bot.outbox"
KNOWN = "select count(*) from referrals.people where person = $1"
LAST_TWO = "select person from bot.people order by started_at desc limit 2"


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Stack]:
    async with Stack(servers_dir / "anti-entropy") as stack:
        yield stack


@pytest.fixture
async def bus(shop: Stack) -> AsyncIterator[Bus]:
    opened = Bus(shop.broker.url, "test")
    await opened.open()
    yield opened
    await opened.close()


async def until_quiescent(shop: Stack, bus: Bus) -> None:
    quiescence = Quiescence(shop, bus)
    try:
        await until(quiescence.holds, within_s=HANG_S, every_s=EVERY_S)
    except AssertionError:
        pytest.fail(f"something is under way, or these do not hold: {quiescence.violated}")


async def fetched(shop: Stack, sql: str, *args: object) -> list[Any]:
    """The first column of every row."""
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        return [row[0] for row in await connection.fetch(sql, *args)]
    finally:
        await connection.close()


async def value(shop: Stack, sql: str, *args: object) -> Any:
    [found] = await fetched(shop, sql, *args)
    return found


async def at_every_owner(shop: Stack, statements: str) -> None:
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        for owner in OWNERS:
            await connection.execute(statements.format(owner=owner))
    finally:
        await connection.close()


@contextmanager
def suspended(program: Program) -> Iterator[None]:
    """The process publishes nothing, and sees the end of its connection only afterwards."""
    os.kill(program.child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(program.child.pid, signal.SIGCONT)


async def inbox_sizes(shop: Stack) -> dict[str, int]:
    return {owner: await value(shop, f"select count(*) from {owner}.inbox") for owner in OWNERS}


async def api(bus: Bus, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps(request).encode() if request else b""
    answer: dict[str, Any] = json.loads((await bus.client.request(f"$JS.API.{call}", body, 5)).data)
    return answer


async def test_a_restored_broker_disk_gets_its_events_republished(shop: Stack, bus: Bus) -> None:
    """W-25: the copy of the disk is from before the purchase.

    Incarnation and durables are the old ones, every event since is gone, and the sequence went
    back.
    """
    disk, copy = shop.broker.state_dir / "nats" / "store", shop.state_dir / "copy"
    await shop.broker.stop()
    shutil.copytree(disk, copy)
    await shop.broker.restart()
    purchase = await play(shop)
    assert purchase.ok, [check for check in purchase.checks if not check.holds]
    await until_quiescent(shop, bus)
    before = await inbox_sizes(shop)
    held = (await api(bus, "STREAM.INFO.EVT_PAYMENTS"))["state"]["messages"]

    await shop.broker.stop()
    shutil.rmtree(disk)
    shutil.copytree(copy, disk)
    with suspended(shop.services["payments"]):
        await shop.broker.restart()
        assert (await api(bus, "STREAM.INFO.EVT_PAYMENTS"))["state"]["messages"] < held

    async def republished() -> bool:
        recorded = await value(shop, "select count(*) from payments.events")
        return bool((await api(bus, "STREAM.INFO.EVT_PAYMENTS"))["state"]["messages"] >= recorded)

    await until(republished, within_s=HANG_S, every_s=EVERY_S)
    await until_quiescent(shop, bus)
    assert await inbox_sizes(shop) == before


async def test_a_lost_message_is_republished_after_its_hour(shop: Stack, bus: Bus) -> None:
    """W-25: the stream is the same and goes on.

    Two people started while referrals was down, and the broker kept the event of one of them.
    """
    assert shop.sandbox is not None

    async def none_pending() -> bool:
        return not await value(shop, PENDING)

    await shop.services["referrals"].stop()
    async with SandboxClient(shop.sandbox.url) as sandbox:
        for name in ("Carol", "Dave"):
            await started(await sandbox.new_person(name, language="en"))
            await until(none_pending, within_s=HANG_S, every_s=EVERY_S)
    dave, carol = await fetched(shop, LAST_TWO)
    await lose_start_of(carol, bus)
    await shop.broker.restart()  # It forgets the id with the message.
    await shop.services["referrals"].start()
    await until_known(shop, dave)
    assert not await value(shop, KNOWN, carol)

    async def comparisons_exist() -> bool:
        return bool(await value(shop, "select count(*) from referrals.comparisons") > 0)

    await until(comparisons_exist, within_s=HANG_S, every_s=EVERY_S)
    await at_every_owner(shop, THREE_HOURS_OLDER)
    await until_known(shop, carol)

    async def agreed() -> bool:
        await at_every_owner(shop, DUE)
        return not await value(shop, "select count(*) from referrals.differences")

    await until(agreed, within_s=HANG_S, every_s=EVERY_S)
    await until_quiescent(shop, bus)
    republish = "select actor from bot.commands where topic = 'bot.republish'"
    assert (await fetched(shop, republish))[0] == "service:referrals"


async def until_known(shop: Stack, person: object) -> None:
    """Until referrals handled the start of this person."""

    async def known() -> bool:
        return bool(await value(shop, KNOWN, person))

    await until(known, within_s=HANG_S, every_s=EVERY_S)


async def lose_start_of(person: object, bus: Bus) -> None:
    """Delete the event that this person started, one of the last four messages of the stream."""
    last = (await api(bus, "STREAM.INFO.EVT_BOT"))["state"]["last_seq"]
    found = []
    for sequence in range(last, last - 4, -1):
        message = (await api(bus, "STREAM.MSG.GET.EVT_BOT", {"seq": sequence}))["message"]
        body = base64.b64decode(message["data"]).decode()
        if message["subject"] == PersonStarted.subject() and str(person) in body:
            found.append(sequence)
    [sequence] = found
    await api(bus, "STREAM.MSG.DELETE.EVT_BOT", {"seq": sequence})
