"""The moves of the money machine that place orders, ask for their money, and buy."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

from payments.commands.open_invoice import open_invoice
from payments.commands.pay_from_balance import pay_from_balance
from payments.commands.place_order import place_order
from shared.contracts.message import Refused
from shared.contracts.payments import OpenInvoice, PayFromBalance, PlaceOrder
from shared.messaging.idempotency import execute
from tests.kit import money_model as model
from tests.kit.money_deliveries import ENDS, Draw
from tests.kit.money_moves import MoneyMoves

TOPUPS = {10_000: 67, 25_000: 167, 50_000: 334}
PRICES = {("basic", 1): (14900, 99), ("basic", 3): (39900, 269), ("plus", 1): (29900, 199)}


class OrderMoves(MoneyMoves):
    """The moves of a person before any money comes."""

    def order(self, draw: Draw) -> None:
        """Of a subscription, with its first invoice."""
        plan, months = draw(*PRICES)
        price = PRICES[plan, months]
        self._place("order", draw, "subscription", price, plan=plan, months=months)

    def topup(self, draw: Draw) -> None:
        """An order of money in the wallet, with its first invoice."""
        topup_minor = draw(*TOPUPS)
        price = topup_minor, TOPUPS[topup_minor]
        self._place("topup", draw, "topup", price, topup_minor=topup_minor)

    def _place(
        self, move: str, draw: Draw, what: str, price: tuple[int, int], **wanted: Any
    ) -> None:
        command = PlaceOrder(**self._by(person := draw(*self.people)), **wanted)
        answer = self._executed(move, command, place_order, draw)
        assert (answer.order, answer.what, answer.price_minor) == (command.id, what, price[0])
        order = model.Order(command.id, person, *price, what=what)
        self.money.place(order)
        self._invoice(move, order, draw, from_balance=False)

    def _by(self, person: UUID) -> dict[str, Any]:
        deadline = datetime.now(UTC) + timedelta(minutes=1)
        actor = f"person:{person}"
        return {"id": self._id(), "actor": actor, "deadline_at": deadline, "person": person}

    def _executed(self, move: str, command: Any, act: Any, draw: Draw) -> Any:
        """A command without an answer is repeated with the same id."""

        async def acted() -> Any:
            return await execute(self.world.payments, command, act)

        end = draw(*ENDS)
        answer = self._done(move, "payments", acted, end, draw)
        return answer if end == "done" else self._done(move, "payments", acted)

    def open_invoice(self, draw: Draw) -> None:
        """What an order lacks gets an invoice; asked twice, it is the same one."""
        order = draw(*self._lacking())
        self._invoice("open_invoice", order, draw, from_balance=draw(False, False, True))

    def _invoice(self, move: str, order: model.Order, draw: Draw, *, from_balance: bool) -> None:
        command = OpenInvoice(
            **self._by(order.person), order=order.id, way="stars", from_balance=from_balance
        )
        missing_minor = self.money.missing(order, from_balance=from_balance)
        answer = self._executed(move, command, open_invoice, draw)
        if missing_minor <= 0:
            assert answer == Refused(reason="nothing_missing")
            return
        asked = Fraction(missing_minor * order.price_stars, order.price_minor)
        assert answer.asked_minor == 1 or abs(answer.asked_minor - asked) <= Fraction(1, 2)
        known = {placed.invoice for _, _, placed in self.orders}
        if answer.invoice in known:
            newest = order.invoices[-1]
            assert (newest.received_stars, newest.worth_minor) == (0, missing_minor)
            self.money.reopen(order, from_balance=from_balance)
            return
        invoice = self.money.invoice(order, answer.asked_minor, from_balance=from_balance)
        self.money.named[answer.payload] = order, invoice
        self.orders.append((order, invoice, answer))

    def pay_from_balance(self, draw: Draw) -> None:
        """Bought at once, or refused with what is missing."""
        order = draw(*self._for_sale())
        command = PayFromBalance(**self._by(order.person), order=order.id)
        answer = self._executed("pay_from_balance", command, pay_from_balance, draw)
        missing_minor = self.money.pay_from_balance(order)
        if missing_minor > 0:
            assert answer == Refused(reason="balance_short", detail=str(missing_minor))
        else:
            held = self.money.balances[order.person]
            assert (answer.wallet_minor, answer.earned_minor) == (held.wallet, held.earned)

    def _for_sale(self) -> list[model.Order]:
        """Orders that can be paid from the balance, if it holds enough."""
        return [order for order in self.money.orders if self._buys_now(order)]

    def _buys_now(self, order: model.Order) -> bool:
        return order.what == "subscription" and order.payable and not order.months
