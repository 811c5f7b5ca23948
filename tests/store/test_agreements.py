"""What two owners must agree on: each lists what it has, says what it lacks, and the audit holds them together."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

import bot_gateway.audit
import notifier.audit
import notifier.subscribers
import payments.audit
import referrals.audit
import vpn_provisioner.audit
from bot_gateway.lanes import Bells
from bot_gateway.lanes.money import MoneyLane
from bot_gateway.receiving import take_in
from payments.answers import place_order
from payments.confirmation import Receipt
from payments.subscribers import confirm_receipts, payments_books_rewards
from shared import audit as street
from shared import service
from shared.audit import Kind, answer_keys, answer_lacking
from shared.bus import Bus
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused
from shared.db import Database
from shared.facts import AccessGranted, Bought, PaymentConfirmed, Received, RewardEarned, Terms
from shared.inspection import AskKeys, AskLacking, Keys, Lacking
from shared.obey import obey
from shared.owners import OWNERS
from shared.questions import AskAudit, Audit, Finding
from shared.service import Service
from shared.telemetry import AUDIT_FINDINGS
from tests.kit import access
from tests.kit import referrals as starting
from tests.kit.access import HANG_S, StumblingPanel, until
from tests.kit.bot import BOT, paid_update
from tests.kit.commands import bare_services, living
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_cli.audit import AGREEMENTS, agree, audit
from turnpike_local.broker import Broker
from vpn_provisioner.store.nodes import Node

KINDS: Mapping[str, Mapping[str, Kind]] = {
    "bot": bot_gateway.audit.KINDS,
    "payments": payments.audit.KINDS,
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


class Shop:
    """Five schemas, and one purchase that each service hears of when it is told to."""

    def __init__(self, databases: dict[str, Database]) -> None:
        self.databases = databases
        self.person, self.partner = uuid4(), uuid4()
        self.charge = uuid4().hex
        self.order = UUID(int=0)
        self.receipt = UUID(int=0)
        self.node: Node | None = None

    async def reported(self) -> None:
        async with self.databases["bot"].transaction() as tx:
            await take_in(BOT, [paid_update(1, self.charge)], Bells(), tx)
        await MoneyLane(self.databases["bot"], Bells()).report_some(10)

    async def booked(self) -> None:
        database = self.databases["payments"]
        deadline = datetime.now(UTC) + timedelta(minutes=1)
        common = {"id": uuid4(), "actor": "person", "deadline_at": deadline}
        wish = PlaceOrder(**common, person=self.person, plan="basic", months=1, way="stars")
        invoice = await obey(database, wish, place_order)
        assert isinstance(invoice, Invoice)
        receipt = Receipt(
            "telegram_stars", self.charge, self.person, "XTR", 99, invoice.payload, datetime(2026, 11, 22, tzinfo=UTC)
        )
        async with database.transaction() as tx:
            await confirm_receipts([receipt], tx)
        self.order, self.receipt = invoice.order, receipt.id

    async def decided(self) -> None:
        started = starting.started(self.partner), starting.started(self.person, self.partner)
        await starting.hear(self.databases["referrals"], *started)
        await starting.hear(self.databases["referrals"], self.confirmed)

    async def rewarded(self) -> None:
        async with self.databases["payments"].transaction() as tx:
            await payments_books_rewards([self.earned], tx)

    async def granted(self) -> None:
        database, panel = self.databases["vpn"], StumblingPanel()
        self.node = self.node or await access.placed(database)
        await access.hear(database, self.confirmed)
        await access.work(database, self.node, panel)

    async def told(self) -> None:
        async with self.databases["notifier"].transaction() as tx:
            await notifier.subscribers.notifier_tells_confirmed([self.confirmed], tx)
            await notifier.subscribers.notifier_tells_granted([self.access_granted], tx)
            await notifier.subscribers.notifier_tells_rewards([self.earned], tx)

    async def all_of_it(self) -> None:
        for step in (self.reported, self.booked, self.decided, self.rewarded, self.granted, self.told):
            await step()

    @property
    def confirmed(self) -> PaymentConfirmed:
        terms = Terms(
            plan="basic", months=1, devices=5, traffic_bytes=None, node_group="default", list_month_minor=14900
        )
        return PaymentConfirmed.because(
            f"telegram_stars:{self.charge}",
            about=self.person,
            at=datetime.now(UTC),
            received=Received(receipt=self.receipt, acquirer="telegram_stars", charge=self.charge, value_minor=14900),
            bought=Bought(order=self.order, what="subscription", terms=terms, price_minor=14900),
            booked_at=datetime.now(UTC),
            wallet_minor=0,
            missing_minor=0,
        )

    @property
    def earned(self) -> RewardEarned:
        return RewardEarned.because(
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
        return AccessGranted.because(
            self.order, about=self.person, at=now, order=self.order, plan="basic", devices=5, ends_at=now
        )

    def key(self, owner: str, kind: str) -> str:
        if kind == "reported":
            return f"telegram_stars:{self.charge}"
        if kind in ("received", "decided"):
            return f"{self.receipt} 14900"
        return f"{self.receipt} {self.partner} 1490" if kind == "rewards" else str(self.order)

    async def keys(self, owner: str, kind: str, **wanted: float) -> tuple[str, ...]:
        answer = await answer_keys(AskKeys.of(owner)(kind=kind, **wanted), KINDS[owner], self.databases[owner])
        assert isinstance(answer, Keys)
        return answer.keys


@pytest.fixture
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*OWNERS)


@pytest.fixture
async def shop(place: FreshDatabase) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as exits:
        databases = {}
        for owner in OWNERS:
            databases[owner] = Database(place.dsn(f"{owner}_app"), name="test", size=2)
            await databases[owner].open()
            exits.push_async_callback(databases[owner].close)
        yield Shop(databases)


async def test_every_owner_lists_what_it_has_and_knows_what_it_lacks(shop: Shop) -> None:
    """I5, I6, I7: and what is too young, or too old, is not listed."""
    await shop.all_of_it()
    for owner, kind in EVERY_KIND:
        key, database = shop.key(owner, kind), shop.databases[owner]
        assert await shop.keys(owner, kind) == (key,), (owner, kind)
        assert await shop.keys(owner, kind, settled_s=3600) == (), (owner, kind)
        assert await shop.keys(owner, kind, hours=1) == (key,), (owner, kind)
        assert await shop.keys(owner, kind, hours=1e-9) == (), (owner, kind)
        another = Shop(shop.databases)
        another.order, another.receipt = uuid4(), uuid4()
        other = another.key(owner, kind)
        lacking = await answer_lacking(AskLacking.of(owner)(kind=kind, keys=(key, other)), KINDS[owner], database)
        assert lacking == Lacking(keys=(other,)), (owner, kind)
    unknown = await answer_keys(AskKeys.of("vpn")(kind="nothing"), KINDS["vpn"], shop.databases["vpn"])
    assert unknown == Refused(reason="kind_unknown")


async def test_another_amount_is_lacking(shop: Shop) -> None:
    """I7: to the kopeck, and to the right partner."""
    await shop.all_of_it()
    for owner, kind in EVERY_KIND:
        if kind in ("received", "decided", "rewards"):
            wrong = shop.key(owner, kind) + "1"
            question = AskLacking.of(owner)(kind=kind, keys=(wrong,))
            assert await answer_lacking(question, KINDS[owner], shop.databases[owner]) == Lacking(keys=(wrong,)), owner


async def test_a_list_comes_in_pages(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(street, "KEYS_PER_PAGE", 2)
    for _ in range(5):
        another = Shop(shop.databases)
        another.node = shop.node
        await another.all_of_it()
        shop.node = another.node
    for owner, kind in EVERY_KIND:
        pages: list[tuple[str, ...]] = []
        after = None
        while not pages or after is not None:
            question = AskKeys.of(owner)(kind=kind, after=after)
            page = await answer_keys(question, KINDS[owner], shop.databases[owner])
            assert isinstance(page, Keys)
            pages.append(page.keys)
            after = page.after
        assert [len(page) for page in pages] == [2, 2, 1], (owner, kind)
        assert len({key for page in pages for key in page}) == 5, (owner, kind)


async def between(bus: Bus, **how: float) -> dict[str, int]:
    """What the audit says of the owners together."""
    return {one.finding.truth: one.finding.violations for one in await audit(bus, **how) if one.owner == "all"}


async def test_owners_are_held_against_each_other_both_ways_and_in_time(
    shop: Shop, place: FreshDatabase, broker: Broker
) -> None:
    """I6: what was booked a moment ago may be on its way; an effect without a cause never is."""
    await broker.wipe()
    services = bare_services(place, broker.url)
    for owner, subject in services.items():
        subject.audits(AUDITS[owner], KINDS[owner])
    bus = Bus(broker.url, "test")
    async with living(list(services.values())):
        await bus.open()
        await shop.reported()
        await shop.booked()
        missing = await between(bus)
        assert {truth: count for truth, count in missing.items() if count} == {
            "every received payment has its reward decision, and no other": 1,
            "every bought subscription has its access row, and no other": 1,
            "every bought subscription has its message, and no other": 1,
        }
        assert not any([(await agree(bus, one, hours=None, in_time_s=3600)).violations for one in AGREEMENTS])
        for step in (shop.decided, shop.rewarded, shop.granted, shop.told):
            await step()
        assert not any((await between(bus)).values())
        await Shop(shop.databases).told()
        invented = await between(bus, hours=1)
        assert {truth: count for truth, count in invented.items() if count} == {
            "every bought subscription has its message, and no other": 1,
            "every access that was granted has its message with the key, and no other": 1,
            "every reward has its message, and no other": 1,
        }
        await bus.close()


async def test_each_service_looks_by_itself_all_of_it_first_and_then_by_the_day(
    place: FreshDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings become a metric; a round that fails is tried again, and the clock goes on."""
    await broker.wipe()
    monkeypatch.setattr(service, "FIRST_AUDIT_AFTER_S", 0.01)
    monkeypatch.setattr(service, "AUDIT_EVERY_S", 0.01)
    asked: list[float | None] = []

    async def answer(question: AskAudit, database: Database) -> Audit:
        asked.append(question.hours)
        if len(asked) == 1:
            raise TimeoutError
        finding = Finding(invariant="I1", truth="so it is", violations=3, examples=("this one",))
        return Audit(findings=(finding, finding), counts={})

    subject: Service = bare_services(place, broker.url)["payments"]
    subject.audits(answer, {})
    async with living([subject]):
        await until(lambda: len(asked) > 26, within_s=HANG_S)
    assert asked[:4] == [None, None, 25.0, 25.0]
    assert asked[25] is None, "once a day all of it"
    assert AUDIT_FINDINGS.labels("payments", "I1")._value.get() == 6


def test_every_agreement_is_of_kinds_that_exist() -> None:
    agreed = {one for agreement in AGREEMENTS for one in (agreement.cause, agreement.has)}
    assert agreed == set(EVERY_KIND)
