"""A model of invitations and rewards, in the plainest way, without the product."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

# From so many paying invitees: percent. Lower than the levels of a shop, to be reached here.
LEVELS = {0: 10, 2: 25, 4: 45}


@dataclass(frozen=True)
class Start:
    person: UUID
    invited_by: UUID | None
    at: datetime


@dataclass(frozen=True)
class Payment:
    """A confirmed payment as referrals handles it. Equal times are ordered by the event's id."""

    receipt: UUID
    payer: UUID
    value_minor: int
    booked_at: datetime
    event: UUID


@dataclass(frozen=True)
class Reward:
    partner: UUID | None
    paying: int | None = None
    percent: int | None = None
    reward_minor: int = 0


@dataclass(frozen=True)
class Returned:
    """A refund as referrals handles it."""

    refund: UUID
    receipt: UUID
    payer: UUID
    value_minor: int


@dataclass
class Invitations:
    """The partner of each person, the decision about each receipt, and what was taken back."""

    partner_of: dict[UUID, UUID | None] = field(default_factory=dict)
    paying: dict[UUID, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    waiting: dict[UUID, Payment] = field(default_factory=dict)
    rewards: dict[UUID, Reward] = field(default_factory=dict)
    paid: dict[UUID, tuple[UUID, int]] = field(default_factory=dict)
    """By receipt: the payer and what remains paid."""
    waiting_refunds: dict[UUID, Returned] = field(default_factory=dict)
    """By receipt. A charge is returned once."""
    reversed: dict[UUID, tuple[UUID | None, int]] = field(default_factory=dict)
    """By refund: the partner, and what was taken back."""

    def start(self, starts: Iterable[Start]) -> None:
        for start in sorted(starts, key=lambda start: start.at):
            if start.person not in self.partner_of:
                circle = start.person in self._chain_above(start.invited_by)
                self.partner_of[start.person] = None if circle else start.invited_by
        decidable = [one for one in self.waiting.values() if one.payer in self.partner_of]
        for payment in decidable:
            del self.waiting[payment.receipt]
        self._decide(decidable)

    def _chain_above(self, person: UUID | None) -> Iterable[UUID]:
        while person is not None:
            yield person
            person = self.partner_of.get(person)

    def handle(self, payments: Iterable[Payment]) -> None:
        fresh = {
            payment.receipt: payment for payment in payments if payment.receipt not in self.rewards
        }
        self.waiting |= {
            receipt: one for receipt, one in fresh.items() if one.payer not in self.partner_of
        }
        self._decide(one for one in fresh.values() if one.payer in self.partner_of)

    def _decide(self, payments: Iterable[Payment]) -> None:
        decided = sorted(payments, key=lambda payment: (payment.booked_at, payment.event))
        for payment in decided:
            self.rewards[payment.receipt] = self._reward(payment, self.partner_of[payment.payer])
            self.paid[payment.receipt] = payment.payer, payment.value_minor
        receipts = [one.receipt for one in decided if one.receipt in self.waiting_refunds]
        self.reverse([self.waiting_refunds.pop(receipt) for receipt in receipts])

    def reverse(self, refunds: Iterable[Returned]) -> None:
        distinct = {one.refund: one for one in refunds}.values()
        fresh = [one for one in distinct if one.refund not in self.reversed]
        known = [one for one in fresh if one.receipt in self.rewards]
        self.waiting_refunds |= {one.receipt: one for one in fresh if one not in known}
        for one in known:
            reward, (payer, value_minor) = self.rewards[one.receipt], self.paid[one.receipt]
            left_minor = value_minor - one.value_minor
            self.paid[one.receipt] = payer, left_minor
            kept_minor = left_minor * (reward.percent or 0) // 100
            self.reversed[one.refund] = reward.partner, reward.reward_minor - kept_minor
        for payer in {one.payer for one in known}:
            if not any(minor for whose, minor in self.paid.values() if whose == payer):
                for invitees in self.paying.values():
                    invitees.discard(payer)

    def _reward(self, payment: Payment, partner: UUID | None) -> Reward:
        if partner is None:
            return Reward(None)
        if payment.value_minor:
            self.paying[partner].add(payment.payer)
        paying = len(self.paying[partner])
        percent = max((at, percent) for at, percent in LEVELS.items() if at <= paying)[1]
        return Reward(partner, paying, percent, payment.value_minor * percent // 100)
