"""A top-up through the whole shop, reported a hundred times while services die and return."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from shared.contracts.bot import Person, PersonQuery
from shared.contracts.payments import Balance, BalanceQuery
from shared.messaging.rpc import Bus
from shared.platform.failpoints import STATUS
from tests.kit.acquirers import Acquirer, Way, acquirers, caught
from tests.kit.quiescence import Quiescence
from tests.kit.waiting import until
from turnpike_cli.querying import opened_bus
from turnpike_local.ports import free_port
from turnpike_local.providers import webhook_of
from turnpike_local.sandbox.client import PersonClient, SandboxClient
from turnpike_local.scenario import started
from turnpike_local.services import Program, service
from turnpike_local.stack import Stack

HANG_S = 60.0
REPORTS, AT_ONCE = 100, 10
WAYS: tuple[Way, ...] = ("stars", "sbp", "crypto")

REFERENCE = "select reference from payments.invoices where pay_url = $1"
RECEIPTS = "select count(*) from payments.receipts where payer = $1"


class Shop:
    """The whole shop, with further processes of its services."""

    def __init__(self, stack: Stack, sandbox: SandboxClient, bus: Bus) -> None:
        self.stack, self.sandbox, self.bus = stack, sandbox, bus
        self.acquirers: dict[Way, Acquirer] = {
            one.way: one for one in acquirers(stack.urls).values()
        }
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

    async def replicate(self) -> None:
        """Two replicas of the services that money passes first."""
        self.payments, _ = await asyncio.gather(self.another("payments"), self.another("bot"))

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.stack.postgres.dsn())
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def person(self, person: PersonClient) -> UUID:
        known = await self.bus.query(PersonQuery(telegram_id=person.id))
        assert isinstance(known, Person)
        return known.person

    async def balance(self, person: PersonClient) -> Balance:
        held = await self.bus.query(BalanceQuery(person=await self.person(person)))
        assert isinstance(held, Balance)
        return held

    async def receipts(self, person: PersonClient) -> int:
        return int((await self.fetch(RECEIPTS, await self.person(person)))[0][0])

    async def quiescent(self) -> None:
        """Until nothing is under way and no invariant is broken."""
        await until(Quiescence(self.stack, self.bus).holds, within_s=HANG_S, every_s=0.1)


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Shop]:
    async with Stack(servers_dir / "topup") as stack:
        assert stack.sandbox is not None
        async with SandboxClient(stack.sandbox.url) as sandbox, opened_bus(stack.broker.url) as bus:
            shop = Shop(stack, sandbox, bus)
            await shop.replicate()
            yield shop
            await asyncio.gather(*(other.stop() for other in shop.others))
            await asyncio.gather(*(one.close() for one in shop.acquirers.values()))


async def invited(sandbox: SandboxClient) -> tuple[PersonClient, PersonClient]:
    """A person, and a friend who came by the link of that person."""
    alice = await sandbox.new_person("Alice", language="en")
    await started(alice)
    await alice.press("Invite")
    link = (await alice.receives("start=r_")).text
    bob = await sandbox.new_person("Bob", language="en")
    await started(bob, f"/start {link[link.index('start=') + len('start=') :].split()[0]}")
    return alice, bob


async def ask_to_pay(person: PersonClient, way: Way, shop: Shop) -> str:
    """A top-up of 500 rubles, up to the button that leads to its invoice; where that leads."""
    label = shop.acquirers[way].label if way in shop.acquirers else "Stars"
    for button in ("Balance", "Top up", "500", label):
        await person.press(button)
    return (await person.button("Pay", timeout_s=HANG_S)).url or ""


async def pay(person: PersonClient, way: Way, shop: Shop) -> str:
    """Pay a top-up of 500 rubles; the reference of the payment at its acquirer."""
    url = await ask_to_pay(person, way, shop)
    if way == "stars":
        assert (await person.pay()).paid
        return str((await shop.sandbox.payments())[0]["charge"])
    acquirer = shop.acquirers[way]
    reference = await reference_of(url, acquirer, shop)
    await acquirer.pay(reference)
    return reference


async def reference_of(url: str, acquirer: Acquirer, shop: Shop) -> str:
    """Of the invoice that the shop shows under this link."""
    rows = await shop.fetch(REFERENCE, url)
    assert len(rows) == 1
    assert rows[0]["reference"] in {one[0] for one in await acquirer.listed()}
    return str(rows[0]["reference"])


async def report_a_hundred_times(person: PersonClient, way: Way, shop: Shop) -> None:
    """The person pays, and two replicas of payments are told of it a hundred times, at once."""
    if way == "stars":
        charge = await pay(person, way, shop)
        for _ in range(REPORTS // AT_ONCE):
            again = (shop.sandbox.repeat(charge, same_update=n % 2 == 0) for n in range(AT_ONCE))
            await asyncio.gather(*again)
        return
    acquirer = shop.acquirers[way]
    replicas = [shop.stack.services["payments"], shop.payments]
    async with caught() as notices:
        await acquirer.post_to(notices.url)
        reference = await pay(person, way, shop)
        await until(lambda: notices.names(reference), within_s=HANG_S)
        urls = [webhook_of(acquirer.name, replica.url) for replica in replicas]
        answers = await notices.deliver(*urls, times=REPORTS)
        await acquirer.post_to_shop(replicas[0].url)
    assert answers == Counter({200: REPORTS})


@pytest.mark.parametrize("way", WAYS)
async def test_a_topup_is_credited_and_rewarded_once(shop: Shop, way: Way) -> None:
    """M-02, R-11: a hundred reports to two replicas, while the handler of rewards dies."""
    alice, bob = await invited(shop.sandbox)
    await shop.stack.services["referrals"].stop()
    dying = await shop.another(
        "referrals", TURNPIKE_FAILPOINT="handler_done referrals_rewards_confirmed 1"
    )
    await report_a_hundred_times(bob, way, shop)
    await until(lambda: dying.child.returncode is not None, within_s=HANG_S)
    assert dying.child.returncode == STATUS
    await shop.stack.services["referrals"].start()
    await bob.receives("topped up", timeout_s=HANG_S)
    await alice.receives("earned", timeout_s=HANG_S)
    await shop.quiescent()
    assert (await shop.balance(bob)).wallet_minor == 50_000
    assert (await shop.balance(alice)).earned_minor == 5_000
    assert await shop.receipts(bob) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_the_balance_buys_and_rewards_nobody(shop: Shop, way: Way) -> None:
    """M-04, M-13: a double tap is one purchase, and the same money is not rewarded again."""
    alice, bob = await invited(shop.sandbox)
    await pay(bob, way, shop)
    await bob.receives("topped up", timeout_s=HANG_S)
    await alice.receives("earned", timeout_s=HANG_S)
    for button in ("Buy", "Basic", "1 month"):
        await bob.press(button)
    await bob.press("from the balance", times=2)
    await bob.receives("vless://", timeout_s=HANG_S)
    await shop.quiescent()
    assert (await shop.balance(bob)).wallet_minor == 50_000 - 14_900
    assert (await shop.balance(alice)).earned_minor == 5_000
