"""The access of a person and its end: the fold of all their purchases."""

import calendar
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from uuid import UUID

from shared.contracts.payments import PlanTerms
from shared.contracts.vpn import Effect

_MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
NOTHING = Fraction(0)


@dataclass(frozen=True, slots=True)
class Period:
    """One purchase: its order, when payments booked it, and the terms frozen in the order.

    `undone` is the share that refunds undid. An order of which all is undone gives no time.
    """

    order: UUID
    booked_at: datetime
    terms: PlanTerms
    undone: Fraction = NOTHING

    @property
    def is_undone(self) -> bool:
        return self.undone >= 1


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The result of all purchases of a person."""

    plan: str
    devices: int
    traffic_bytes: int | None
    node_group: str
    ends_at: datetime


def fold(periods: Iterable[Period]) -> Entitlement:
    """Fold at least one period. Their order does not matter: they are sorted by booking time.

    A renewal extends from the later of the payment's time and the present end. Months are
    calendar months, counted from the day of the first payment of the unbroken run: from the 31st
    of January one month leads to the last day of February, and two lead to the 31st of March.
    Another plan begins at once, and the time that was left converts.

    An undone order is left out, and an undone share shortens the time of its order. Where all
    orders are undone, the access ended when the last of them began.
    """
    every = sorted(periods, key=_turn)
    left = [period for period in every if not period.is_undone]
    if not left:
        return _entitlement(every[-1].terms, every[-1].booked_at)
    first, *later = left
    run = _begin(first)
    for period in later:
        run = _continue(run, period)
    return _entitlement(run.terms, run.ends_at)


def _entitlement(terms: PlanTerms, ends_at: datetime) -> Entitlement:
    return Entitlement(terms.plan, terms.devices, terms.traffic_bytes, terms.node_group, ends_at)


def _turn(period: Period) -> tuple[datetime, UUID]:
    return period.booked_at, period.order


def after_months(start: datetime, months: int) -> datetime:
    """The same time of day so many calendar months later, at most on the last day of the month."""
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return start.replace(year=year, month=month, day=day)


@dataclass(frozen=True, slots=True)
class Prospect:
    """The effect of one more purchase on the present access of a person."""

    effect: Effect
    plan: str | None
    converted: timedelta
    ends_at: datetime


def prospect(periods: Collection[Period], wanted: Period) -> Prospect:
    """Foresee the effect of `wanted`, by the same fold that decides after the purchase."""
    ends_at = fold([*periods, wanted]).ends_at
    present = fold(periods) if periods else None
    if present is None or present.ends_at < wanted.booked_at:
        return Prospect("begins", None, timedelta(0), ends_at)
    if present.plan == wanted.terms.plan:
        return Prospect("extends", present.plan, timedelta(0), ends_at)
    unconverted = after_months(wanted.booked_at, wanted.terms.months)
    return Prospect("converts", present.plan, ends_at - unconverted, ends_at)


@dataclass(frozen=True, slots=True)
class OrderEffect:
    """What an order made of the access before it. `new_link`: it went on at other nodes."""

    effect: Effect
    plan_before: str | None
    converted: timedelta
    new_link: bool


def effect_of(order: UUID, periods: Collection[Period]) -> OrderEffect:
    """The effect of an order among all periods of its person: on those that were booked before.

    Where a newer order changed the plan again, this one only made the access longer: its message
    names the present plan.
    """
    own = next(period for period in periods if period.order == order)
    before = [period for period in periods if _turn(period) < _turn(own)]
    found = prospect(before, own)
    present = fold(periods)
    if found.plan is not None and present.plan != own.terms.plan:
        return OrderEffect("extends", found.plan, timedelta(0), new_link=False)
    moved = found.plan is not None and (
        fold(before).node_group != own.terms.node_group == present.node_group
    )
    return OrderEffect(found.effect, found.plan, found.converted, moved)


@dataclass(frozen=True, slots=True)
class _Run:
    """Unbroken time on one plan: calendar months, then the hours converted from another plan.

    `converted` is less by the hours that a refund undid, and may be negative.

    `paid` holds its stretches: the end of each and its one-month list price in kopecks. A change
    of the plan converts by these prices.
    """

    terms: PlanTerms
    began_at: datetime
    months: int
    converted: timedelta
    paid: tuple[tuple[datetime, int], ...]

    @property
    def ends_at(self) -> datetime:
        return after_months(self.began_at, self.months) + self.converted


def _begin(period: Period, converted: timedelta = timedelta(0)) -> _Run:
    run = _Run(period.terms, period.booked_at, period.terms.months, timedelta(0), ())
    run = replace(run, converted=converted - _undone(period, run.ends_at - run.began_at))
    return replace(run, paid=((run.ends_at, period.terms.list_month_minor),))


def _continue(run: _Run, period: Period) -> _Run:
    if period.booked_at > run.ends_at:
        return _begin(period)
    if period.terms.plan != run.terms.plan:
        return _begin(period, converted=_converted(run, period))
    if run.converted:
        # Hours come after the months, so the newly paid time begins where they end.
        run = replace(run, began_at=run.ends_at, months=0, converted=timedelta(0))
    longer = replace(run, terms=period.terms, months=run.months + period.terms.months)
    longer = replace(longer, converted=-_undone(period, longer.ends_at - run.ends_at))
    return replace(longer, paid=(*run.paid, (longer.ends_at, period.terms.list_month_minor)))


def _undone(period: Period, time: timedelta) -> timedelta:
    """The undone share of a period's time, in whole hours."""
    share = period.undone
    return time // _MICROSECOND * share.numerator // share.denominator * _MICROSECOND // HOUR * HOUR


def _converted(run: _Run, period: Period) -> timedelta:
    """The rest of each stretch, valued at its own list price, in whole hours of the new plan.

    A plan without a list price gives nothing to divide by: the remaining time stays as it is.
    """
    left = _left(run, period.booked_at)
    price = period.terms.list_month_minor
    if price == 0:
        return sum((time for time, _ in left), timedelta(0)) // HOUR * HOUR
    worth = sum(time // _MICROSECOND * list_minor for time, list_minor in left)
    return worth // (price * (HOUR // _MICROSECOND)) * HOUR


def _left(run: _Run, moment: datetime) -> list[tuple[timedelta, int]]:
    """The parts of the stretches that lie after `moment`, each with its list price."""
    left, since = [], moment
    for until, list_minor in run.paid:
        if until > since:
            left.append((until - since, list_minor))
            since = until
    return left
