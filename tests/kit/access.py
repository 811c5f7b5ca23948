"""Purchases for vpn-provisioner, a panel that fails on demand, and queries for results."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.contracts.operations import AuditQuery
from shared.contracts.payments import Bought, PaymentConfirmed, PaymentRefunded, PlanTerms
from shared.platform.db import Database
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until
from vpn_provisioner.audit import answer_audit
from vpn_provisioner.domain.access import after_months
from vpn_provisioner.domain.attempts import Attempt
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.domain.panel import (
    Limit,
    PanelError,
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Usage,
    Vitals,
    Wanted,
    label_of,
)
from vpn_provisioner.panels.protocol import Panel
from vpn_provisioner.store import jobs, nodes
from vpn_provisioner.store.jobs import Job
from vpn_provisioner.subscribers import vpn_grants_confirmed, vpn_shortens_refunded
from vpn_provisioner.workers.jobs import Worker
from vpn_provisioner.workers.live import LiveNode

TEST_LEASE_S = 60.0
LINK = "vless://{key}@127.0.0.1:443?security=none#Turnpike"
NEEDS_A_RELAY = "no event is pending in the outbox"

PUBLISHED = "select body::text as body, trace from events where topic = $1 order by seq"
JOB = "select * from access_jobs where person = $1 and node = $2"
SUBSCRIPTION = "select * from subscriptions where person = $1"


class FailingPanel:
    """A panel in memory. It records its requests and fails as its attributes say."""

    enforces: frozenset[Limit] = frozenset()

    def __init__(self) -> None:
        self.held: dict[UUID, UUID] = {}
        self.incarnation = uuid4().hex
        self.asked: list[tuple[UUID, ...]] = []
        self.away = False
        self.silent_after_write = False
        self.refuses: set[UUID] = set()
        self.fails_on: set[UUID] = set()
        """A batch with one of these people fails as a whole."""
        self.gate = asyncio.Event()
        """Requests wait until it is set."""
        self.gate.set()

    async def ensure(self, wanted: Sequence[Wanted]) -> Sequence[PanelUser | PanelError]:
        self.asked.append(tuple(one.person_id for one in wanted))
        if failure := await self._failure([one.person_id for one in wanted]):
            return [failure] * len(wanted)
        return [self._ensured(one) for one in wanted]

    def _ensured(self, wanted: Wanted) -> PanelUser | PanelError:
        if wanted.person_id in self.refuses:
            return PanelRefused("not this one")
        self.held[wanted.person_id] = wanted.key
        if self.silent_after_write:
            return PanelUnavailable("no answer")
        return PanelUser(wanted.label, wanted.key)

    async def remove(self, person_ids: Sequence[UUID]) -> Sequence[PanelError | None]:
        self.asked.append(tuple(person_ids))
        if failure := await self._failure(person_ids):
            return [failure] * len(person_ids)
        for person in person_ids:
            self.held.pop(person, None)
        return [None] * len(person_ids)

    async def _failure(self, people: Sequence[UUID]) -> PanelError | None:
        await self.gate.wait()
        if self.away:
            return PanelUnavailable("away")
        return PanelUnavailable("choked") if self.fails_on & set(people) else None

    async def read(self, person_id: UUID) -> PanelUser | None:
        key = self.held.get(person_id)
        return PanelUser(label_of(person_id), key) if key else None

    async def users(self) -> AsyncIterator[PanelUser]:
        for person, key in list(self.held.items()):
            yield PanelUser(label_of(person), key)

    async def usage(self) -> Mapping[UUID, Usage]:
        return {}

    async def vitals(self) -> Vitals:
        if self.away:
            raise PanelUnavailable("away")
        return Vitals(self.incarnation, len(self.held))

    async def close(self) -> None:
        self.away = True

    def restart(self) -> None:
        """Lose all users, as a core does that keeps them in memory."""
        self.held.clear()
        self.incarnation = uuid4().hex


@pytest.fixture
async def vpn_schema(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("vpn")


@pytest.fixture
def vpn_dsn(vpn_schema: FreshDatabase) -> str:
    """The owner, for changes that the service may not make to its tables."""
    return vpn_schema.dsn("vpn_owner")


@pytest.fixture
async def vpn(vpn_schema: FreshDatabase) -> AsyncIterator[Database]:
    """The database of vpn-provisioner, with room for several replicas."""
    opened = Database(vpn_schema.dsn("vpn_app"), name="test", size=12)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def panel() -> FailingPanel:
    return FailingPanel()


@pytest.fixture
async def node(vpn: Database) -> Node:
    return await registered(vpn)


def confirmed(
    person: UUID,
    *,
    order: UUID | None = None,
    plan: str = "basic",
    months: int = 1,
    node_group: str = "default",
    booked_at: datetime | None = None,
    cause: object = None,
) -> PaymentConfirmed:
    """A purchase from the wallet, booked now by default."""
    order, at = order or uuid4(), booked_at or datetime.now(UTC)
    terms = PlanTerms(
        plan=plan,
        months=months,
        devices=5,
        traffic_bytes=None,
        node_group=node_group,
        list_month_minor={"basic": 14_900, "plus": 29_900}[plan],
    )
    return PaymentConfirmed.caused_by(
        cause or order,
        about=person,
        at=at,
        received=None,
        bought=Bought(order=order, what="subscription", terms=terms, price_minor=14_900 * months),
        booked_at=at,
        wallet_minor=0,
        missing_minor=0,
    )


def ending_at(moment: datetime, person: UUID, **fields: Any) -> PaymentConfirmed:
    """A purchase of a year that ends at that moment."""
    return confirmed(person, booked_at=after_months(moment, -12), months=12, **fields)


async def handle(database: Database, *events: PaymentConfirmed) -> None:
    """Hand purchases to their handler, in one transaction and without an inbox in front."""
    async with database.transaction() as tx:
        await vpn_grants_confirmed(events, tx, wake=lambda: None)


async def shorten(database: Database, *events: PaymentRefunded) -> None:
    """Hand refunds to their handler, in one transaction and without an inbox in front."""
    async with database.transaction() as tx:
        await vpn_shortens_refunded(events, tx, wake=lambda: None)


async def bought(database: Database, count: int) -> list[UUID]:
    """So many new people with one purchase each."""
    people = [uuid4() for _ in range(count)]
    await handle(database, *(confirmed(person) for person in people))
    return people


async def registered(database: Database, name: str = "one", *, node_group: str = "default") -> Node:
    """A node in service."""
    node = Node(uuid4(), name, "xray", node_group, f"127.0.0.1:{name}", "people", LINK)
    async with database.transaction() as tx:
        await nodes.register(node, 100, tx)
    return node


def worker(database: Database, node: Node, panel: Panel, *, failed_before: bool = False) -> Worker:
    """One lane of a node, as each process has it, with a lease that no test outlives."""
    live = LiveNode(node, panel)
    return Worker(database, live, failed_before=failed_before, lease_s=TEST_LEASE_S)


async def work(database: Database, node: Node, panel: Panel, *, failed_before: bool = False) -> int:
    """Run one lane of a node until none of its jobs is due; returns how many jobs it claimed."""
    lane, claimed = worker(database, node, panel, failed_before=failed_before), 0
    while some := await lane.round():
        claimed += some
    return claimed


async def claimed(
    database: Database, node: Node, *, lease_s: float = TEST_LEASE_S
) -> tuple[UUID, list[Job]]:
    """Jobs as a worker claims them that dies before it settles; returns its token too."""
    token = uuid4()
    claimed = await jobs.claim(
        node.id, failed_before=False, most=300, token=token, lease_s=lease_s, database=database
    )
    return token, claimed


async def settled(database: Database, node: Node, token: UUID, *agreed: Job) -> None:
    async with database.transaction() as tx:
        await jobs.settle(node.id, token, {job: Attempt("agreed") for job in agreed}, tx)


async def dies(database: Database, node: Node, panel: FailingPanel, person: UUID) -> int:
    """Run the lane of failed jobs until this job is dead; returns how often it was tried in all."""

    async def dead() -> bool:
        await work(database, node, panel, failed_before=True)
        return bool((await job_of(database, person, node))["state"] == "dead")

    await until(dead)
    await work(database, node, panel)
    await work(database, node, panel, failed_before=True)
    return sum(person in batch for batch in panel.asked)


async def published(database: Database, event: type[Any]) -> list[Any]:
    """Every published event of that type, the oldest first."""
    rows = await database.fetch(PUBLISHED, event.topic)
    return [event.model_validate_json(row["body"]).continuing(row["trace"]) for row in rows]


async def job_of(database: Database, person: UUID, node: Node) -> dict[str, Any]:
    row = await database.fetchrow(JOB, person, node.id)
    assert row is not None
    return dict(row)


async def subscription_of(database: Database, person: UUID) -> dict[str, Any]:
    row = await database.fetchrow(SUBSCRIPTION, person)
    assert row is not None
    return dict(row)


async def broken(database: Database) -> dict[str, tuple[str, ...]]:
    """The violations that the audit finds, each truth with its examples.

    Pending events do not count: no relay runs here.
    """
    audit = await answer_audit(AuditQuery.of("vpn")(), database)
    return {
        finding.truth: finding.examples
        for finding in audit.findings
        if finding.violations and finding.truth != NEEDS_A_RELAY
    }
