"""Actions that the load does not perform, for failpoints that only they reach."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from shared.contracts.bot import RefundStars, SetOperator
from shared.contracts.catalogue import COMMANDS
from shared.contracts.message import Command, Event, Refused, Value, derived_id
from shared.contracts.notifier import DeliveryFailed, RecipientRefused
from shared.contracts.operations import ReplayDeadLetter, Republish
from shared.contracts.operators import Act
from shared.contracts.payments import (
    ForgetMethod,
    InvoiceOpened,
    InvoiceRefused,
    OpenInvoice,
    PayFromBalance,
    PaymentRefunded,
    PlaceOrder,
    PlanTerms,
    Reconcile,
    Returned,
    SetReceiptEmail,
)
from shared.contracts.payments_acts import (
    AdjustBalance,
    RecordWithdrawal,
    ResolveParked,
    SetPlan,
    SetPrice,
    SetRate,
    SetWay,
)
from shared.contracts.payments_refunds import RefundPayment, ResolveRefund
from shared.contracts.referrals import RewardReversed
from shared.contracts.vpn import AccessExpiring, ReplayJobs
from shared.messaging.outbox import publish
from shared.messaging.rpc import UnansweredError
from shared.platform.db import Tx
from shared.platform.loops import set_within
from tests.chaos.load import PaidPurchase, Purchase, place_command
from tests.chaos.points import Point
from tests.chaos.trial import Trial
from tests.kit.reports import refunded
from vpn_provisioner.domain.access import Period, fold

TRIGGER_EVERY_S = 0.5
ANSWERED_WITHIN_S = 60.0
LONG_AGO = timedelta(days=400)
THE_PAST = datetime(2026, 1, 1, tzinfo=UTC)

BEYOND = "no more is returned of a charge than was paid"
OTHER_FIELDS = "the same id never came with other fields"
UNDECIDED = "every refund has its decision about the reward, and vice versa"
UNANNOUNCED = "every refund has its message, and vice versa"

REFUNDED = {
    "referrals_reverses_refunded",
    "vpn_shortens_refunded",
    "notifier_notifies_refunded",
}

EXECUTED = "select count(*) from {owner}.commands where id = $1"
ANSWERS = "select answer::text as answer from {owner}.commands where id = $1 and outcome = 'done'"
NOTHING_THERE = (
    *("dead_letter_unknown", "no_dead_jobs", "not_yours", "operator_unknown", "balance_short"),
    *("plan_unknown", "begins_too_early", "least_above_most", "receipt_unknown"),
    *("provider_unknown", "acquirer_unknown", "payer_unknown", "refund_unknown"),
    *("email_invalid", "method_unknown"),
)
# Acts of operators that every shop refuses.
HARMLESS_ACTS: dict[type[Command[Any]], dict[str, object]] = {
    ReplayJobs: {"person": None},
    RefundStars: {"charge": "none", "payer": None},
    SetOperator: {"operator": "nobody", "new_role": None},
    AdjustBalance: {"person": UUID(int=1), "amount_minor": -1},
    RecordWithdrawal: {"acquirer": "nobody", "currency": "RUB", "amount_minor": 1},
    SetPrice: {"plan": "none", "months": 1, "price_minor": 1, "stars": 1},
    SetPlan: {"plan": "none"},
    SetRate: {"currency": "XTR", "kopecks": 1, "per_minor": 1, "from_at": THE_PAST},
    SetWay: {"way": "stars", "least_minor": 2, "most_minor": 1},
    ResolveParked: {"receipt": UUID(int=1), "person": UUID(int=1)},
    RefundPayment: {"receipt": UUID(int=1), "currency": "RUB"},
    ResolveRefund: {"refund": UUID(int=1), "outcome": "released"},
    SetReceiptEmail: {"person": UUID(int=1), "email": "none"},
}

# A person who has the keys of all of their purchases: else a key could not be sent any more.
LIVE = """
select person
from vpn.subscriptions s
where person = $1 and state = 'live'
  and (select count(*) from vpn.periods p where p.person = s.person) = (
    select count(*)
    from notifier.deliveries d
    where d.person = s.person and d.kind = 'access_ready' and d.state = 'sent'
  )
for update
"""
AGE = "update vpn.periods set booked_at = booked_at - $2::interval where person = $1"
PERIODS = "select * from vpn.periods where person = $1"
ENDS = "update vpn.subscriptions set ends_at = $2 where person = $1"


class Triggers:
    """Actions that the load does not perform, for points that a service reaches only by them."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.shop = trial.shop
        self._running: dict[Point, asyncio.Task[None]] = {}
        self._dead: dict[Point, asyncio.Event] = {}
        self._unanswered: dict[Point, UUID] = {}
        self._tries: Counter[UUID] = Counter()
        self._awaited_at_stop: list[asyncio.Task[None]] = []
        self._returned = uuid4()
        self._expected: set[tuple[str, str]] = set()

    def begin(self, point: Point) -> None:
        if point.step.startswith("command"):
            self._dead[point] = asyncio.Event()
            self._awaited_at_stop.append(
                asyncio.create_task(self._command_until_dead(point, self._dead[point]))
            )
        elif (trigger := self._trigger_of(point)) is not None:
            self._running[point] = asyncio.create_task(self._repeat(trigger))

    async def end(self, point: Point) -> None:
        """The process is dead, and not started again."""
        if (dead := self._dead.pop(point, None)) is not None:
            await self._check_command(point)
            dead.set()
        if (task := self._running.pop(point, None)) is not None and not task.cancel():
            failure = f"the trigger of {point} ended with {task.exception()!r}"
            self.trial.failures.append(failure)

    async def stop(self) -> None:
        """All services run again: wait for the answers to all commands."""
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            await asyncio.gather(*self._awaited_at_stop)

    async def _repeat(self, trigger: Callable[[], Awaitable[None]]) -> None:
        while True:
            await trigger()
            await asyncio.sleep(TRIGGER_EVERY_S)

    async def _command_until_dead(self, point: Point, dead: asyncio.Event) -> None:
        """One command after the other.

        The one at which the process dies is repeated, under its id, until it is answered.
        """
        kind = next(command for command in COMMANDS if command.topic == point.who)
        while not dead.is_set():
            command_id = self._unanswered[point] = uuid4()
            answer = await self._answer_to(kind, command_id)
            if not dead.is_set():
                del self._unanswered[point]
                await set_within(dead, TRIGGER_EVERY_S)
        if point in self._unanswered:
            sql = ANSWERS.format(owner=point.service)
            stored = [row["answer"] for row in await self.shop.fetch(sql, command_id)]
            self.trial.expect(
                f"the command that died at {point} is answered: {answer}, and stored is {stored}",
                answer.reason in NOTHING_THERE
                if isinstance(answer, Refused)
                else stored == [answer.model_dump_json()],
            )

    async def _answer_to(self, kind: type[Command[Any]], command_id: UUID) -> Value:
        if kind is PlaceOrder:
            (buyer,) = self.trial.load.next_buyers(1)
            return await self.trial.load.executed(place_command(buyer, command_id, "basic"))
        command = harmless_command(kind, command_id)
        while True:
            self._tries[command_id] += 1
            with suppress(UnansweredError):
                answer: Value = await self.shop.bus.execute(command)
                return answer

    async def _check_command(self, point: Point) -> None:
        """Whether it was executed depends on the step.

        A process at a PlaceOrder may have died at an order of the load instead. A process that dies
        at its second pass may die at a repetition: an answer to the first try was only late, so its
        row is there.
        """
        if point.who != PlaceOrder.topic:
            command_id = self._unanswered.get(point)
            if command_id is None:  # The point was not reached, which is a failure already.
                return
            rows = await self.shop.fetch_value(EXECUTED.format(owner=point.service), command_id)
            expected = int(point.step == "command_committed")
            self.trial.expect(
                f"{expected} commands {command_id} are stored at {point}: {rows}",
                rows == expected or (rows == 1 and self._tries[command_id] > 1),
            )

    def _trigger_of(self, point: Point) -> Callable[[], Awaitable[None]] | None:
        if point.who == "notifier_notifies_ended":
            return self._end_an_access
        if point.who == "notifier_notifies_expiring":
            return self._remind_of_a_past_end
        if point.step == "relay_published" and point.who == "notifier":
            return self._fail_a_delivery
        if point.who == "bot_follows_refusals":
            return self._fail_a_delivery
        if point.who in ("bot_shows_opened", "bot_shows_refused"):
            return self._end_an_invoice
        if point.who == "payments_records_refunds":
            return self._report_a_refund
        if point.who in REFUNDED:
            return self._publish_a_refund
        if point.who == "payments_books_reversals":
            return self._publish_a_reversal
        if point.step == "checkout_answered":
            return self._begin_a_checkout
        if point.step == "invoice_asked":
            return self._ask_for_an_invoice
        return None

    async def _end_an_access(self) -> None:
        """A buyer's access ends: all of their periods are moved to a date long ago."""
        buyer = self.trial.random.choice(self.trial.load.buyers)
        connection = await asyncpg.connect(self.shop.postgres.dsn())
        try:
            async with connection.transaction():
                live = await connection.fetchrow(LIVE, buyer.person)
                if live is None:
                    return
                await connection.execute(AGE, buyer.person, LONG_AGO)
                periods = [_period(row) for row in await connection.fetch(PERIODS, buyer.person)]
                await connection.execute(ENDS, buyer.person, fold(periods).ends_at)
        finally:
            await connection.close()

    async def _remind_of_a_past_end(self) -> None:
        """In the name of vpn-provisioner. It does not hold when it is sent, so nobody reads it."""
        if (paid := self._paid_in_stars()) is None:
            return
        event = AccessExpiring.caused_by(
            uuid4(),
            about=paid.purchase.buyer.person,
            at=datetime.now(UTC),
            ends_at=THE_PAST,
            hours=72,
        )
        await self._publish("vpn", event)

    async def _fail_a_delivery(self) -> None:
        """The sandbox refuses nothing here, so the events are published in notifier's name."""
        at, person = datetime.now(UTC), uuid4()
        failed = DeliveryFailed.caused_by(
            uuid4(), about=person, at=at, kind="topped_up", reason="refused"
        )
        refused = RecipientRefused.caused_by(uuid4(), about=person, at=at, reason="refused")
        await self._publish("notifier", failed, refused)

    async def _end_an_invoice(self) -> None:
        """No screen waits for them, so the events are published in the name of payments."""
        at, person = datetime.now(UTC), uuid4()
        named: dict[str, Any] = {"order": uuid4(), "invoice": uuid4()}
        opened = InvoiceOpened.caused_by(uuid4(), about=person, at=at, **named)
        refused = InvoiceRefused.caused_by(uuid4(), about=person, at=at, reason="refused", **named)
        await self._publish("payments", opened, refused)

    async def _report_a_refund(self) -> None:
        """M-41: of a charge of the load, in a currency that was not paid. So nothing is booked."""
        if (paid := self._paid_in_stars()) is None:
            return
        charge = paid.charge
        self._expect(("payments", BEYOND), ("payments", OTHER_FIELDS))
        await self._publish("bot", refunded(charge=charge, payer=None, currency="USD"))

    async def _publish_a_refund(self) -> None:
        """In the name of payments, of no value: it takes nothing back and undoes nothing."""
        if (paid := self._paid_in_stars()) is None:
            return
        at = datetime.now(UTC)
        self._expect(("all", UNDECIDED), ("all", UNANNOUNCED))
        returned = Returned(
            refund=self._returned,
            receipt=derived_id("receipt", "telegram_stars", paid.charge),
            acquirer="telegram_stars",
            charge=paid.charge,
            value_minor=0,
            amount_minor=0,
            currency="XTR",
        )
        event = PaymentRefunded.caused_by(
            uuid4(),
            about=paid.purchase.buyer.person,
            at=at,
            returned=returned,
            undone=(),
            owed_minor=0,
            wallet_minor=0,
            booked_at=at,
            position=0,
        )
        await self._publish("payments", event)

    def _paid_in_stars(self) -> PaidPurchase | None:
        """The first of the load, and the same one each time."""
        return next((one for one in self.trial.paid if not one.purchase.reference), None)

    def _expect(self, *violations: tuple[str, str]) -> None:
        """One of each for all that this row publishes: it names one charge and one refund."""
        new = set(violations) - self._expected
        self._expected |= new
        self.trial.expected_violations.update(new)

    async def _publish_a_reversal(self) -> None:
        """In the name of referrals, of nothing."""
        refund, at = uuid4(), datetime.now(UTC)
        event = RewardReversed.caused_by(
            refund, about=uuid4(), at=at, refund=refund, receipt=uuid4(), reversed_minor=0
        )
        await self._publish("referrals", event)

    async def _publish(self, owner: str, *events: Event) -> None:
        connection = await asyncpg.connect(
            self.shop.postgres.dsn(f"{owner}_app"), server_settings={"search_path": owner}
        )
        try:
            async with connection.transaction():
                await publish(Tx(connection), events)
        finally:
            await connection.close()

    async def _begin_a_checkout(self) -> None:
        """A person pays through the pay sheet, with a pre-checkout query before the charge."""
        (buyer,) = self.trial.load.next_buyers(1)
        purchase = Purchase(buyer, await self.trial.load.place_order(buyer), "right")
        self._awaited_at_stop.append(asyncio.create_task(self._check_out(purchase)))

    async def _ask_for_an_invoice(self) -> None:
        """A provider opens an invoice, which nobody pays."""
        (buyer,) = self.trial.load.next_buyers(1)
        await self.trial.load.place_order(buyer, way="sbp")

    async def _check_out(self, purchase: Purchase) -> None:
        charge = await self.shop.crowd.check_out(purchase.charge)
        if charge is not None:
            self.trial.paid.append(PaidPurchase(charge, purchase))


def harmless_command(kind: type[Command[Any]], command_id: UUID | None = None) -> Command[Any]:
    """A command about things that do not exist, or that is refused for another reason."""
    fields: dict[str, object] = {"role": "owner"} if issubclass(kind, Act) else {}
    if issubclass(kind, ReplayDeadLetter):
        fields |= {"dead_letter": 0}
    elif issubclass(kind, Republish):
        fields = {"events": (uuid4(),)}
    elif kind in HARMLESS_ACTS:
        fields |= HARMLESS_ACTS[kind]
    elif kind is OpenInvoice:
        fields = {"person": uuid4(), "order": uuid4(), "way": "stars"}
    elif kind is Reconcile:
        fields |= {"provider": "nobody"}
    elif kind is PayFromBalance:
        fields = {"person": uuid4(), "order": uuid4()}
    elif kind is ForgetMethod:
        fields = {"person": uuid4(), "method": "s000000"}
    return kind(
        id=command_id or uuid4(),
        actor="operator:chaos",
        reason="reach a failpoint",
        deadline_at=datetime.now(UTC) + timedelta(hours=1),
        **fields,
    )


def _period(row: asyncpg.Record) -> Period:
    terms = PlanTerms(
        plan=row["plan"],
        months=row["months"],
        devices=row["devices"],
        traffic_bytes=row["traffic_bytes"],
        node_group=row["node_group"],
        list_month_minor=row["list_month_minor"],
    )
    return Period(row["order_id"], row["booked_at"], terms)
