"""The moves of the money machine: each acts on the product and on the model."""

from dataclasses import asdict, replace
from datetime import timedelta
from uuid import UUID

from payments.domain.confirmation import Receipt
from payments.domain.refunds import Refund
from payments.queries import answer_checkout
from payments.restoring import restore_next
from payments.subscribers import confirm_receipts, record_refunds
from shared.contracts.bot import PaymentReported, PersonStarted, RefundReported
from shared.contracts.message import derived_id
from shared.contracts.payments import CheckoutQuery, OpenedInvoice, PreCheckout
from tests.kit import invitations_model
from tests.kit import money_model as model
from tests.kit.money_deliveries import ENDS, NOW, Draw, MoneyDeliveries
from tests.kit.money_world import A_MONTH_PASSES


class MoneyMoves(MoneyDeliveries):
    """All that may happen to their money."""

    def _unpaid(self) -> list[tuple[model.Order, model.Invoice, OpenedInvoice]]:
        return [one for one in self.orders if one[0].payable]

    def _lacking(self) -> list[model.Order]:
        """Orders that the rest may be asked for: young, payable, and not paid enough."""
        return [
            order
            for order in self.money.orders
            if order.payable and not order.months and self.money.missing(order) > 0
        ]

    def _rich(self) -> list[UUID]:
        return [person for person in self.people if self.money.balances[person].wallet]

    # Payments

    def pay(self, draw: Draw) -> None:
        """In full, in part or too much, by any person, for an order in any state."""
        order, invoice, placed = draw(*self._unpaid() * 2, *self.orders)
        payer = draw(*[order.person] * 12, *self.people, None)
        # The shop's own payloads never name another order's invoice.
        beside = draw(*[placed] * 8, draw(*self._of_others(order, placed)))
        payload = f"{order.id.hex}.{beside.invoice.hex}.{'0' * 16}"
        self.money.named[payload] = order, invoice if beside is placed else None
        currency = draw(*["XTR"] * 8, "RUB", "USD")
        asked = invoice.asked_minor if currency == "XTR" else invoice.worth_minor
        amount = max(1, asked * draw(100, 100, 100, 100, 50, 90, 140) // 100)
        charge = self._charge(payer, currency, amount, payload)
        fits = (
            payer == order.person
            and beside is placed
            and (currency, charge.amount_minor) == ("XTR", asked)
        )
        asked_for = PreCheckout(
            payer=payer, currency=currency, amount_minor=charge.amount_minor, payload=payload
        )
        query = CheckoutQuery(charges=(asked_for,))
        [checkout] = self.world.run(answer_checkout(query, self.world.payments)).answers
        offered = order.state == "open" and not order.months and invoice is order.invoices[-1]
        assert checkout.ok == (fits and offered), checkout

    def _of_others(self, order: model.Order, placed: OpenedInvoice) -> list[OpenedInvoice]:
        """Invoices of other orders, or this one if there is no other order."""
        return [one for other, _, one in self.orders if other is not order] or [placed]

    def pay_for_nothing(self, draw: Draw) -> None:
        self._charge(draw(*self.people), draw("XTR", "RUB", "USD"), draw(1, 9, 99, 200), "gone")

    def _charge(self, payer: UUID | None, currency: str, amount: int, payload: str) -> model.Charge:
        acquirer = "telegram_stars" if currency == "XTR" else "telegram_card"
        charge = model.Charge(
            acquirer, self._id().hex, payer, currency, amount, payload, self._moment()
        )
        self.charges.append(charge)
        self._report(charge)
        return charge

    def _report(self, charge: model.Charge) -> None:
        about = charge.payer or derived_id("payer", charge.charge)
        cause = ":".join(charge.key)
        event = PaymentReported.caused_by(cause, about=about, at=NOW, **asdict(charge))
        self.broker.send(event, charge)

    def give_back(self, draw: Draw) -> None:
        """A charge is returned once, all or half of it, and possibly before it is booked."""
        charge = draw(*self._returnable())
        amount_minor = draw(charge.amount_minor, charge.amount_minor, -(-charge.amount_minor // 2))
        refund = model.Refund(
            charge.acquirer, charge.charge, charge.currency, amount_minor, self._moment()
        )
        self.returned.add(charge.key)
        event = RefundReported.caused_by(
            f"refund:{':'.join(charge.key)}",
            about=charge.payer or derived_id("payer", charge.charge),
            at=NOW,
            payer=charge.payer,
            payload=charge.payload,
            **asdict(refund),
        )
        self.broker.send(event, refund)

    def charge_back(self, draw: Draw) -> None:
        """A bank takes back a whole payment that was spent, and the provider's listing tells it."""
        charge = draw(*self._spent())
        refund = model.Refund(
            charge.acquirer, charge.charge, charge.currency, charge.amount_minor, self._moment()
        )
        listed = Refund(reference=charge.charge, payer=charge.payer, **asdict(refund))

        async def act() -> bool:
            async with self.world.payments.transaction() as tx:
                await record_refunds([listed], tx)
            return True

        if self._done("charge_back", "payments", act, draw(*ENDS), draw):
            self.returned.add(charge.key)
            self.money.give_back([refund])

    def _spent(self) -> list[model.Charge]:
        """Booked payments whose payer no longer holds so much."""
        return [one for one in self._returnable() if self.money.is_spent(one)]

    def _returnable(self) -> list[model.Charge]:
        """Those that are never reported with another amount: more would be returned than came."""
        return [one for one in self.charges if one.key not in self.returned and not _is_odd(one)]

    def send_again(self, draw: Draw) -> None:
        message, _ = self.broker.sent[draw(*self.broker.sent)]
        self.broker.put(message)

    def report_otherwise(self, draw: Draw) -> None:
        """The first report is booked. Another payer is a repeat; another amount is a conflict."""
        charge = draw(*self.charges)
        # Another payer, so that it is another event. It has one amount, however often it is drawn.
        # Another time, so that the order within a batch does not depend on ids.
        payer = None if charge.payer else self.people[0]
        later = charge.paid_at + timedelta(microseconds=1)
        amount_minor = charge.amount_minor + _is_odd(charge)
        self._report(replace(charge, payer=payer, amount_minor=amount_minor, paid_at=later))

    def reconcile(self, draw: Draw) -> None:
        """A provider's listing bypasses the inbox, and has another time of payment."""
        drawn = {draw(*self.charges) for _ in range(draw(1, 2, 3))}
        listed = [
            replace(charge, paid_at=self._moment())
            for charge in sorted(drawn, key=lambda one: one.key)
        ]

        async def act() -> bool:
            async with self.world.payments.transaction() as tx:
                await confirm_receipts([Receipt(**asdict(charge)) for charge in listed], tx)
            return True

        if self._done("reconcile", "payments", act, draw(*ENDS), draw):
            self.money.book(listed)

    def month_passes(self, draw: Draw) -> None:
        person = draw(*[order.person for order in self._ageing()])
        self.world.run(self.world.payments.execute(A_MONTH_PASSES, person))
        for order in self.money.orders:
            order.months += order.person == person

    def _ageing(self) -> list[model.Order]:
        """The orders that were not paid, and were not pruned."""
        return [order for order in self.money.orders if order.state not in model.BOUGHT]

    def orders_end(self, draw: Draw) -> None:
        if self._done("orders_end", "payments", self.world.end_orders, draw(*ENDS), draw):
            self.money.end_orders()

    def spend_elsewhere(self, draw: Draw) -> None:
        person = draw(*self._rich())
        amount = -(-self.money.balances[person].wallet * draw(1, 20, 90, 100) // 100)
        self._flow("spend_elsewhere", person, amount, owed=False)
        self.money.balances[person].wallet -= amount

    def come_to_owe(self, draw: Draw) -> None:
        person, amount = draw(*self.people), draw(50, 2_000, 20_000)
        self._flow("come_to_owe", person, amount, owed=True)
        self.money.balances[person].owed += amount

    def pay_debt(self, draw: Draw) -> None:
        """Money that names no order, at least what is owed: the rest may restore an order."""
        losers = [one.person for one in self.money.debts if one.state == "open"]
        person = draw(*self._owing(), *losers * 4)
        owed_minor = self.money.balances[person].owed
        amount = max(1, owed_minor) + draw(0, 15_000, 40_000, 80_000)
        self._charge(person, "RUB", amount, "gone")

    def _owing(self) -> list[UUID]:
        return [person for person in self.people if self.money.balances[person].owed]

    def debts_restore(self, draw: Draw) -> None:
        """One step of the tick for a person whose debts are paid."""
        person = draw(*self.money.settling())

        async def act() -> bool:
            async with self.world.payments.transaction() as tx:
                await restore_next(person, tx)
            return True

        if self._done("debts_restore", "payments", act, draw(*ENDS), draw):
            self.money.restore_next(person)

    def _flow(self, move: str, person: UUID, amount: int, *, owed: bool) -> None:
        cause = f"by hand:{self._id()}"
        self._done(move, "payments", lambda: self.world.flow(person, amount, cause, owed=owed))

    # Starts

    def start(self, draw: Draw) -> None:
        """Possibly long after the first payment was confirmed."""
        person = draw(*self.unstarted)
        self.unstarted.remove(person)
        inviter = draw(*self.people[:1] * 4, *self.people, None, self._id())
        self._start(person, inviter, cause=person)

    def start_by_import(self, draw: Draw) -> None:
        """Another start of a person, with another inviter: the one that is handled first counts."""
        self._start(draw(*self.people), draw(*self.people, None, self._id()), cause=self._id())

    def _start(self, person: UUID, invited_by: UUID | None, *, cause: UUID) -> None:
        start = invitations_model.Start(person, invited_by, self._moment())
        event = PersonStarted.caused_by(
            cause, about=person, at=start.at, code=None, invited_by=invited_by
        )
        self.broker.send(event, start)


def _is_odd(charge: model.Charge) -> bool:
    """Another report of it has another amount."""
    return int(charge.charge[0], 16) % 2 == 1
