"""Ends of access on a real PostgreSQL: confirmed by every node, never missed, won by renewals."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from shared.contracts.message import derived_id
from shared.contracts.vpn import AccessEnded, AccessGranted, AccessQuery, Key, KeyQuery
from shared.platform.db import Database
from tests.kit.access import (
    FailingPanel,
    broken,
    confirmed,
    ending_at,
    handle,
    published,
    registered,
    subscription_of,
    work,
    worker,
)
from tests.kit.waiting import until
from vpn_provisioner import ticks
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.queries import answer_access, answer_key


def now() -> datetime:
    return datetime.now(UTC)


async def expire(vpn: Database) -> None:
    await ticks.expire(vpn, lambda: None)


async def test_every_node_confirms_before_the_end_is_published(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-21: "removed" is shown when it is true."""
    two, other = await registered(vpn, "two"), FailingPanel()
    person, longer, ends_at = uuid4(), uuid4(), now() - timedelta(seconds=1)
    in_an_hour = now() + timedelta(hours=1)
    await handle(vpn, ending_at(ends_at, person), ending_at(in_an_hour, longer))
    await work(vpn, node, panel)
    await work(vpn, two, other)
    assert panel.held.keys() == other.held.keys() == {person, longer}
    await expire(vpn)
    await expire(vpn)
    assert (await subscription_of(vpn, longer))["state"] == "live"
    other.away = True
    await work(vpn, node, panel)
    await worker(vpn, two, other).round()
    assert (person in panel.held, await published(vpn, AccessEnded)) == (False, [])
    assert (await answer_access(AccessQuery(person=person), vpn)).state == "ended"
    other.away = False
    await work(vpn, two, other)
    (ended,) = await published(vpn, AccessEnded)
    assert (ended.about, ended.ended_at, set(other.held)) == (person, ends_at, {longer})
    assert ended.id == derived_id(f"{person} {ends_at.isoformat()}", AccessEnded.topic, person)
    assert await broken(vpn) == {}


async def test_a_renewal_that_races_the_end_wins(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-14: the removal was wanted and in progress when the renewal came. The person stays in."""
    person = uuid4()
    await handle(vpn, ending_at(now() - timedelta(seconds=1), person))
    await work(vpn, node, panel)
    key = panel.held[person]
    await expire(vpn)
    panel.gate.clear()
    removing = asyncio.create_task(work(vpn, node, panel))
    await until(lambda: len(panel.asked) == 2)
    await handle(vpn, confirmed(person))
    panel.gate.set()
    await removing
    assert panel.held == {person: key}
    assert await published(vpn, AccessEnded) == []
    assert (await subscription_of(vpn, person))["state"] == "live"
    assert await broken(vpn) == {}


async def test_a_purchase_after_the_end_keeps_the_key(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    person = uuid4()
    await handle(vpn, ending_at(now() - timedelta(hours=1), person))
    await work(vpn, node, panel)
    key = (await subscription_of(vpn, person))["key"]
    await expire(vpn)
    await work(vpn, node, panel)
    assert (await subscription_of(vpn, person))["state"] == "ended"
    assert len(await published(vpn, AccessEnded)) == 1
    refused = await answer_key(KeyQuery(person=person), vpn)
    assert not isinstance(refused, Key)
    await handle(vpn, confirmed(person))
    await work(vpn, node, panel)
    assert panel.held == {person: key}
    assert await broken(vpn) == {}


async def test_an_end_missed_for_days_still_ends(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-22: every overdue end is due, however late the tick comes."""
    people = [uuid4() for _ in range(3)]
    await handle(vpn, *(ending_at(now() - timedelta(days=2), person) for person in people))
    await expire(vpn)
    await work(vpn, node, panel)
    assert {event.about for event in await published(vpn, AccessEnded)} == set(people)


async def test_access_without_a_node_ends_too(vpn: Database) -> None:
    person = uuid4()
    await handle(vpn, ending_at(now() - timedelta(days=1), person))
    await expire(vpn)
    assert len(await published(vpn, AccessEnded)) == 1
    assert len(await published(vpn, AccessGranted)) == 1
    assert await broken(vpn) == {}
