"""The run of one row of the matrix: its faults, its measurements, and its line of output."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal

from tests.chaos.count import count_effects
from tests.chaos.counted import Count
from tests.chaos.load import Load, PaidPurchase, Purchase
from tests.chaos.shop import Shop

QUIESCENT_WITHIN_S = 60.0
HANGS_AFTER_S = RESUMES_WITHIN_S = 60.0
AWAY_S = 1.0
AFTER_MENDING = 5
PATIENCE_SHORT = 3
"""CI may run on slow machines: where only a hang fails, all waits are so many times longer."""
EXAMPLES = 3
SHOWN = 4
FoundBy = Literal["watcher", "listing"]
CLAIMED = "select count(*) from notifier.deliveries where state = 'claimed'"


@dataclass
class Trial:
    """The run of a row. Only the long form checks the strict figures: CI may run on slow machines.

    `expected_violations` belong to this row and those before, by (owner, truth): a message that
    must be dead-lettered is one. `killed` holds the processes that the row killed, each as
    "name pid".
    """

    shop: Shop
    load: Load
    random: Random
    short: bool
    faults: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    paid: list[PaidPurchase] = field(default_factory=list)
    expected_violations: Counter[tuple[str, str]] = field(default_factory=Counter)
    killed: list[str] = field(default_factory=list)
    found: Counter[FoundBy] = field(default_factory=Counter)
    """Payments of which no notice told in time."""
    may_be_sent_again: int = 0
    _claimed: list[asyncio.Future[Any]] = field(default_factory=list)
    verbose: bool = False
    began_at: float = field(default_factory=time.monotonic)
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def per_s(self) -> float:
        return 40.0 if self.short else 100.0

    def patience_s(self, seconds: float) -> float:
        """How long to wait for what usually takes a tenth of these seconds."""
        return seconds * PATIENCE_SHORT if self.short else seconds

    def size(self, long: int, short: int) -> int:
        return short if self.short else long

    async def pay(
        self, purchases: list[Purchase], per_s: float | None = None
    ) -> list[PaidPurchase]:
        paid = await self.load.pay(purchases, per_s or self.per_s)
        self.paid += paid
        return paid

    async def break_under_load(
        self,
        purchases: list[Purchase],
        break_it: Callable[[], Awaitable[None]],
        mend: Callable[[], Coroutine[Any, Any, None]],
    ) -> float:
        """Half of the payments arrive during `break_it`, the other half during `mend`.

        The last ones come after it, so that each service has work then. Returns the seconds from
        the beginning of `break_it` until every service works again.
        """
        purchases, last = purchases[:-AFTER_MENDING], purchases[-AFTER_MENDING:]
        half = len(purchases) // 2
        paying = asyncio.create_task(self.pay(purchases[:half]))
        await asyncio.sleep(half / self.per_s / 2)
        broken_at = time.monotonic()
        await break_it()
        await asyncio.sleep(AWAY_S)
        more = asyncio.create_task(self.pay(purchases[half:]))
        took_s = await self.shop.resumed_all_s(
            broken_at, mend, lambda: self.pay(last), self.patience_s(RESUMES_WITHIN_S)
        )
        await asyncio.gather(paying, more)
        return took_s

    async def expect_quiescent(self, subject: str, within_s: float = QUIESCENT_WITHIN_S) -> None:
        """Wait until nothing is in flight; anything left after `within_s` fails the row."""
        within_s = self.patience_s(within_s)
        left = await self.shop.until_quiescent(within_s)
        self.expect(f"{subject} is quiescent within {within_s:g} s: {left}", not left)

    async def expect_no_loss(self, when: str) -> None:
        """Count within the row, when quiescent: a later fault must not repair an earlier loss."""
        await self.expect_all_money("watcher")
        await self.expect_quiescent(f"the shop with all money {when}")
        count = await count_effects(self.shop, self.paid, 0)
        seen = "; ".join((count.examples + count.chats)[:EXAMPLES])
        self.expect(f"nothing is lost or doubled {when}: {seen}", not count.lost + count.doubled)

    async def expect_all_money(self, by: FoundBy) -> None:
        """Money that no notice told of comes by the watcher or by the listing, all of it."""
        tills = self.shop.tills
        try:
            found = await (tills.watch() if by == "watcher" else tills.reconcile(self.since))
        except TimeoutError as error:
            self.failures.append(str(error))
            return
        self.found[by] += found
        left = await tills.unbooked()
        self.expect(f"all that the providers took is booked: {left}", not left)

    def expect(self, sentence: str, holds: bool) -> None:
        if not holds:
            self.failures.append(f"not true: {sentence}")

    def expect_within(self, subject: str, seconds: float, most_s: float) -> None:
        """A time. The long form holds it to `most_s`; the short form fails only on a hang."""
        limit_s = self.patience_s(HANGS_AFTER_S) if self.short else most_s
        self.figures.append(f"{subject} in {seconds:.1f} s (at most {limit_s:.3g})")
        if seconds > limit_s:
            self.failures.append(f"{subject} took {seconds:.1f} s")

    def expect_share(
        self, subject: str, share: float, least: float, least_short: float = 0.1
    ) -> None:
        """A ratio within this run."""
        limit = least_short if self.short else least
        self.figures.append(f"{subject} {share:.0%} (at least {limit:.0%})")
        if share < limit:
            self.failures.append(f"{subject} was {share:.0%}")

    def report(self, sentence: str) -> None:
        """Print progress, with `--verbose`."""
        if self.verbose:
            print(
                f"        {time.monotonic() - self.began_at:6.1f} s {sentence}",
                file=sys.stderr,
                flush=True,
            )

    def notifier_interrupted(self) -> None:
        """Notifier died, or cannot record that it sent: a claimed message may be sent again.

        Claims outlive that for some seconds. That is long enough to count them, also in a
        database that has yet to come back.
        """
        self._claimed.append(asyncio.ensure_future(self.shop.fetch_value(CLAIMED)))

    async def add_claims(self) -> None:
        self.may_be_sent_again += sum(await asyncio.gather(*self._claimed))


def first_few(each: Sequence[str]) -> str:
    """The count and the first few: "7: bot 311, vpn 312, payments 315, bot 320, and 3 more"."""
    more = f", and {len(each) - SHOWN} more" if len(each) > SHOWN else ""
    return f"{len(each)}: {', '.join(each[:SHOWN])}{more}"


@dataclass(frozen=True)
class Row:
    """`run` breaks something under load. `short` and `long` are the forms that include the row.

    The long form allows `quiescent_within_s` from the end of the load: leases and
    acknowledgement waits take 5 s to run out, and pauses up to 10.
    """

    number: str
    title: str
    run: Callable[[Trial], Awaitable[None]]
    short: bool
    long: bool = True
    quiescent_within_s: float = 20.0
    found_by: FoundBy = "watcher"
    """Brings at the end the money of providers that no notice told of."""


@dataclass
class RowResult:
    """The result of a row."""

    row: Row
    trial: Trial
    count: Count
    violations: list[str]
    quiescent_s: float
    took_s: float

    @property
    def failures(self) -> list[str]:
        """The reasons why the row failed; empty when it passed."""
        count, failures = self.count, list(self.trial.failures)
        if count.lost or count.doubled:
            seen = (count.examples + count.chats)[:EXAMPLES]
            failures.append(f"{count.lost} lost, {count.doubled} doubled: {'; '.join(seen)}")
        if count.sent_again > self.trial.may_be_sent_again:
            seen = count.chats[:EXAMPLES]
            failures.append(f"{count.sent_again} messages were sent again: {'; '.join(seen)}")
        return failures + self.violations

    @property
    def line(self) -> str:
        count, trial = self.count, self.trial
        verdict = "FAIL" if self.failures else "ok"
        parts = [
            f"row {self.row.number:<4}{verdict:<4} {self.row.title}: {'; '.join(trial.faults)}",
            f"{count.payments} payments, {count.lost} lost, {count.doubled} doubled",
            f"{len(self.violations)} invariants broken",
            f"quiescent after {self.quiescent_s:.1f} s",
            *trial.figures,
        ]
        if dropped := sum(one.fate == "never" for one in trial.paid):
            found = ", ".join(f"{n} payments only by the {by}" for by, n in trial.found.items())
            parts.append(f"{dropped} notices dropped, {found}")
        if count.sent_again:
            most = trial.may_be_sent_again
            parts.append(f"{count.sent_again} messages sent again (at most {most})")
        return " | ".join(parts)


async def play(
    row: Row, trial: Trial, paid_before: Sequence[PaidPurchase], sent_again_before: int
) -> RowResult:
    """Break, drain, and count, including the payments of earlier rows.

    An exception of the row is one of its failures.
    """
    began = time.monotonic()
    await trial.shop.tills.welcome_notices()
    try:
        await row.run(trial)
    except Exception as error:  # The other rows still have to run.
        trial.failures.append(f"the row ended with {type(error).__name__}: {error}")
        await trial.shop.start_missing()
    load_over_at = time.monotonic()
    trial.report("the load is over")
    left = await trial.shop.until_quiescent(trial.patience_s(3 * HANGS_AFTER_S))
    quiescent_s = time.monotonic() - load_over_at
    if left:
        trial.failures.append(f"not quiescent: {left}")
    elif quiescent_s > row.quiescent_within_s and not trial.short:
        most_s = row.quiescent_within_s
        trial.failures.append(f"quiescent after {quiescent_s:.1f} s, not within {most_s:g}")
    trial.report("quiescent")
    await trial.expect_all_money(row.found_by)
    if left := await trial.shop.until_quiescent(HANGS_AFTER_S):
        trial.failures.append(f"not quiescent after the {row.found_by}: {left}")
    trial.report("all money is found")
    await trial.add_claims()
    count = await count_effects(trial.shop, [*paid_before, *trial.paid], sent_again_before)
    count.payments = len(trial.paid)
    trial.report("counted")
    violations = await trial.shop.violations(trial.expected_violations)
    return RowResult(row, trial, count, violations, quiescent_s, time.monotonic() - began)
