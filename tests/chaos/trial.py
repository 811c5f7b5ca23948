"""One row of the matrix under way: what it broke, what it measured, and the line that it ends with."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.chaos.count import Count, counted
from tests.chaos.load import Paid, Town, Wanted
from tests.chaos.shop import Shop

RESTS_WITHIN_S = 60.0
HANGS_AFTER_S = RESUMES_WITHIN_S = 60.0
AWAY_S = 1.0
EXAMPLES = 3
FEW = 4
CLAIMED = "select count(*) from notifier.deliveries where state = 'claimed'"


@dataclass
class Trial:
    """A row's run. `short` keeps the strict figures for the long form: there a slow machine decides nothing."""

    shop: Shop
    town: Town
    random: Random
    short: bool
    faults: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    off: list[str] = field(default_factory=list)
    paid: list[Paid] = field(default_factory=list)
    expected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Violations that belong to this row and those before, by (owner, truth): a letter that must be buried is one."""
    killed: list[str] = field(default_factory=list)
    """Whom we killed, each as "name pid"."""
    may_be_said_again: int = 0
    _claimed: list[asyncio.Future[Any]] = field(default_factory=list)
    verbose: bool = False
    began_at: float = field(default_factory=time.monotonic)

    @property
    def per_s(self) -> float:
        return 40.0 if self.short else 100.0

    def size(self, long: int, short: int) -> int:
        return short if self.short else long

    async def pay(self, wanted: list[Wanted], per_s: float | None = None) -> list[Paid]:
        paid = await self.town.pay(wanted, per_s or self.per_s)
        self.paid += paid
        return paid

    async def broken_under_load(
        self,
        wanted: list[Wanted],
        break_it: Callable[[], Awaitable[None]],
        mend: Callable[[], Coroutine[Any, Any, None]],
    ) -> float:
        """Half of the money comes while something breaks, the other half while it is mended.

        Answers the seconds from the beginning of `break_it` until every service is at its work again.
        """
        half = len(wanted) // 2
        paying = asyncio.create_task(self.pay(wanted[:half]))
        await asyncio.sleep(half / self.per_s / 2)
        broken_at = time.monotonic()
        await break_it()
        await asyncio.sleep(AWAY_S)
        more = asyncio.create_task(self.pay(wanted[half:]))
        took_s = await self.shop.resumed_all_s(broken_at, mend, RESUMES_WITHIN_S)
        await asyncio.gather(paying, more)
        return took_s

    async def rests(self, what: str, within_s: float = RESTS_WITHIN_S) -> None:
        """Wait until all is at rest; what still moves after `within_s` is a fault of the row."""
        moving = await self.shop.rests(within_s)
        self.expect(f"{what} is at rest within {within_s:g} s: {moving}", not moving)

    async def counts(self, when: str) -> None:
        """Count within the row, at rest: what one fault lost is not for the next one to bring back."""
        count = await counted(self.shop, self.paid, 0)
        seen = "; ".join((count.examples + count.chats)[:EXAMPLES])
        self.expect(f"nothing is lost or doubled {when}: {seen}", not count.lost + count.doubled)

    def expect(self, sentence: str, holds: bool) -> None:
        if not holds:
            self.off.append(f"not true: {sentence}")

    def took(self, what: str, seconds: float, most_s: float) -> None:
        """A time, held strictly in the long form; in the short one only a hang is a fault."""
        self.figures.append(f"{what} in {seconds:.1f} s (at most {most_s:g})")
        if seconds > (HANGS_AFTER_S if self.short else most_s):
            self.off.append(f"{what} took {seconds:.1f} s")

    def reached(self, what: str, share: float, least: float, least_short: float = 0.1) -> None:
        """A ratio within this run."""
        self.figures.append(f"{what} {share:.0%} (at least {least:.0%})")
        if share < (least_short if self.short else least):
            self.off.append(f"{what} was {share:.0%}")

    def tell(self, sentence: str) -> None:
        """For whoever waits: on the way to the line."""
        if self.verbose:
            print(f"        {time.monotonic() - self.began_at:6.1f} s {sentence}", file=sys.stderr, flush=True)

    def notifier_interrupted(self) -> None:
        """It died, or cannot write down what it says: what it has claimed may have been said.

        Claims outlive that for some seconds: long enough to be counted, also by a database that has yet to come back.
        """
        self._claimed.append(asyncio.ensure_future(self.shop.asked_one(CLAIMED)))

    async def claims_counted(self) -> None:
        self.may_be_said_again += sum(await asyncio.gather(*self._claimed))


def first_few(each: Sequence[str]) -> str:
    """As many as a line bears, and how many there are: "7: bot 311, vpn 312, payments 315, bot 320, and 3 more"."""
    more = f", and {len(each) - FEW} more" if len(each) > FEW else ""
    return f"{len(each)}: {', '.join(each[:FEW])}{more}"


@dataclass(frozen=True)
class Row:
    """`run` breaks something under load; `short` and `long` are the forms that it belongs to."""

    number: str
    title: str
    run: Callable[[Trial], Awaitable[None]]
    short: bool
    long: bool = True
    rest_within_s: float = 20.0
    """From the end of the load, in the long form: leases and acknowledgements take 5 s to run out, pauses up to 10."""


@dataclass
class Ended:
    """What a row came to."""

    row: Row
    trial: Trial
    count: Count
    broken: list[str]
    rest_s: float
    took_s: float

    @property
    def off(self) -> list[str]:
        """Why the row is off; nothing when it is not."""
        count, off = self.count, list(self.trial.off)
        if count.lost or count.doubled:
            seen = (count.examples + count.chats)[:EXAMPLES]
            off.append(f"{count.lost} lost, {count.doubled} doubled: {'; '.join(seen)}")
        if count.said_again > self.trial.may_be_said_again:
            off.append(f"{count.said_again} messages were said again: {'; '.join(count.chats[:EXAMPLES])}")
        return off + self.broken

    @property
    def line(self) -> str:
        count, trial = self.count, self.trial
        parts = [
            f"row {self.row.number:<4}{'ok ' if not self.off else 'OFF'} {self.row.title}: {'; '.join(trial.faults)}",
            f"{count.payments} payments, {count.lost} lost, {count.doubled} doubled",
            f"{len(self.broken)} invariants broken",
            f"at rest after {self.rest_s:.1f} s",
            *trial.figures,
        ]
        if count.said_again:
            parts.append(f"{count.said_again} messages said again (at most {trial.may_be_said_again})")
        return " | ".join(parts)


async def play(row: Row, trial: Trial, paid_before: Sequence[Paid], said_before: int) -> Ended:
    """Break, drain, count, also what earlier rows paid. Whatever the row throws is an end of it, too."""
    began = time.monotonic()
    try:
        await row.run(trial)
    except Exception as error:  # The other rows are still worth their lines.
        trial.off.append(f"the row ended with {type(error).__name__}: {error}")
        await trial.shop.all_live()
    over_at = time.monotonic()
    trial.tell("the load is over")
    moving = await trial.shop.rests(3 * HANGS_AFTER_S)
    rest_s = time.monotonic() - over_at
    if moving:
        trial.off.append(f"not at rest: {moving}")
    elif rest_s > row.rest_within_s and not trial.short:
        trial.off.append(f"at rest after {rest_s:.1f} s, not within {row.rest_within_s:g}")
    trial.tell("at rest")
    await trial.claims_counted()
    count = await counted(trial.shop, [*paid_before, *trial.paid], said_before)
    count.payments = len(trial.paid)
    trial.tell("counted")
    broken = await trial.shop.broken(trial.expected)
    return Ended(row, trial, count, broken, rest_s, time.monotonic() - began)
