"""Agreements between owners: each lists its keys and the missing ones, and the audit compares."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

import bot_gateway.audit
import notifier.audit
import notifier.subscribers
import payments.audit
import payments.store.keys
import referrals.audit
import vpn_provisioner.audit
from bot_gateway.receiving import take_in
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.money_lane import MoneyLane
from payments.domain.confirmation import Receipt
from shared import service
from shared.contracts.message import Refused, derived_id
from shared.contracts.operations import (
    Audit,
    AuditQuery,
    Finding,
    Keys,
    KeysQuery,
    MissingKeys,
    MissingKeysQuery,
)
from shared.contracts.owners import OWNERS
from shared.contracts.payments import Bought, PaymentConfirmed, PlanTerms, Received
from shared.contracts.referrals import RewardEarned
from shared.contracts.vpn import AccessGranted
from shared.messaging.rpc import Bus
from shared.operations import audit as shared_audit
from shared.operations.audit import Kind, answer_keys, answer_missing_keys
from shared.platform.db import Database
from shared.platform.telemetry import AUDIT_FINDINGS
from shared.service import Service
from tests.kit import access
from tests.kit import referrals as starting
from tests.kit.access import FailingPanel
from tests.kit.bot import BOT, paid_update
from tests.kit.commands import bare_services, living
from tests.kit.payments import (
    book_reversals,
    book_rewards,
    give_back,
    paid,
    placed,
    refund_events,
    refund_of,
    report,
)
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until
from turnpike_cli.agreements import AGREEMENTS, compare
from turnpike_cli.audit import audit
from turnpike_local.broker import Broker
from vpn_provisioner.domain.nodes import Node

KINDS: Mapping[str, Mapping[str, Kind]] = {
    "bot": bot_gateway.audit.KINDS,
    "payments": payments.store.keys.KINDS,
    "referrals": referrals.audit.KINDS,
    "vpn": vpn_provisioner.audit.KINDS,
    "notifier": notifier.audit.KINDS,
}
AUDITS = {
    "bot": bot_gateway.audit.answer_audit,
    "payments": payments.audit.answer_audit,
    "referrals": referrals.audit.answer_audit,
    "vpn": vpn_provisioner.audit.answer_audit,
    "notifier": notifier.audit.answer_audit,
}
EVERY_KIND = [(owner, kind) for owner, kinds in KINDS.items() for kind in kinds]


WITH_AMOUNTS = {"received", "decided", "rewards", "refunded", "refunds", "undone", "reversed"}


class Shop:
    """Five schemas, and one purchase. Each method is the step of one service."""

    def __init__(self, databases: dict[str, Database]) -> None:
        self.databases = databases
        self.person, self.partner = uuid4(), uuid4()
        self.charge = uuid4().hex
        self.order = UUID(int=0)
        self.receipt = UUID(int=0)
        self.paid: Receipt | None = None
        self.node: Node | None = None

    async def reported(self) -> None:
        async with self.databases["bot"].transaction() as tx:
            await take_in(BOT, [paid_update(1, self.charge)], Bells(), tx)
        await MoneyLane(self.databases["bot"], Bells()).report_some(10)

    async def booked(self) -> None:
        database = self.databases["payments"]
        order = await placed(self.person, database)
        receipt = paid(order, self.person, charge=self.charge)
        await report(database, receipt)
        self.order, self.receipt, self.paid = order.order, receipt.id, receipt

    async def decided(self) -> None:
        started = starting.started(self.partner), starting.started(self.person, self.partner)
        await starting.handle(self.databases["referrals"], *started)
        await starting.handle(self.databases["referrals"], self.confirmed)

    async def rewarded(self) -> None:
        await book_rewards(self.databases["payments"], self.earned)

    async def granted(self) -> None:
        database, panel = self.databases["vpn"], FailingPanel()
        self.node = self.node or await access.registered(database)
        await access.handle(database, self.confirmed)
        await access.work(database, self.node, panel)

    async def notified(self) -> None:
        async with self.databases["notifier"].transaction() as tx:
            await notifier.subscribers.notifier_notifies_confirmed([self.confirmed], tx)
            await notifier.subscribers.notifier_notifies_granted([self.access_granted], tx)
            await notifier.subscribers.notifier_notifies_rewards([self.earned], tx)

    async def refunded(self) -> None:
        """The payment is returned, and each service handles it."""
        assert self.paid is not None
        await give_back(self.databases["payments"], refund_of(self.paid))
        [event] = await refund_events(self.person, self.databases["payments"])
        await starting.handle(self.databases["referrals"], event)
        reversals = await starting.reversals_of(self.partner, self.databases["referrals"])
        await book_reversals(self.databases["payments"], *reversals)
        await access.shorten(self.databases["vpn"], event)
        async with self.databases["notifier"].transaction() as tx:
            await notifier.subscribers.notifier_notifies_refunded([event], tx)

    async def everything(self) -> None:
        steps = self.reported, self.booked, self.decided, self.rewarded, self.granted
        for step in (*steps, self.notified, self.refunded):
            await step()

    @property
    def confirmed(self) -> PaymentConfirmed:
        terms = PlanTerms(
            plan="basic",
            months=1,
            devices=5,
            traffic_bytes=None,
            node_group="default",
            list_month_minor=14900,
        )
        return PaymentConfirmed.caused_by(
            f"telegram_stars:{self.charge}",
            about=self.person,
            at=datetime.now(UTC),
            received=Received(
                receipt=self.receipt,
                acquirer="telegram_stars",
                charge=self.charge,
                value_minor=14900,
            ),
            bought=Bought(order=self.order, what="subscription", terms=terms, price_minor=14900),
            booked_at=datetime.now(UTC),
            wallet_minor=0,
            missing_minor=0,
        )

    @property
    def earned(self) -> RewardEarned:
        return RewardEarned.caused_by(
            self.receipt,
            about=self.partner,
            at=datetime.now(UTC),
            receipt=self.receipt,
            invitee=self.person,
            percent=10,
            value_minor=14900,
            reward_minor=1490,
            paying=1,
            next_level_at=25,
            next_percent=25,
        )

    @property
    def access_granted(self) -> AccessGranted:
        now = datetime.now(UTC)
        return AccessGranted.caused_by(
            self.order,
            about=self.person,
            at=now,
            order=self.order,
            plan="basic",
            devices=5,
            ends_at=now,
        )

    def key(self, owner: str, kind: str) -> str:
        if kind == "reported":
            return f"telegram_stars:{self.charge}"
        if kind in ("received", "decided"):
            return f"{self.receipt} 14900"
        refund = derived_id("refund", "telegram_stars", self.charge, self.charge)
        if kind in ("refunded", "refunds"):
            return f"{refund} {self.person} 14900"
        if kind == "undone":
            return f"{refund} {self.order} 14900"
        if kind == "reversed":
            return f"{refund} {self.partner} 1490"
        return f"{self.receipt} {self.partner} 1490" if kind == "rewards" else str(self.order)

    async def keys(self, owner: str, kind: str, **limits: float) -> tuple[str, ...]:
        answer = await answer_keys(
            KeysQuery.of(owner)(kind=kind, **limits), KINDS[owner], self.databases[owner]
        )
        assert isinstance(answer, Keys)
        return answer.keys


@pytest.fixture
async def schemas(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*OWNERS)


@pytest.fixture
async def shop(schemas: FreshDatabase) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as exits:
        databases = {}
        for owner in OWNERS:
            databases[owner] = Database(schemas.dsn(f"{owner}_app"), name="test", size=2)
            await databases[owner].open()
            exits.push_async_callback(databases[owner].close)
        yield Shop(databases)


async def test_owners_list_their_keys_and_missing_keys(shop: Shop) -> None:
    """I5, I6, I7: keys that are too young or too old are not listed."""
    await shop.everything()
    for owner, kind in EVERY_KIND:
        key, database = shop.key(owner, kind), shop.databases[owner]
        assert await shop.keys(owner, kind) == (key,), (owner, kind)
        assert await shop.keys(owner, kind, settled_s=3600) == (), (owner, kind)
        assert await shop.keys(owner, kind, hours=1) == (key,), (owner, kind)
        assert await shop.keys(owner, kind, hours=1e-9) == (), (owner, kind)
        another = Shop(shop.databases)
        another.order, another.receipt = uuid4(), uuid4()
        other = another.key(owner, kind)
        missing = await answer_missing_keys(
            MissingKeysQuery.of(owner)(kind=kind, keys=(key, other)), KINDS[owner], database
        )
        assert missing == MissingKeys(keys=(other,)), (owner, kind)
    unknown = await answer_keys(
        KeysQuery.of("vpn")(kind="nothing"), KINDS["vpn"], shop.databases["vpn"]
    )
    assert unknown == Refused(reason="kind_unknown")


async def test_key_with_another_amount_is_missing(shop: Shop) -> None:
    """I7: amounts are compared to the kopeck, and so are partners."""
    await shop.everything()
    for owner, kind in EVERY_KIND:
        if kind in WITH_AMOUNTS:
            wrong = shop.key(owner, kind) + "1"
            query = MissingKeysQuery.of(owner)(kind=kind, keys=(wrong,))
            assert await answer_missing_keys(
                query, KINDS[owner], shop.databases[owner]
            ) == MissingKeys(keys=(wrong,)), owner


async def test_keys_come_in_pages(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_audit, "KEYS_PER_PAGE", 2)
    for _ in range(5):
        another = Shop(shop.databases)
        another.node = shop.node
        await another.everything()
        shop.node = another.node
    for owner, kind in EVERY_KIND:
        pages: list[tuple[str, ...]] = []
        after = None
        while not pages or after is not None:
            query = KeysQuery.of(owner)(kind=kind, after=after)
            page = await answer_keys(query, KINDS[owner], shop.databases[owner])
            assert isinstance(page, Keys)
            pages.append(page.keys)
            after = page.after
        assert max(len(page) for page in pages) <= 2, (owner, kind)
        assert len({key for page in pages for key in page}) == 5, (owner, kind)


async def between(bus: Bus, **options: float) -> dict[str, int]:
    """The findings of the audit that compare owners."""
    return {
        one.finding.truth: one.finding.violations
        for one in await audit(bus, **options)
        if one.owner == "all"
    }


async def test_audit_compares_owners_both_ways(
    shop: Shop, schemas: FreshDatabase, broker: Broker
) -> None:
    """I6: a recent cause may lack its effect for now. An effect without a cause is a finding."""
    await broker.wipe()
    services = bare_services(schemas, broker.url)
    for owner, one in services.items():
        one.audits(AUDITS[owner], KINDS[owner])
    bus = Bus(broker.url, "test")
    async with living(list(services.values())):
        await bus.open()
        await shop.reported()
        await shop.booked()
        missing = await between(bus)
        assert {truth: count for truth, count in missing.items() if count} == {
            "every received payment has its reward decision, and vice versa": 1,
            "every bought subscription has its access row, and vice versa": 1,
            "every bought subscription has its message, and vice versa": 1,
        }
        assert not any(
            [(await compare(bus, one, hours=None, in_time_s=3600)).violations for one in AGREEMENTS]
        )
        for step in (shop.decided, shop.rewarded, shop.granted, shop.notified):
            await step()
        assert not any((await between(bus)).values())
        assert shop.paid is not None
        await give_back(shop.databases["payments"], refund_of(shop.paid))
        missing = await between(bus)
        assert {truth: count for truth, count in missing.items() if count} == {
            "every refund has its decision about the reward, and vice versa": 1,
            "every refund has its message, and vice versa": 1,
            "every undone order is shortened by its share, and vice versa": 1,
        }
        await shop.refunded()
        assert not any((await between(bus)).values())
        await Shop(shop.databases).notified()
        invented = await between(bus, hours=1)
        assert {truth: count for truth, count in invented.items() if count} == {
            "every bought subscription has its message, and vice versa": 1,
            "every granted access has its message with the key, and vice versa": 1,
            "every reward has its message, and vice versa": 1,
        }
        await bus.close()


async def test_service_audits_everything_first_then_a_day(
    schemas: FreshDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings become a metric. A failed round is repeated, and the loop goes on."""
    await broker.wipe()
    monkeypatch.setattr(service, "FIRST_AUDIT_AFTER_S", 0.01)
    monkeypatch.setattr(service, "AUDIT_EVERY_S", 0.01)
    hours: list[float | None] = []

    async def answer(query: AuditQuery, database: Database) -> Audit:
        hours.append(query.hours)
        if len(hours) == 1:
            raise TimeoutError
        finding = Finding(invariant="I1", truth="a truth", violations=3, examples=("an example",))
        return Audit(findings=(finding, finding), counts={})

    audited: Service = bare_services(schemas, broker.url)["payments"]
    audited.audits(answer, {})
    async with living([audited]):
        await until(lambda: len(hours) > 26)
    assert hours[:4] == [None, None, 25.0, 25.0]
    assert hours[25] is None, "everything once a day"
    assert AUDIT_FINDINGS.labels("payments", "I1")._value.get() == 6


async def test_clean_audits_look_back_an_hour(
    schemas: FreshDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-50: an hourly audit costs what came since the last one without a finding."""
    await broker.wipe()
    monkeypatch.setattr(service, "FIRST_AUDIT_AFTER_S", 0.01)
    monkeypatch.setattr(service, "AUDIT_EVERY_S", 0.01)
    hours: list[float] = []
    clean = Audit(findings=(Finding(invariant="I1", truth="a truth", violations=0),), counts={})

    async def answer(query: AuditQuery, database: Database) -> Audit:
        if query.hours is not None:
            hours.append(query.hours)
        return clean.model_copy(update={"after": "1" if query.after == "" else None})

    audited: Service = bare_services(schemas, broker.url)["payments"]
    audited.audits(answer, {})
    async with living([audited]):
        await until(lambda: len(hours) > 5)
    assert 1.0 <= max(hours) < 2.0


def test_agreements_name_existing_kinds() -> None:
    agreed = {one for agreement in AGREEMENTS for one in (agreement.cause, agreement.effect)}
    assert agreed == set(EVERY_KIND)
