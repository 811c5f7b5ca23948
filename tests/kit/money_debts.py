"""The model's debts: what a refund undid comes back once its person owes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from shared.contracts.message import derived_id
from tests.kit.money_model import FROM_BALANCE, Confirmed, Money, Order, Refund, Refunded

MOST_SETTLED = 20
"""The newest debts of a person that one payment settles."""


@dataclass
class Debt:
    person: UUID
    opened_at: int
    refund: UUID
    lost: list[Order]
    """The oldest first."""
    state: str = "open"


class MoneyWithDebts(Money):
    """Each transaction that books refunds has a moment of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.debts: list[Debt] = []
        self.restored: set[UUID] = set()
        """Orders that took the place of lost ones."""

    def settling(self) -> list[UUID]:
        """People for whom the product has something to decide."""
        return sorted({one.person for one in self.debts if one.state == "settled"})

    def _return(self, refunds: Iterable[Refund]) -> None:
        self.moment += 1
        super()._return(refunds)

    def _taken_back(self, refund: Refund, paid: Confirmed) -> Refunded:
        refunded = super()._taken_back(refund, paid)
        if refunded.owed_minor:
            orders, undone = {one.id: one for one in self.orders}, refunded.undone
            lost = [orders[id_] for id_, minor in undone if minor == orders[id_].price_minor]
            lost.sort(key=lambda one: (one.paid_at, one.id))
            id_ = derived_id("refund", *refund.key, refund.charge)
            if lost:
                self.debts.append(Debt(paid.payer, self.moment, id_, lost))
                self.debts.sort(key=lambda one: (one.opened_at, one.refund))
        return refunded

    def settle(self, person: UUID) -> None:
        owed_minor = self.balances[person].owed
        super().settle(person)
        if owed_minor and not self.balances[person].owed:
            open_ = [one for one in self.debts if (one.person, one.state) == (person, "open")]
            for debt in open_[-MOST_SETTLED:]:
                debt.state = "settled"

    def restore_next(self, person: UUID) -> None:
        """One step about the oldest debt of the person that is paid."""
        settled = [one for one in self.debts if (one.person, one.state) == (person, "settled")]
        debt, held = settled[0], self.balances[person]
        free_minor = max(0, held.wallet - self._reserved(person))
        lost = [one for one in debt.lost if derived_id("restored", one.id) not in self.restored]
        if held.owed:
            debt.state = "open"
        elif not lost or self._bought_after(debt) or free_minor < lost[0].price_minor:
            debt.state = "ended"
        else:
            self._buy_again(lost[0])

    def _bought_after(self, debt: Debt) -> bool:
        return any(
            order.person == debt.person
            and order.what == "subscription"
            and order.state in ("paid", "partly_refunded")
            and order.paid_at > debt.opened_at
            and order.id not in self.restored
            for order in self.orders
        )

    def _buy_again(self, lost: Order) -> None:
        self.moment += 1
        order = replace(
            lost,
            id=derived_id("restored", lost.id),
            state="open",
            received_minor=0,
            undone_minor=0,
            from_balance=True,
            invoices=[],
        )
        self.restored.add(order.id)
        self.orders.insert(self.orders.index(lost) + 1, order)
        self._buy(order)
        wallet = self.balances[order.person].wallet
        confirmed = Confirmed(order.person, 0, order.id, None, 0, 0, wallet)
        self.published[FROM_BALANCE, str(order.id)] = confirmed
