"""A fake of payments for bot-gateway: it answers and refuses as the real one does, in memory."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared.contracts.message import Command, Refused, Value, derived_id
from shared.contracts.money import stars_for, stars_of
from shared.contracts.payload import write_payload
from shared.contracts.payments import (
    AskedByWay,
    Balance,
    BalanceLine,
    BalanceQuery,
    ForgetMethod,
    ForgottenMethod,
    InvoiceQuery,
    OpenedInvoice,
    OpenInvoice,
    PaidFromBalance,
    PayFromBalance,
    PlacedOrder,
    PlaceOrder,
    Plan,
    Plans,
    PlansQuery,
    Price,
    ReceiptEmail,
    ReceiptEmailQuery,
    Rest,
    RestQuery,
    SavedMethod,
    SetReceiptEmail,
    SetReceiptEmailAnswer,
    WayToPay,
)
from shared.platform import telemetry

STARS = WayToPay(
    way="stars", currency="XTR", least_minor=1, most_minor=100_000, kopecks=150, per_minor=1
)
SBP = WayToPay(way="sbp", currency="RUB", least_minor=100, most_minor=70_000_000)
CARD = WayToPay(way="card", currency="RUB", least_minor=6_400, most_minor=35_000_000)
CRYPTO = WayToPay(way="crypto", currency="RUB", least_minor=100, most_minor=35_000_000)
TELEGRAM = WayToPay(way="telegram", currency="RUB", least_minor=6_400, most_minor=35_000_000)
RUBLES = (SBP, CARD, CRYPTO)
BASIC = Plan(
    plan="basic",
    devices=5,
    traffic_bytes=None,
    prices=(Price(months=1, price_minor=14900, stars=99),),
)
SHORTEST = timedelta(seconds=60)
WHEN = datetime(2026, 11, 22, tzinfo=UTC)


class Payments:
    def __init__(self) -> None:
        self.plans: tuple[Plan, ...] = (BASIC,)
        self.ways: tuple[WayToPay, ...] = (STARS,)
        self.wallet_minor, self.earned_minor, self.owed_minor = 0, 0, 0
        self.lines = (BalanceLine(at=WHEN, reason="reward", amount_minor=1490),)
        self.orders: dict[UUID, PlaceOrder] = {}
        self.placed: dict[UUID, PlacedOrder] = {}
        self.invoices: dict[UUID, OpenedInvoice] = {}
        self.ended: dict[UUID, str] = {}
        """Why an order can be paid no more, as `order_paid`."""
        self.received_minor: dict[UUID, int] = {}
        self.invoice_lives = timedelta(minutes=30)
        self.providers_answer = True
        """Else invoices of outside providers stay `asking`."""
        self.opened_after_the_answer = False
        """They are opened right after the command was answered."""
        self.saved: tuple[SavedMethod, ...] = ()
        """Of everybody. `saves`: the shop may save more of them."""
        self.saves = False
        self.is_charging = False
        """Another order, to an unknown end."""
        self.asks_email = False
        self.emails: dict[UUID, str | None] = {}
        """Of people who answered."""
        self.executed: dict[tuple[str, UUID], tuple[int, Value]] = {}
        self.answers: dict[Any, Callable[[Any], Value]] = {
            PlansQuery: lambda _: Plans(plans=self.plans, ways=self.ways, saved=self.saved),
            ForgetMethod: lambda one: self._execute(one, self._forget),
            BalanceQuery: self._balance,
            RestQuery: self._rest,
            InvoiceQuery: self._invoice,
            PlaceOrder: lambda one: self._execute(one, self._place),
            OpenInvoice: lambda one: self._execute(one, self._open),
            PayFromBalance: lambda one: self._execute(one, self._pay),
            ReceiptEmailQuery: lambda one: ReceiptEmail(email=self.emails.get(one.person)),
            SetReceiptEmail: lambda one: self._execute(one, self._set_email),
        }

    @property
    def balance_minor(self) -> int:
        return self.wallet_minor + self.earned_minor

    def _execute(self, command: Command[Any], act: Callable[[Any], Value]) -> Value:
        """The first answer is stored under the command's id. A refusal uses no id up."""
        key = command.topic, command.id
        digest, answer = self.executed.get(key, (None, None))
        if answer is not None:
            return answer if digest == command.digest() else Refused(reason="id_reused")
        if command.deadline_at < datetime.now(UTC):
            return Refused(reason="too_late")
        answer = act(command)
        if not isinstance(answer, Refused):
            self.executed[key] = command.digest(), answer
        return answer

    def _balance(self, _: BalanceQuery) -> Balance:
        return Balance(
            wallet_minor=self.wallet_minor,
            earned_minor=self.earned_minor,
            owed_minor=self.owed_minor,
            withdrawable_minor=0,
            lines=self.lines,
            saved=self.saved,
            asks_email=self.asks_email,
        )

    def _set_email(self, command: SetReceiptEmail) -> SetReceiptEmailAnswer | Refused:
        if command.email is not None and "@" not in command.email:
            return Refused(reason="email_invalid")
        self.emails[command.person] = command.email
        return SetReceiptEmailAnswer(person=command.person)

    def price_in(self, command: PlaceOrder) -> Price | None:
        of_plan = (plan.prices for plan in self.plans if plan.plan == command.plan)
        prices = next(of_plan, ())
        return next((price for price in prices if price.months == command.months), None)

    def _place(self, command: PlaceOrder) -> PlacedOrder | Refused:
        price = self.price_in(command)
        if command.topup_minor is None and price is None:
            return Refused(reason="plan_unknown")
        self.orders[command.id] = command
        self.placed[command.id] = PlacedOrder(
            order=command.id,
            what="subscription" if price else "topup",
            plan=command.plan,
            months=command.months,
            list_month_minor=price.price_minor if price else None,
            price_minor=price.price_minor if price else command.topup_minor or 0,
        )
        return self.placed[command.id]

    def _refused(self, person: UUID, order: UUID) -> Refused | None:
        if order not in self.orders or self.orders[order].person != person:
            return Refused(reason="not_yours")
        ended = self.ended.get(order)
        return Refused(reason=ended) if ended else None

    def missing_of(self, order: UUID, *, from_balance: bool) -> int:
        placed = self.placed[order]
        if placed.what == "topup":
            return placed.price_minor
        has = self.balance_minor if from_balance else self.received_minor.get(order, 0)
        return placed.price_minor - has

    def asked_for(self, order: UUID, missing_minor: int, way: WayToPay) -> int:
        if way.currency == "RUB":
            return max(missing_minor, way.least_minor)
        price = self.price_in(self.orders[order])
        if price is None:
            return stars_of(missing_minor, way.kopecks, way.per_minor)
        return stars_for(missing_minor, price.price_minor, price.stars)

    def _rest(self, query: RestQuery) -> Rest | Refused:
        if refused := self._refused(query.person, query.order):
            return refused
        missing_minor = max(0, self.missing_of(query.order, from_balance=query.from_balance))
        placed, ways = self.placed[query.order], self.ways if missing_minor else ()
        asked = [(way, self.asked_for(query.order, missing_minor, way)) for way in ways]
        return Rest(
            order=query.order,
            what=placed.what,
            plan=placed.plan,
            months=placed.months,
            price_minor=placed.price_minor,
            missing_minor=missing_minor,
            balance_minor=self.balance_minor,
            ways=tuple(
                AskedByWay(way=way.way, asked_minor=minor, currency=way.currency)
                for way, minor in asked
                if minor <= way.most_minor
            ),
            saved=self.saved if missing_minor else (),
        )

    def _open(self, command: OpenInvoice) -> OpenedInvoice | Refused:
        """No booking ever comes here: an invoice that was charged is being booked."""
        method = next((one for one in self.saved if one.name == command.way), None)
        if method is None and command.way.startswith("s") and command.way not in ("stars", "sbp"):
            return Refused(reason="method_unknown")
        wanted = method.way if method else command.way
        way = next((one for one in self.ways if one.way == wanted), None)
        if way is None:
            return Refused(reason="way_closed")
        if refused := self._refused(command.person, command.order):
            return refused
        if command.charged:
            return Refused(reason="being_booked")
        missing_minor = self.missing_of(command.order, from_balance=command.from_balance)
        if missing_minor <= 0:
            return Refused(reason="nothing_missing")
        asked_minor = self.asked_for(command.order, missing_minor, way)
        if asked_minor > way.most_minor:
            return Refused(reason="too_much")
        if self.is_charging and method is not None:
            return Refused(reason="being_charged")
        if command.most_minor is not None and asked_minor > command.most_minor:
            return Refused(reason="dearer")
        if self.asks_email and way in (SBP, CARD) and command.person not in self.emails:
            return Refused(reason="email_wanted")
        *_, present = [None, *(one for one in self.invoices.values() if one.order == command.order)]
        lives = present is not None and present.expires_at > datetime.now(UTC) + SHORTEST
        same = present and (present.way, present.asked_minor) == (way.way, asked_minor)
        alike = present and present.charges == (method is not None)
        if present and lives and same and alike and bool(present.remembers) == command.remember:
            return self._ready(present)
        worth_minor = max(missing_minor, asked_minor if way.currency == "RUB" else 0)
        return self._insert(command, way, asked_minor, worth_minor)

    def _insert(
        self, command: OpenInvoice, way: WayToPay, asked_minor: int, worth_minor: int
    ) -> OpenedInvoice:
        placed, invoice = self.placed[command.order], derived_id("invoice", command.id)
        self.invoices[invoice] = OpenedInvoice(
            **placed.model_dump(),
            invoice=invoice,
            payload=write_payload(placed.order, invoice, telemetry.current_trace()),
            way=way.way,
            asked_minor=asked_minor,
            currency=way.currency,
            worth_minor=worth_minor,
            state="open" if way.way in ("stars", "telegram") else "asking",
            from_balance=command.from_balance,
            charges=command.way != way.way,
            remembers=command.remember if self.saves and command.way in ("sbp", "card") else None,
            expires_at=datetime.now(UTC) + self.invoice_lives,
            expires_in_s=int(self.invoice_lives.total_seconds()),
        )
        answer = self._ready(self.invoices[invoice])
        if self.opened_after_the_answer:
            self.providers_answer = True
        return answer

    def _invoice(self, query: InvoiceQuery) -> OpenedInvoice | Refused:
        opened = self.invoices.get(query.invoice)
        if opened is None or self.orders[opened.order].person != query.person:
            return Refused(reason="not_yours")
        return self._ready(opened)

    def _ready(self, opened: OpenedInvoice) -> OpenedInvoice:
        if opened.state == "asking" and self.providers_answer and not opened.charges:
            url = f"https://pay.example.org/{opened.invoice.hex}"
            opened = opened.model_copy(update={"state": "open", "pay_url": url})
            self.invoices[opened.invoice] = opened
        left = opened.expires_at - datetime.now(UTC)
        return opened.model_copy(update={"expires_in_s": int(left.total_seconds())})

    def _forget(self, command: ForgetMethod) -> ForgottenMethod | Refused:
        left = tuple(one for one in self.saved if one.name != command.method)
        if left == self.saved:
            return Refused(reason="method_unknown")
        self.saved = left
        return ForgottenMethod(method=command.method)

    def _pay(self, command: PayFromBalance) -> PaidFromBalance | Refused:
        if refused := self._refused(command.person, command.order):
            return refused
        missing_minor = self.missing_of(command.order, from_balance=True)
        if self.placed[command.order].what == "topup":
            return Refused(reason="nothing_to_buy")
        if missing_minor > 0:
            return Refused(reason="balance_short", detail=str(missing_minor))
        price_minor = self.placed[command.order].price_minor
        from_wallet_minor = min(self.wallet_minor, price_minor)
        self.wallet_minor -= from_wallet_minor
        self.earned_minor -= price_minor - from_wallet_minor
        self.ended[command.order] = "order_paid"
        return PaidFromBalance(
            order=command.order,
            price_minor=price_minor,
            wallet_minor=self.wallet_minor,
            earned_minor=self.earned_minor,
        )
