"""A top-up through the whole shop, reported a hundred times while services die and return."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.bot import Person, PersonQuery
from shared.contracts.payments import Balance, BalanceQuery
from shared.messaging.rpc import Bus
from shared.platform.failpoints import STATUS
from tests.kit.quiescence import Quiescence
from tests.kit.waiting import until
from turnpike_cli.querying import opened_bus
from turnpike_local.ports import free_port
from turnpike_local.sandbox.client import PersonClient, SandboxClient
from turnpike_local.scenario import started
from turnpike_local.services import Program, service
from turnpike_local.stack import Stack

HANG_S = 60.0
REPORTS, AT_ONCE = 100, 10


class Shop:
    """The whole shop, with further processes of its services."""

    def __init__(self, stack: Stack, sandbox: SandboxClient, bus: Bus) -> None:
        self.stack, self.sandbox, self.bus = stack, sandbox, bus
        self.others: list[Program] = []

    async def another(self, owner: str, **environment: str) -> Program:
        """One more process of a service."""
        port = free_port()
        program = Program(
            service(owner).package,
            environment=self.stack.environment(owner)
            | {"TURNPIKE_HTTP_PORT": str(port)}
            | environment,
            port=port,
            ready_path="/readyz",
            log=self.stack.state_dir / f"{owner}-{len(self.others)}.log",
        )
        self.others.append(program)
        await program.start()
        return program

    async def balance(self, person: PersonClient) -> Balance:
        known = await self.bus.query(PersonQuery(telegram_id=person.id))
        assert isinstance(known, Person)
        held = await self.bus.query(BalanceQuery(person=known.person))
        assert isinstance(held, Balance)
        return held

    async def quiescent(self) -> None:
        """Until nothing is under way and no invariant is broken."""
        await until(Quiescence(self.stack, self.bus).holds, within_s=HANG_S, every_s=0.1)


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Shop]:
    async with Stack(servers_dir / "topup") as stack:
        assert stack.sandbox is not None
        async with SandboxClient(stack.sandbox.url) as sandbox, opened_bus(stack.broker.url) as bus:
            shop = Shop(stack, sandbox, bus)
            yield shop
            await asyncio.gather(*(other.stop() for other in shop.others))


async def invited(sandbox: SandboxClient) -> tuple[PersonClient, PersonClient]:
    """A person, and a friend who came by the link of that person."""
    alice = await sandbox.new_person("Alice", language="en")
    await started(alice)
    await alice.press("Invite")
    link = (await alice.receives("start=r_")).text
    bob = await sandbox.new_person("Bob", language="en")
    await started(bob, f"/start {link[link.index('start=') + len('start=') :].split()[0]}")
    return alice, bob


async def test_a_topup_is_credited_and_rewarded_once(shop: Shop) -> None:
    """M-02: a hundred reports over two replicas, while the handler of rewards dies and returns."""
    alice, bob = await invited(shop.sandbox)
    await asyncio.gather(shop.another("payments"), shop.another("bot"))
    await shop.stack.services["referrals"].stop()
    dying = await shop.another(
        "referrals", TURNPIKE_FAILPOINT="handler_done referrals_rewards_confirmed 1"
    )
    for button in ("Balance", "Top up", "500", "Stars"):
        await bob.press(button)
    await bob.button("Pay")
    assert (await bob.pay()).paid
    [payment] = await shop.sandbox.payments()
    for _ in range(REPORTS // AT_ONCE):
        reports = (
            shop.sandbox.repeat(payment["charge"], same_update=nth % 2 == 0)
            for nth in range(AT_ONCE)
        )
        await asyncio.gather(*reports)
    await until(lambda: dying.child.returncode is not None, within_s=HANG_S)
    assert dying.child.returncode == STATUS
    await shop.stack.services["referrals"].start()
    await bob.receives("topped up", timeout_s=HANG_S)
    await alice.receives("earned", timeout_s=HANG_S)
    await shop.quiescent()
    assert (await shop.balance(bob)).wallet_minor == 50_000
    assert (await shop.balance(alice)).earned_minor == 5_000


async def test_the_balance_buys_and_rewards_nobody(shop: Shop) -> None:
    """M-04, M-13: a double tap is one purchase, and the same money is not rewarded again."""
    alice, bob = await invited(shop.sandbox)
    for button in ("Balance", "Top up", "500", "Stars"):
        await bob.press(button)
    await bob.button("Pay")
    assert (await bob.pay()).paid
    await bob.receives("topped up", timeout_s=HANG_S)
    await alice.receives("earned", timeout_s=HANG_S)
    for button in ("Buy", "Basic", "1 month"):
        await bob.press(button)
    await bob.press("from the balance", times=2)
    await bob.receives("vless://", timeout_s=HANG_S)
    await shop.quiescent()
    assert (await shop.balance(bob)).wallet_minor == 50_000 - 14_900
    assert (await shop.balance(alice)).earned_minor == 5_000
