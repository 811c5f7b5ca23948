"""Reminders on a real PostgreSQL: each step of an end once, by any number of replicas."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shared.contracts.vpn import AccessExpiring, AccessQuery
from shared.platform.db import Database
from tests.kit.access import (
    broken,
    confirmed,
    ending_at,
    handle,
    published,
    shorten,
    subscription_of,
)
from tests.kit.refunds import refunded
from vpn_provisioner import ticks
from vpn_provisioner.queries import answer_access

# Time passes for one person: the end and its steps come nearer.
PASS = """
update subscriptions
set ends_at = ends_at - $2::interval, end_moved_at = end_moved_at - $2::interval,
  remind_at = remind_at - $2::interval
where person = $1
"""
LONG_AGO = """
update subscriptions
set end_moved_at = end_moved_at - interval '300 days'
where person = $1
"""
DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


async def steps(vpn: Database, person: UUID) -> list[int]:
    """The published steps of a person, in their order."""
    return [event.hours for event in await published(vpn, AccessExpiring) if event.about == person]


async def ends_in(vpn: Database, left: timedelta) -> UUID:
    """A person whose year, bought long ago, ends after this time."""
    person = uuid4()
    await handle(vpn, ending_at(now() + left, person))
    await vpn.execute(LONG_AGO, person)
    return person


async def test_three_steps_before_an_end(vpn: Database) -> None:
    """N-05, N-06: each once, however often the worker looks; with the end as it is."""
    person = await ends_in(vpn, 4 * DAY)
    for passed in (DAY / 2, DAY, DAY, DAY, 0.4 * DAY):
        await ticks.remind(vpn)
        await ticks.remind(vpn)
        await vpn.execute(PASS, person, passed)
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [72, 24, 3]
    assert (await subscription_of(vpn, person))["remind_at"] is None


async def test_an_outage_leaves_the_nearest_step(vpn: Database) -> None:
    """N-06: the worker was away over two steps. One reminder is sent, and the next one too."""
    person = await ends_in(vpn, 10 * DAY)
    await ticks.remind(vpn)
    await vpn.execute(PASS, person, 9.5 * DAY)
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [24]
    await vpn.execute(PASS, person, 0.4 * DAY)
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [24, 3]


async def test_a_renewal_voids_the_old_steps(vpn: Database) -> None:
    """N-05: the new end has steps of its own, once again."""
    person = await ends_in(vpn, DAY / 10)
    await ticks.remind(vpn)
    await handle(vpn, confirmed(person))
    row = await subscription_of(vpn, person)
    left = row["ends_at"] - now()
    assert left > 20 * DAY
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [3]
    await vpn.execute(PASS, person, left - 2.5 * DAY)
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [3, 72]
    first, second = await published(vpn, AccessExpiring)
    assert first.ends_at != second.ends_at


async def test_a_purchase_in_between_loses_no_step(vpn: Database) -> None:
    """N-06: a step was due when a fold wrote the same end again."""
    person = await ends_in(vpn, 2.5 * DAY)
    await shorten(vpn, refunded(person, uuid4()))
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [72]


async def test_a_refund_moves_the_steps(vpn: Database) -> None:
    """N-05: the refund's message names the new end; only the steps ahead of it follow."""
    person, order = await ends_in(vpn, 2 * DAY), uuid4()
    await handle(vpn, confirmed(person, order=order))
    await vpn.execute(LONG_AGO, person)
    await shorten(vpn, refunded(person, order))
    assert (await subscription_of(vpn, person))["ends_at"] < now() + 3 * DAY
    await ticks.remind(vpn)
    assert await steps(vpn, person) == []
    await vpn.execute(PASS, person, 1.5 * DAY)
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [24]


async def test_a_day_has_one_reminder(vpn: Database) -> None:
    """N-43: the step of a day began with the access, also where another one ended long ago."""
    person = uuid4()
    await handle(vpn, ending_at(now() - 500 * DAY, person))
    await vpn.execute(LONG_AGO, person)
    await handle(vpn, ending_at(now() + DAY, person))
    for passed in (DAY / 2, DAY / 2.5, DAY):
        await ticks.remind(vpn)
        await vpn.execute(PASS, person, passed)
    await ticks.remind(vpn)
    assert await steps(vpn, person) == [3]


async def test_replicas_share_the_due_rows(vpn: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """N-05, W-10: at once and in small lots, every step once, and nobody is left out."""
    people = [await ends_in(vpn, 2 * DAY) for _ in range(12)]
    monkeypatch.setattr(ticks, "REMINDERS_PER_TICK", 2)
    for _ in people:
        await asyncio.gather(*(ticks.remind(vpn) for _ in range(5)))
    events = await published(vpn, AccessExpiring)
    assert sorted(event.about for event in events) == sorted(people)


async def test_a_wave_of_reminders_is_paced(vpn: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """N-44: after an outage many are due at once, and keys share the limit of one bot with them.

    Rows of which no step holds are passed over.
    """
    monkeypatch.setattr(ticks, "REMINDERS_PER_TICK", 3)
    for _ in range(4):
        await handle(vpn, ending_at(now() + DAY, uuid4()))
    for _ in range(7):
        await ends_in(vpn, 2 * DAY)
    counts = []
    for _ in range(4):
        await ticks.remind(vpn)
        counts.append(len(await published(vpn, AccessExpiring)))
    assert max(b - a for a, b in zip([0, *counts], counts, strict=False)) <= 5
    assert (counts[0] >= 3, counts[-1]) == (True, 7)


async def test_an_overdue_reminder_is_found(vpn: Database) -> None:
    """I13: nobody looks at due rows; the audit says whom it concerns."""
    person = await ends_in(vpn, 2 * DAY)
    assert (await broken(vpn))["no reminder is overdue"] == (str(person),)
    await ticks.remind(vpn)
    assert "no reminder is overdue" not in await broken(vpn)


async def test_the_answer_names_the_step(vpn: Database) -> None:
    """N-07: notifier asks before it sends."""
    person = await ends_in(vpn, DAY / 2)
    assert (await answer_access(AccessQuery(person=person), vpn)).ends_within_h == 24
    later = await ends_in(vpn, 5 * DAY)
    assert (await answer_access(AccessQuery(person=later), vpn)).ends_within_h is None
