"""Purchases as vpn-provisioner hears them, a panel that stumbles on demand, and what the service has told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from shared.db import Database
from shared.facts import Bought, PaymentConfirmed, Terms
from shared.questions import AskAudit
from vpn_provisioner.access import after_months
from vpn_provisioner.audit import answer_audit
from vpn_provisioner.live import LiveNode
from vpn_provisioner.panels.protocol import (
    Limit,
    Panel,
    PanelError,
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Usage,
    Vitals,
    Wanted,
    label_of,
)
from vpn_provisioner.store import nodes
from vpn_provisioner.store.nodes import Node
from vpn_provisioner.subscribers import vpn_grants_confirmed
from vpn_provisioner.work import Worker

LINK = "vless://{key}@127.0.0.1:443?security=none#Turnpike"
NEEDS_A_RELAY = "no fact is waiting to be told"
HANG_S = 30.0

TOLD = "select body::text as body, trace from facts where topic = $1 order by seq"
JOB = "select * from access_jobs where person = $1 and node = $2"
SUBSCRIPTION = "select * from subscriptions where person = $1"


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
    """A purchase from the wallet, booked now if nothing else is said."""
    order, at = order or uuid4(), booked_at or datetime.now(UTC)
    terms = Terms(
        plan=plan,
        months=months,
        devices=5,
        traffic_bytes=None,
        node_group=node_group,
        list_month_minor={"basic": 14_900, "plus": 29_900}[plan],
    )
    return PaymentConfirmed.because(
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


async def hear(database: Database, *events: PaymentConfirmed) -> None:
    """Hand purchases to their handler, in a transaction of their own and without an inbox in front."""
    async with database.transaction() as tx:
        await vpn_grants_confirmed(events, tx, wake=lambda: None)


async def placed(database: Database, name: str = "one", *, node_group: str = "default") -> Node:
    """A node in service."""
    node = Node(uuid4(), name, "xray", node_group, f"127.0.0.1:{name}", "people", LINK)
    async with database.transaction() as tx:
        await nodes.place(node, 100, tx)
    return node


def worker(database: Database, node: Node, panel: Panel, *, failed_before: bool = False) -> Worker:
    """One lane of a node, as each process has it."""
    return Worker(database, LiveNode(node, panel), failed_before=failed_before)


async def work(database: Database, node: Node, panel: Panel, *, failed_before: bool = False) -> int:
    """One lane of a node works until nothing of its kind is due; answers how many jobs it took."""
    lane, taken = worker(database, node, panel, failed_before=failed_before), 0
    while some := await lane.round():
        taken += some
    return taken


async def told(database: Database, fact: type[Any]) -> list[Any]:
    """Every fact of that kind that was told, the oldest first."""
    rows = await database.fetch(TOLD, fact.topic)
    return [fact.model_validate_json(row["body"]).continuing(row["trace"]) for row in rows]


async def job_of(database: Database, person: UUID, node: Node) -> dict[str, Any]:
    row = await database.fetchrow(JOB, person, node.id)
    assert row is not None
    return dict(row)


async def subscription_of(database: Database, person: UUID) -> dict[str, Any]:
    row = await database.fetchrow(SUBSCRIPTION, person)
    assert row is not None
    return dict(row)


async def broken(database: Database) -> dict[str, tuple[str, ...]]:
    """What the audit finds, without that there is no relay here: truth to examples."""
    audit = await answer_audit(AskAudit.of("vpn")(), database)
    return {
        finding.truth: finding.examples
        for finding in audit.findings
        if finding.violations and finding.truth != NEEDS_A_RELAY
    }


async def until(true: Callable[[], Awaitable[object] | bool], *, within_s: float = HANG_S) -> None:
    """Wait until that is so; the bound is there so that a test ends, not to measure."""
    async with asyncio.timeout(within_s):
        while not (await so if isinstance(so := true(), Awaitable) else so):
            await asyncio.sleep(0.02)


class StumblingPanel:
    """A panel in memory that keeps what it was given, counts what it was asked, and fails where it is told to."""

    enforces: frozenset[Limit] = frozenset()

    def __init__(self) -> None:
        self.held: dict[UUID, UUID] = {}
        self.incarnation = uuid4().hex
        self.asked: list[tuple[UUID, ...]] = []
        self.away = False
        self.silent_after_write = False
        self.refuses: set[UUID] = set()
        self.chokes_on: set[UUID] = set()
        self.gate = asyncio.Event()
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
        return PanelUnavailable("no answer") if self.silent_after_write else PanelUser(wanted.label, wanted.key)

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
        return PanelUnavailable("choked") if self.chokes_on & set(people) else None

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
        return Vitals(self.incarnation, len(self.held), None)

    async def close(self) -> None:
        self.away = True

    def restart(self) -> None:
        """Lose everybody, as a core that keeps its users in memory does."""
        self.held.clear()
        self.incarnation = uuid4().hex
