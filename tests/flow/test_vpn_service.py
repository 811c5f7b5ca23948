"""vpn-provisioner as a process, on a real NATS, PostgreSQL and Xray: what is bought carries traffic, whatever dies."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from shared.bus import Bus
from shared.db import Database
from shared.facts import AccessEnded, AccessGranted, PaymentConfirmed
from shared.migrate import migrate
from shared.outbox import Relay, tell
from shared.questions import Access, AskAccess, AskAudit, AskKey, Audit, Key
from tests.kit.access import confirmed, ending_at, until
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker
from turnpike_local.ports import LOOPBACK, answers, free_port
from turnpike_local.postgres import Postgres
from turnpike_local.processes import surroundings
from turnpike_local.services import Program
from turnpike_local.xray import NotFetchedError, XrayNode, fetch_through
from vpn_provisioner.store import nodes

DRAIN_WITHIN_S = 60.0
BACKLOG = 10_000

COUNT_TOLD = "select count(*) from facts where topic = $1"
UNTOLD = "select count(*) from untold"
PEOPLE_TOLD = "select count(distinct (body->>'about')) from facts where topic = $1"
AGREED = "select count(*) from access_jobs where state = 'agreed'"


Record = Callable[[str, object], None]


@dataclass
class Shop:
    """payments as far as it tells purchases, the service under test, its node, and somebody who asks."""

    payments: Database
    vpn: Database
    bus: Bus
    page: str
    node_folder: Path
    page_port: int
    node: XrayNode
    replicas: list[Program]

    async def sell(self, *events: PaymentConfirmed) -> None:
        async with self.payments.transaction() as tx:
            await tell(tx, events)

    async def access(self, person: UUID) -> Access:
        answer = await self.bus.ask(AskAccess(person=person))
        assert isinstance(answer, Access)
        return answer

    async def up(self, person: UUID) -> bool:
        return (await self.access(person)).state == "up"

    async def link(self, person: UUID) -> str:
        answer = await self.bus.ask(AskKey(person=person))
        assert isinstance(answer, Key)
        return answer.link

    async def told(self, fact: type[AccessGranted] | type[AccessEnded]) -> int:
        return int(await self.vpn.fetchval(COUNT_TOLD, fact.topic))

    async def granted_to(self, count: int) -> bool:
        return bool(await self.vpn.fetchval(PEOPLE_TOLD, AccessGranted.topic) == count)

    async def restart_node(self) -> None:
        self.node.kill()
        await self.start_node()

    async def start_node(self) -> None:
        await self.node.stop()
        self.node = await XrayNode.start(self.node_folder, page_port=self.page_port)

    async def at_rest(self) -> None:
        """Nothing is under way, and no invariant is broken."""

        async def nothing_untold() -> bool:
            return not await self.vpn.fetchval(UNTOLD)

        await until(nothing_untold)
        audit = await self.bus.ask(AskAudit.of("vpn")(), timeout_s=20)
        assert isinstance(audit, Audit)
        assert [finding for finding in audit.findings if finding.violations] == []


@asynccontextmanager
async def page_server() -> AsyncIterator[BaseTestServer]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="the page")

    app = web.Application()
    app.router.add_get("/", page)
    async with TestServer(app, host=LOOPBACK) as server:
        yield server


def replica(fresh: FreshDatabase, nats_url: str, node: XrayNode, folder: Path, name: str) -> Program:
    port = free_port()
    environment = surroundings() | {
        "TURNPIKE_VPN_DSN": fresh.dsn("vpn_app"),
        "TURNPIKE_NATS_URL": nats_url,
        "TURNPIKE_HTTP_PORT": str(port),
        "TURNPIKE_VPN_XRAY_API": node.api,
        "TURNPIKE_VPN_XRAY_INBOUND": node.inbound,
        "TURNPIKE_VPN_XRAY_LINK": node.link_template,
    }
    return Program(
        "vpn_provisioner", environment=environment, port=port, ready_path="/readyz", log=folder / f"{name}.log"
    )


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn, name="test")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def shop(fresh_database: MakeDatabase, broker: Broker, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """Two replicas on one node, everything fresh."""
    await broker.wipe()  # What a replica that was killed had not acknowledged would come to another test's database.
    fresh = await fresh_database("payments", "vpn")
    stopping = asyncio.Event()
    async with (
        page_server() as page,
        opened(fresh.dsn("payments_app")) as payments,
        opened(fresh.dsn("vpn_app")) as vpn,
    ):
        assert page.port is not None
        node = await XrayNode.start(tmp_path / "xray", page_port=page.port)
        replicas = [replica(fresh, nats_url, node, tmp_path, name) for name in ("one", "two")]
        bus = Bus(nats_url, "test")
        await bus.open()
        relaying = asyncio.create_task(Relay(payments, bus.client, "payments").run(stopping))
        url = str(page.make_url("/"))
        shop = Shop(payments, vpn, bus, url, tmp_path / "xray", page.port, node, replicas)
        try:
            await asyncio.gather(*(program.start() for program in replicas))
            yield shop
        finally:
            stopping.set()
            await relaying
            await bus.close()
            await asyncio.gather(*(program.stop() for program in replicas))
            await shop.node.stop()


async def test_a_purchase_becomes_a_key_that_carries_traffic_until_its_end(shop: Shop, record_property: Record) -> None:
    """P-16, P-21: the whole way, with the page fetched through the key as the proof; then the end, and no page."""
    person = uuid4()
    began = time.perf_counter()
    await shop.sell(confirmed(person))
    await until(lambda: shop.up(person))
    record_property("bought_to_up_ms", round((time.perf_counter() - began) * 1000))
    link = await shop.link(person)
    assert await fetch_through(link, shop.page) == "the page"
    with pytest.raises(NotFetchedError):
        await fetch_through(link.replace(link[8:44], str(uuid4())), shop.page, timeout_s=2)
    guest = uuid4()
    await shop.sell(ending_at(datetime.now(UTC) + timedelta(seconds=4), guest))
    await until(lambda: shop.up(guest))
    theirs = await shop.link(guest)
    assert await fetch_through(theirs, shop.page) == "the page"

    async def ended() -> bool:
        return await shop.told(AccessEnded) == 1

    await until(ended)
    with pytest.raises(NotFetchedError):
        await fetch_through(theirs, shop.page, timeout_s=2)
    assert await shop.told(AccessGranted) == 2
    await shop.at_rest()


async def test_a_service_that_was_started_before_its_migrations_waits_for_them(
    postgres: Postgres, nats_url: str, tmp_path: Path
) -> None:
    """W-06: it finds no table to put its first node into, and goes on once there is one."""
    fresh = FreshDatabase(await postgres.fresh_database(), postgres)
    node = await XrayNode.start(tmp_path / "xray", page_port=free_port())
    early = replica(fresh, nats_url, node, tmp_path, "early")
    try:
        child = await early.spawn()

        await until(lambda: (tmp_path / "early.log").read_text().count("does not open") > 1 or not child.alive)
        assert child.alive
        assert not await answers(f"{early.url}/readyz")
        await migrate(fresh.dsn("vpn_owner"), "vpn_provisioner")
        await until(lambda: answers(f"{early.url}/readyz"))
        async with opened(fresh.dsn("vpn_app")) as vpn:
            assert [found.address for found in await nodes.serving(vpn)] == [node.api]
    finally:
        await early.stop()
        await node.stop()
        await postgres.drop_database(fresh.name)


async def test_after_a_kill_of_the_core_everybody_is_put_back_within_seconds(
    shop: Shop, record_property: Record
) -> None:
    """Chaos row 31: Xray forgets its users; the keys work again and nobody hears of it twice."""
    people = [uuid4() for _ in range(200)]
    await shop.sell(*(confirmed(person) for person in people))
    await until(lambda: shop.granted_to(200))
    link = await shop.link(people[0])
    assert await fetch_through(link, shop.page) == "the page"
    await shop.restart_node()
    began = time.perf_counter()

    async def works_again() -> bool:
        try:
            return await fetch_through(link, shop.page, timeout_s=2) == "the page"
        except NotFetchedError:
            return False

    await until(works_again, within_s=15)
    record_property("put_back_after_s", round(time.perf_counter() - began, 1))
    assert await shop.link(people[0]) == link

    async def all_agree() -> bool:
        return bool(await shop.vpn.fetchval(AGREED) == 200)

    await until(all_agree)
    assert await shop.told(AccessGranted) == 200
    await shop.at_rest()


async def test_a_replica_killed_in_the_middle_of_a_backlog_loses_and_doubles_nothing(shop: Shop) -> None:
    """Chaos rows 7 and 34: whatever it had taken comes back when the lease ends; each order is told once."""
    people = [uuid4() for _ in range(2_000)]
    await shop.sell(*(confirmed(person) for person in people))

    async def some_told() -> bool:
        return await shop.told(AccessGranted) > 0

    await until(some_told)
    shop.replicas[0].kill()
    await until(lambda: shop.granted_to(2_000))
    await shop.replicas[0].start()
    assert await shop.told(AccessGranted) == 2_000
    assert await shop.up(people[-1])
    await shop.at_rest()


async def test_a_backlog_of_10_000_jobs_drains_within_a_minute(shop: Shop, record_property: Record) -> None:
    """P-11: the node was away while people bought; when it is back, all are let in."""
    shop.node.kill()
    people = [uuid4() for _ in range(BACKLOG)]
    for start in range(0, BACKLOG, 500):
        await shop.sell(*(confirmed(person) for person in people[start : start + 500]))

    async def all_wait() -> bool:
        return bool(await shop.vpn.fetchval("select count(*) from access_jobs") == BACKLOG)

    await until(all_wait, within_s=60)
    assert await shop.told(AccessGranted) == 0
    await shop.start_node()
    began = time.perf_counter()
    await until(lambda: shop.granted_to(BACKLOG), within_s=2 * DRAIN_WITHIN_S)
    took_s = time.perf_counter() - began
    record_property("drained_in_s", round(took_s, 1))
    assert took_s <= DRAIN_WITHIN_S
    assert await shop.told(AccessGranted) == BACKLOG
    assert await fetch_through(await shop.link(people[-1]), shop.page) == "the page"


async def test_a_term_signal_drains_and_ends_with_success(shop: Shop) -> None:
    """R-15, W-24: what was begun is finished, and the process ends by itself."""
    await shop.sell(*(confirmed(uuid4()) for _ in range(300)))
    began = time.perf_counter()
    await shop.replicas[1].stop()
    assert time.perf_counter() - began < 10
    assert shop.replicas[1].child.returncode == 0
    await until(lambda: shop.granted_to(300))
    await shop.at_rest()
