"""Every command that a service obeys; each carries an id, so that a repeat is answered and not done again."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from shared.contract import Command, Value


class Invoice(Value):
    order: UUID
    invoice: UUID
    payload: str
    """What the provider carries back with the money, at most 128 bytes."""
    plan: str
    months: int
    price_minor: int
    asked_minor: int
    """What the provider is asked for, in the smallest unit of `currency` (whole Stars for XTR)."""
    currency: str
    expires_at: datetime


class PlaceOrder(Command[Invoice]):
    """Freeze a price for a person and open an invoice for it. The order's id is the command's id.

    Refused: `plan_unknown`, `period_unknown`, `way_closed`.
    """

    topic = "payments.place_order"
    answer = Invoice

    person: UUID
    plan: str
    months: int
    way: Literal["stars"]


class Replayed(Value):
    replayed: int


class ReplayDead(Command[Replayed]):
    """Hand a buried message to its handler again. Refused: `letter_unknown`, `still_failing`."""

    topic = "payments.replay_dead"
    answer = Replayed

    letter: int

    @classmethod
    def of(cls, owner: str) -> "type[ReplayDead]":
        return REPLAYS[owner]


class ReplayBotDead(ReplayDead):
    topic = "bot.replay_dead"


class ReplayReferralsDead(ReplayDead):
    topic = "referrals.replay_dead"


class ReplayVpnDead(ReplayDead):
    topic = "vpn.replay_dead"


class ReplayNotifierDead(ReplayDead):
    topic = "notifier.replay_dead"


REPLAYS: dict[str, type[ReplayDead]] = {
    "bot": ReplayBotDead,
    "payments": ReplayDead,
    "referrals": ReplayReferralsDead,
    "vpn": ReplayVpnDead,
    "notifier": ReplayNotifierDead,
}


class ReplayJobs(Command[Replayed]):
    """Let access jobs that were given up run again, of one person or of everybody. Refused: `no_dead_jobs`."""

    topic = "vpn.replay_jobs"
    answer = Replayed

    person: UUID | None


COMMANDS: tuple[type[Command[Any]], ...] = (PlaceOrder, *REPLAYS.values(), ReplayJobs)
