"""The clock of a local shop moves a month ahead while it runs, for all its parts at once."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from shared.contracts.owners import OWNERS
from shared.messaging.rpc import Bus
from shared.platform.roles import role
from tests.kit.waiting import until
from turnpike_cli.audit import audit
from turnpike_cli.querying import opened_bus
from turnpike_local.processes import program
from turnpike_local.sandbox.client import PersonClient, SandboxClient
from turnpike_local.scenario import keys_in, started
from turnpike_local.stack import Stack

HANG_S = 120.0
AHEAD = "select extract(epoch from shop_now() - now())::int"
ORDERS = "select state, count(*)::int as orders from payments.orders group by state"
LEFT = """
select extract(epoch from ends_at - vpn.shop_now())::int
from vpn.subscriptions
order by begun_at desc
limit 1
"""
REMINDER = "Your access ends"
OLD_EVENTS = """
select count(*)::int
from payments.events
where recorded_at < payments.shop_now() - interval '30 days'
"""


@dataclass
class Shop:
    stack: Stack
    sandbox: SandboxClient
    bus: Bus

    async def move(self, ahead: str) -> str:
        """Returns the output of `turnpike clock --ahead`."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")
        }
        process = await asyncio.create_subprocess_exec(
            *(program("turnpike"), "clock", "--ahead", ahead),
            env=environment | {"TURNPIKE_STATE_DIR": str(self.stack.state_dir)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def fetch(self, sql: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.stack.postgres.dsn())
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql)
            return rows
        finally:
            await connection.close()

    async def quiescent(self) -> None:
        async def holds() -> bool:
            return not any(one.finding.violations for one in await audit(self.bus))

        await until(holds, within_s=HANG_S, every_s=0.2)


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Shop]:
    async with Stack(servers_dir / "moved") as stack:
        assert stack.sandbox is not None
        async with SandboxClient(stack.sandbox.url) as sandbox, opened_bus(stack.broker.url) as bus:
            yield Shop(stack, sandbox, bus)


async def asked_to_pay(person: PersonClient) -> None:
    await started(person)
    await offered(person, "Buy")


async def offered(person: PersonClient, begins: str) -> None:
    """A pay sheet for a month, from this button on."""
    for button in (begins, "Basic", "1 month", "Stars"):
        await person.press(button, timeout_s=HANG_S)
    await person.button("Pay", timeout_s=HANG_S)


async def bought(person: PersonClient) -> str:
    """The key of a month that this person has bought."""
    await asked_to_pay(person)
    assert (await person.pay(timeout_s=HANG_S)).paid
    chat = await person.wait_for(lambda chat: bool(keys_in(chat)), timeout_s=HANG_S, what="the key")
    return keys_in(chat)[0]


async def test_a_month_passes_at_once(shop: Shop) -> None:
    """W-80: bought access ends, an unpaid order expires, and nothing is lost or doubled."""
    buyer = await shop.sandbox.new_person("Alice", language="en")
    waverer = await shop.sandbox.new_person("Bob", language="en")
    key = await bought(buyer)
    await asked_to_pay(waverer)
    await shop.quiescent()

    assert "31d ahead of this machine" in await shop.move("31d")

    await buyer.receives("access ended", timeout_s=HANG_S)
    assert (await buyer.try_key(key))[0] != "works"

    async def expired() -> bool:
        states = {row["state"]: row["orders"] for row in await shop.fetch(ORDERS)}
        return states.get("expired") == 1 and not states.get("open")

    await until(expired, within_s=HANG_S, every_s=0.2)

    async def old_events_are_dropped() -> bool:
        return [row[0] for row in await shop.fetch(OLD_EVENTS)] == [0]

    await until(old_events_are_dropped, within_s=HANG_S, every_s=0.2)
    await shop.quiescent()
    keys = keys_in(await buyer.chat())
    assert keys == [key]


async def left_s(shop: Shop) -> int:
    """Seconds until the end of the newest access."""
    return int((await shop.fetch(LEFT))[0][0])


async def test_three_reminders_before_the_end(shop: Shop) -> None:
    """N-05, N-07: one who renews after the first one gets none of the others."""
    stays = await shop.sandbox.new_person("Erin", language="en")
    renews = await shop.sandbox.new_person("Frank", language="en")
    await bought(renews)
    await bought(stays)
    assert not [one for one in (await stays.chat()).from_bot if REMINDER in one.text]
    await shop.move(f"{await left_s(shop) // 3600 - 70}h")
    for person in (stays, renews):
        await person.receives("Less than 3 days left", timeout_s=HANG_S)
    await offered(renews, "Extend")
    assert (await renews.pay(timeout_s=HANG_S)).paid
    await renews.receives("Extended until", timeout_s=HANG_S)
    await shop.move("48h")
    await stays.receives("Less than 1 day left", timeout_s=HANG_S)
    await shop.move("20h")
    await stays.receives("Less than 3 hours left", timeout_s=HANG_S)
    await shop.quiescent()
    for person, reminders in ((stays, 3), (renews, 1)):
        sent = [one for one in (await person.chat()).from_bot if REMINDER in one.text]
        assert len(sent) == reminders


async def test_every_part_has_one_time(shop: Shop) -> None:
    """W-80: each service has it in each session, and the stand-ins in what they write."""
    before = (await shop.sandbox.get("/sandbox/clock"))["ahead_s"]
    assert await shop.move("1h")
    for owner in OWNERS:
        connection = await asyncpg.connect(shop.stack.postgres.dsn(role(owner, "app")))
        try:
            assert await connection.fetchval(AHEAD) == before + 3600
        finally:
            await connection.close()
    person = await shop.sandbox.new_person("Carol", language="en")
    await person.say("/start")
    (update,) = [one for one in (await person.chat()).messages if one.text == "/start"]
    assert update.raw["date"] - time.time() > before


async def test_a_moved_shop_sells(shop: Shop) -> None:
    """W-80: codes, prices, invoices and deadlines agree after the move as before it."""
    buyer = await shop.sandbox.new_person("Dora", language="en")
    await shop.move("1d12h")
    key = await bought(buyer)
    assert (await buyer.try_key(key))[0] == "works"
    await shop.quiescent()
