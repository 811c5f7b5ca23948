"""Every command that a service obeys; each carries an id, so that a repeat is answered and not done again."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.contract import Command, Value
from shared.owners import OWNERS


class Invoice(Value):
    order: UUID
    invoice: UUID
    payload: str
    """What the provider carries back with the money, at most 128 bytes."""
    plan: str
    months: int
    price_minor: int
    list_month_minor: int | None = None
    """The plan's one-month list price as the order freezes it; None in answers from before it was told."""
    asked_minor: int
    """What the provider is asked for, in the smallest unit of `currency` (whole Stars for XTR)."""
    currency: str
    expires_at: datetime
    expires_in_s: int
    """Seconds left when the answer was given, by the database's clock: nobody else's clock decides a sale."""


class PlaceOrder(Command[Invoice]):
    """Freeze a price for a person and open an invoice for it. The order's id is the command's id.

    Refused: `plan_unknown` (or not for so many months, or not on sale).
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
    """Hand a buried message to its handler again: `ReplayDead.of("payments")(…)`, one topic per owner.

    Refused: `letter_unknown`, `still_failing`.
    """

    answer = Replayed

    letter: int

    @staticmethod
    def of(owner: str) -> "type[ReplayDead]":
        return REPLAYS[owner]


REPLAYS: dict[str, type[ReplayDead]] = {
    owner: type(
        f"Replay{owner.capitalize()}Dead",
        (ReplayDead,),
        {"topic": f"{owner}.replay_dead", "__doc__": ReplayDead.__doc__},
    )
    for owner in OWNERS
}


class ToldAgain(Value):
    facts: int
    """How many were put back; those that wait already, or are unknown, do not count."""


class TellAgain(Command[ToldAgain]):
    """Tell these facts again, because a listener lacks them: `TellAgain.of("payments")(…)`, one topic per owner."""

    answer = ToldAgain

    facts: tuple[UUID, ...] = Field(max_length=4_000)

    @staticmethod
    def of(owner: str) -> "type[TellAgain]":
        return TELL_AGAINS[owner]


TELL_AGAINS: dict[str, type[TellAgain]] = {
    owner: type(
        f"Tell{owner.capitalize()}Again",
        (TellAgain,),
        {"topic": f"{owner}.tell_again", "__doc__": TellAgain.__doc__},
    )
    for owner in OWNERS
}


class ReplayJobs(Command[Replayed]):
    """Let access jobs that were given up run again, of one person or of everybody. Refused: `no_dead_jobs`."""

    topic = "vpn.replay_jobs"
    answer = Replayed

    person: UUID | None


COMMANDS: tuple[type[Command[Any]], ...] = (PlaceOrder, *REPLAYS.values(), *TELL_AGAINS.values(), ReplayJobs)
