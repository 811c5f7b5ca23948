"""Decides what comes back once a debt is paid.

A refund that leaves something owed has undone orders before. Their prices were set off against the
returned money, so paying the debt does not pay for them: they are bought again, at their old price.

    refund ──owed, orders undone whole──▶ open ──nothing is owed──▶ settled ──▶ each order, the
    oldest first: bought again from the free wallet, for its whole time from now on
    settled ──▶ ended: restored | short | bought_since | too_late        settled ──owed──▶ open
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from payments.domain.confirmation import Order
from payments.domain.ledger import Holdings
from shared.contracts.message import derived_id

RESTORED_FOR = timedelta(days=30)
"""How long after the refund. A price is honoured for so long, too."""


@dataclass(frozen=True)
class Debt:
    """A refund that left something owed and undid orders, and nothing was owed since."""

    refund: UUID
    person: UUID
    opened_at: datetime


Ended = Literal["restored", "short", "bought_since", "too_late"]
"""`short`: the wallet lacks the price of the next order. `bought_since`: the person has chosen
another access after the refund."""


def next_step(
    debt: Debt, held: Holdings, lost: Sequence[Order], *, bought_since: bool, now: datetime
) -> Order | Ended | Literal["owed"]:
    """The order that is bought now, or the end of the debt. "owed": it is not paid after all.

    `lost` are the orders that the refund undid whole and that are not restored, the oldest first.
    Rewards may be withdrawn as money, so only the wallet pays, and only what no order reserves.
    """
    if held.owed_minor:
        return "owed"
    if not lost:
        return "restored"
    if now > debt.opened_at + RESTORED_FOR:
        return "too_late"
    if bought_since:
        return "bought_since"
    if held.free_minor < lost[0].price_minor:
        return "short"
    return restoring(lost[0])


def restoring(lost: Order) -> Order:
    """An order in the place of the lost one, at its price. Its id makes a second one impossible."""
    return replace(
        lost,
        id=derived_id("restored", lost.id),
        state="open",
        received_minor=0,
        from_balance=True,
        restores=lost.id,
    )
