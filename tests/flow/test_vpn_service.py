"""vpn-provisioner as a process on a real NATS, PostgreSQL and Xray: purchases carry traffic."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from shared.contracts.operations import Audit, AuditQuery
from shared.contracts.payments import PaymentConfirmed
from shared.contracts.vpn import Access, AccessEnded, AccessGranted, AccessQuery, Key, KeyQuery
from shared.messaging.outbox import publish
from shared.messaging.relay import Relay
from shared.messaging.rpc import Bus
from shared.platform.db import Database
from shared.platform.migrate import migrate
from tests.kit.access import confirmed, ending_at
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until
from turnpike_local.broker import Broker
from turnpike_local.ports import LOOPBACK, free_port
from turnpike_local.postgres import Postgres
from turnpike_local.processes import surroundings
from turnpike_local.services import Program
from turnpike_local.xray import NotFetchedError, XrayNode, fetch_through
from vpn_provisioner.panels.xray.panel import XrayPanel
from vpn_provisioner.store import nodes

DRAIN_WITHIN_S = 600.0
BACKLOG = 10_000
CROWD = 1_000
HANG_S = 120.0

COUNT_PUBLISHED = "select count(*) from events where topic = $1"
COUNT_PENDING = "select count(*) from outbox"
PEOPLE_GRANTED = "select count(distinct (body->>'about')) from events where topic = $1"
AGREED = "select count(*) from access_jobs where state = 'agreed'"
AN_HOUR_AGO = """
update periods set booked_at = booked_at - interval '1 hour' where person = '{person}';
update subscriptions set ends_at = ends_at - interval '1 hour' where person = '{person}';
"""
ALL_AN_HOUR_AGO = """
update periods set booked_at = booked_at - interval '1 hour';
update subscriptions set ends_at = ends_at - interval '1 hour';
"""

Record = Callable[[str, object], None]


@dataclass
class Shop:
    """The outbox of payments, two replicas of the service, their node, and a client of the bus."""

    payments: Database
    vpn: Database
    owner: Database
    bus: Bus
    page: str
    node_folder: Path
    page_port: int
    node: XrayNode
    replicas: list[Program]

    async def sell(self, *events: PaymentConfirmed) -> None:
        async with self.payments.transaction() as tx:
            await publish(tx, events)

    async def access(self, person: UUID) -> Access:
        answer = await self.bus.query(AccessQuery(person=person))
        assert isinstance(answer, Access)
        return answer

    async def up(self, person: UUID) -> bool:
        return (await self.access(person)).state == "up"

    async def link(self, person: UUID) -> str:
        answer = await self.bus.query(KeyQuery(person=person))
        assert isinstance(answer, Key)
        return answer.link

    async def published(self, event: type[AccessGranted] | type[AccessEnded]) -> int:
        return int(await self.vpn.fetchval(COUNT_PUBLISHED, event.topic))

    async def granted_to(self, count: int) -> bool:
        return bool(await self.vpn.fetchval(PEOPLE_GRANTED, AccessGranted.topic) == count)

    async def restart_node(self) -> None:
        self.node.kill()
        await self.start_node()

    async def start_node(self) -> None:
        await self.node.stop()
        self.node = await XrayNode.start(self.node_folder, page_port=self.page_port)

    async def quiescent(self) -> None:
        """Wait until nothing is pending and no invariant is broken."""

        async def outbox_is_empty() -> bool:
            return not await self.vpn.fetchval(COUNT_PENDING)

        await until(outbox_is_empty)
        await until(self.keeps_its_invariants)

    async def keeps_its_invariants(self) -> bool:
        audit = await self.bus.query(AuditQuery.of("vpn")(), timeout_s=20)
        assert isinstance(audit, Audit)
        return not any(finding.violations for finding in audit.findings)


@asynccontextmanager
async def page_server() -> AsyncIterator[BaseTestServer]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="the page")

    app = web.Application()
    app.router.add_get("/", page)
    async with TestServer(app, host=LOOPBACK) as server:
        yield server


def replica(
    fresh: FreshDatabase, nats_url: str, node: XrayNode, folder: Path, name: str
) -> Program:
    port = free_port()
    environment = surroundings() | {
        "TURNPIKE_VPN_DSN": fresh.dsn("vpn_app"),
        "TURNPIKE_NATS_URL": nats_url,
        "TURNPIKE_HTTP_PORT": str(port),
        "TURNPIKE_TELEGRAM_API_URL": "http://127.0.0.1",  # Keys of this machine are allowed.
        "TURNPIKE_VPN_XRAY_API": node.api,
        "TURNPIKE_VPN_XRAY_INBOUND": node.inbound,
        "TURNPIKE_VPN_XRAY_LINK": node.link_template,
    }
    return Program(
        "vpn_provisioner",
        environment=environment,
        port=port,
        ready_path="/readyz",
        log=folder / f"{name}.log",
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
async def shop(
    fresh_database: MakeDatabase, broker: Broker, nats_url: str, tmp_path: Path
) -> AsyncIterator[Shop]:
    """Two replicas on one node, everything fresh."""
    # Events that a killed replica did not acknowledge would reach another test's database.
    await broker.wipe()
    fresh = await fresh_database("payments", "vpn")
    stopping = asyncio.Event()
    async with (
        page_server() as page,
        opened(fresh.dsn("payments_app")) as payments,
        opened(fresh.dsn("vpn_app")) as vpn,
        opened(fresh.dsn("vpn_owner")) as owner,
    ):
        assert page.port is not None
        node = await XrayNode.start(tmp_path / "xray", page_port=page.port)
        replicas = [replica(fresh, nats_url, node, tmp_path, name) for name in ("one", "two")]
        bus = Bus(nats_url, "test")
        await bus.open()
        relaying = asyncio.create_task(Relay(payments, bus.client, "payments").run(stopping))
        url = str(page.make_url("/"))
        shop = Shop(payments, vpn, owner, bus, url, tmp_path / "xray", page.port, node, replicas)
        try:
            await asyncio.gather(*(program.start() for program in replicas))
            yield shop
        finally:
            stopping.set()
            await relaying
            await bus.close()
            await asyncio.gather(*(program.stop() for program in replicas))
            await shop.node.stop()


async def test_a_bought_key_carries_traffic_until_its_end(
    shop: Shop, record_property: Record
) -> None:
    """P-16, P-21: a page is fetched through the key as the proof; after the end it is not."""
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
    await shop.sell(ending_at(datetime.now(UTC) + timedelta(hours=1), guest))
    await until(lambda: shop.up(guest))
    theirs = await shop.link(guest)
    assert await fetch_through(theirs, shop.page) == "the page"
    await shop.owner.execute(AN_HOUR_AGO.format(person=guest))

    async def ended() -> bool:
        return await shop.published(AccessEnded) == 1

    await until(ended)
    with pytest.raises(NotFetchedError):
        await fetch_through(theirs, shop.page, timeout_s=2)
    assert await shop.published(AccessGranted) == 2
    await shop.quiescent()


async def test_1_000_ends_at_once_are_confirmed(shop: Shop, record_property: Record) -> None:
    """P-16, P-21, P-22: all end at one moment. None is published while the node lets them in."""
    people = [uuid4() for _ in range(CROWD)]
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    await shop.sell(*(ending_at(in_an_hour, person) for person in people))
    await until(lambda: shop.granted_to(CROWD), within_s=HANG_S)
    node = XrayPanel(shop.node.api, shop.node.inbound, flow="")
    assert (await node.vitals()).users == CROWD
    await shop.owner.execute(ALL_AN_HOUR_AGO)
    began = time.perf_counter()

    async def all_ended() -> bool:
        published = await shop.published(AccessEnded)
        assert (await node.vitals()).users <= CROWD - published
        return published == CROWD

    await until(all_ended, within_s=DRAIN_WITHIN_S)
    record_property("1_000_ends_published_after_s", round(time.perf_counter() - began, 1))
    await node.close()
    await shop.quiescent()


async def is_ready(program: Program) -> bool:
    """An answer that takes longer than two seconds is none."""
    with suppress(OSError):
        return await program.ready()
    return False


async def test_a_service_waits_for_its_migrations(
    postgres: Postgres, nats_url: str, tmp_path: Path
) -> None:
    """W-06: it finds no table for its first node, and continues once the table is there."""
    fresh = FreshDatabase(await postgres.fresh_database(), postgres)
    node = await XrayNode.start(tmp_path / "xray", page_port=free_port())
    early = replica(fresh, nats_url, node, tmp_path, "early")
    try:
        child = await early.spawn()

        await until(
            lambda: (tmp_path / "early.log").read_text().count("cannot open") > 1 or not child.alive
        )
        assert child.alive
        assert not await is_ready(early)
        await migrate(fresh.dsn("vpn_owner"), "vpn_provisioner")
        await until(lambda: is_ready(early))
        async with opened(fresh.dsn("vpn_app")) as vpn:
            assert [found.address for found in await nodes.serving(vpn)] == [node.api]
    finally:
        await early.stop()
        await node.stop()
        await postgres.drop_database(fresh.name)


async def test_a_killed_core_gets_everybody_back(shop: Shop, record_property: Record) -> None:
    """Chaos row 31: Xray loses its users. Within seconds the keys work again.

    Nothing is published twice.
    """
    people = [uuid4() for _ in range(200)]
    await shop.sell(*(confirmed(person) for person in people))
    await until(lambda: shop.granted_to(200), within_s=HANG_S)
    link = await shop.link(people[0])
    assert await fetch_through(link, shop.page) == "the page"
    await shop.restart_node()
    began = time.perf_counter()

    async def works_again() -> bool:
        try:
            return await fetch_through(link, shop.page) == "the page"
        except NotFetchedError:
            return False

    await until(works_again, within_s=HANG_S)
    record_property("put_back_after_s", round(time.perf_counter() - began, 1))
    assert await shop.link(people[0]) == link

    async def all_agree() -> bool:
        return bool(await shop.vpn.fetchval(AGREED) == 200)

    await until(all_agree, within_s=HANG_S)
    assert await shop.published(AccessGranted) == 200
    await shop.quiescent()


async def test_a_killed_replica_loses_and_doubles_nothing(
    shop: Shop,
) -> None:
    """Chaos rows 7 and 34: its claimed jobs come back when the lease ends, amid a backlog.

    Each order is published once.
    """
    people = [uuid4() for _ in range(2_000)]
    await shop.sell(*(confirmed(person) for person in people))

    async def some_published() -> bool:
        return await shop.published(AccessGranted) > 0

    await until(some_published)
    shop.replicas[0].kill()
    await until(lambda: shop.granted_to(2_000), within_s=HANG_S)
    await shop.replicas[0].start()
    assert await shop.published(AccessGranted) == 2_000
    assert await shop.up(people[-1])
    await shop.quiescent()


async def test_10_000_waiting_jobs_drain_in_minutes(shop: Shop, record_property: Record) -> None:
    """P-11: the node was away while people bought. Once it is back, all of them get in.

    One job after the other would take more than an hour.
    """
    shop.node.kill()
    people = [uuid4() for _ in range(BACKLOG)]
    for start in range(0, BACKLOG, 500):
        await shop.sell(*(confirmed(person) for person in people[start : start + 500]))

    async def all_wait() -> bool:
        return bool(await shop.vpn.fetchval("select count(*) from access_jobs") == BACKLOG)

    await until(all_wait, within_s=HANG_S)
    assert await shop.published(AccessGranted) == 0
    await shop.start_node()
    began = time.perf_counter()
    await until(lambda: shop.granted_to(BACKLOG), within_s=DRAIN_WITHIN_S)
    record_property("drained_in_s", round(time.perf_counter() - began, 1))
    assert await shop.published(AccessGranted) == BACKLOG
    assert await fetch_through(await shop.link(people[-1]), shop.page) == "the page"


async def test_a_sigterm_drains_and_ends_with_success(shop: Shop) -> None:
    """R-15, W-24: work in progress is finished, and the process ends by itself."""
    await shop.sell(*(confirmed(uuid4()) for _ in range(300)))
    assert await shop.replicas[1].child.stop(grace_s=HANG_S) == 0
    await until(lambda: shop.granted_to(300), within_s=HANG_S)
    await shop.quiescent()
