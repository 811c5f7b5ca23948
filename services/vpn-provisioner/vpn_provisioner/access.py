"""Until when a person may use the VPN, and with what: the fold of everything that was bought."""

import calendar
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from shared.facts import Terms

_MICROSECOND = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Period:
    """One purchase as the book has it: its order, the book's time, and the terms frozen in the order."""

    order: UUID
    booked_at: datetime
    terms: Terms


@dataclass(frozen=True, slots=True)
class Standing:
    """What all purchases of a person come to."""

    plan: str
    devices: int
    traffic_bytes: int | None
    node_group: str
    ends_at: datetime


def fold(periods: Iterable[Period]) -> Standing:
    """The same for every order in which the periods are given: the book's time sorts them. At least one is needed.

    A renewal extends from the later of the payment's time and the present end, in calendar months counted from the day
    of the first payment of the unbroken time: from the 31st of January one month leads to the last day of February and
    two to the 31st of March. Another plan begins at once; the time that was left converts.
    """
    first, *later = sorted(periods, key=lambda period: (period.booked_at, period.order))
    run = _begun(first)
    for period in later:
        run = _continued(run, period)
    terms = run.terms
    return Standing(terms.plan, terms.devices, terms.traffic_bytes, terms.node_group, run.ends_at)


def after_months(start: datetime, months: int) -> datetime:
    """The same time of day so many calendar months later, on the month's last day where it has no such day."""
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    return start.replace(year=year, month=month, day=min(start.day, calendar.monthrange(year, month)[1]))


@dataclass(frozen=True, slots=True)
class Prospect:
    """What one more purchase makes of what a person has."""

    effect: Literal["begins", "extends", "converts"]
    plan: str | None
    converted: timedelta
    ends_at: datetime


def prospect(periods: Collection[Period], wanted: Period) -> Prospect:
    """What `wanted` would come to, by the very fold that will decide it once it is bought."""
    ends_at = fold([*periods, wanted]).ends_at
    present = fold(periods) if periods else None
    if present is None or present.ends_at < wanted.booked_at:
        return Prospect("begins", None, timedelta(0), ends_at)
    if present.plan == wanted.terms.plan:
        return Prospect("extends", present.plan, timedelta(0), ends_at)
    return Prospect("converts", present.plan, ends_at - after_months(wanted.booked_at, wanted.terms.months), ends_at)


@dataclass(frozen=True, slots=True)
class _Run:
    """An unbroken time on one plan: calendar months from one moment, then the hours converted from another plan.

    `paid` are its stretches, each until when and at which one-month list price, in kopecks: what another plan converts.
    """

    terms: Terms
    began_at: datetime
    months: int
    converted: timedelta
    paid: tuple[tuple[datetime, int], ...]

    @property
    def ends_at(self) -> datetime:
        return after_months(self.began_at, self.months) + self.converted


def _begun(period: Period, converted: timedelta = timedelta(0)) -> _Run:
    run = _Run(period.terms, period.booked_at, period.terms.months, converted, ())
    return replace(run, paid=((run.ends_at, period.terms.list_month_minor),))


def _continued(run: _Run, period: Period) -> _Run:
    if period.booked_at > run.ends_at:
        return _begun(period)
    if period.terms.plan != run.terms.plan:
        return _begun(period, converted=_converted(run, period))
    if run.converted:  # Converted hours lie behind the months: what is paid now begins where they end.
        run = replace(run, began_at=run.ends_at, months=0, converted=timedelta(0))
    longer = replace(run, terms=period.terms, months=run.months + period.terms.months)
    return replace(longer, paid=(*run.paid, (longer.ends_at, period.terms.list_month_minor)))


def _converted(run: _Run, period: Period) -> timedelta:
    """What is left of each stretch, worth its own list price, in whole hours of the new plan.

    A plan without a list price gives nothing to divide by: the time that is left stays as it is.
    """
    left = _left(run, period.booked_at)
    price = period.terms.list_month_minor
    if price == 0:
        return sum((time for time, _ in left), timedelta(0)) // _HOUR * _HOUR
    worth = sum(time // _MICROSECOND * list_minor for time, list_minor in left)
    return worth // (price * (_HOUR // _MICROSECOND)) * _HOUR


def _left(run: _Run, moment: datetime) -> list[tuple[timedelta, int]]:
    left, since = [], moment
    for until, list_minor in run.paid:
        if until > since:
            left.append((until - since, list_minor))
            since = until
    return left
