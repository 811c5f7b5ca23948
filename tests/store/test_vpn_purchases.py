"""Purchases on a real PostgreSQL: one period per order, one subscription per person."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.contracts.message import derived_id
from shared.contracts.operations import AuditQuery
from shared.contracts.vpn import AccessGranted, AccessQuery, Key, KeyQuery, OutlookQuery
from shared.platform.db import Database
from tests.kit.access import (
    FailingPanel,
    broken,
    confirmed,
    handle,
    published,
    registered,
    subscription_of,
    work,
)
from vpn_provisioner.audit import answer_audit
from vpn_provisioner.domain.access import Period, fold
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.queries import answer_access, answer_key, answer_outlook

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PERIODS = "select count(*) from periods where person = $1"
FORGE = "update periods set months = 120"


async def test_the_outlook_is_what_the_purchase_gives(vpn: Database) -> None:
    """N-18: the outlook and the fold are one decision, and a query writes nothing."""
    person = uuid4()
    nothing = await answer_outlook(outlook(person, "plus", 29_900), vpn)
    assert (nothing.effect, nothing.plan) == ("begins", None)
    await handle(vpn, confirmed(person))
    assert (await answer_outlook(outlook(person, "basic", 14_900), vpn)).effect == "extends"
    foreseen = await answer_outlook(outlook(person, "plus", 29_900), vpn)
    assert (foreseen.effect, foreseen.plan) == ("converts", "basic")
    assert foreseen.converted_hours >= 28 * 24 * 14_900 // 29_900 - 1
    await handle(vpn, confirmed(person, plan="plus"))
    became = await answer_access(AccessQuery(person=person), vpn)
    assert became.ends_at is not None
    assert abs(became.ends_at - foreseen.ends_at) <= timedelta(hours=1), (
        "a moment passed, and whole hours convert"
    )


def outlook(person: UUID, plan: str, list_month_minor: int) -> OutlookQuery:
    return OutlookQuery(person=person, plan=plan, months=1, list_month_minor=list_month_minor)


async def test_a_purchase_becomes_access_and_is_published(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    person = uuid4()
    event = confirmed(person).continuing(TRACE)
    assert event.bought is not None
    await handle(vpn, event)
    assert (await answer_access(AccessQuery(person=person), vpn)).state == "issuing"
    assert await work(vpn, node, panel) == 1
    subscription = await subscription_of(vpn, person)
    assert panel.held == {person: subscription["key"]}
    (granted,) = await published(vpn, AccessGranted)
    assert (granted.about, granted.order, granted.ends_at) == (
        person,
        event.bought.order,
        subscription["ends_at"],
    )
    assert granted.id == derived_id(event.bought.order, AccessGranted.topic, person)
    assert granted.trace == TRACE
    access = await answer_access(AccessQuery(person=person), vpn)
    assert (access.state, access.plan, access.ends_at) == ("up", "basic", subscription["ends_at"])
    key = await answer_key(KeyQuery(person=person), vpn)
    assert isinstance(key, Key)
    assert str(subscription["key"]) in key.link
    assert await broken(vpn) == {}


async def test_an_order_in_two_events_buys_once(vpn: Database) -> None:
    """M-35: one order is one period, however many events with other ids repeat it."""
    person, order = uuid4(), uuid4()
    await handle(vpn, confirmed(person, order=order), confirmed(person, order=order, cause="a"))
    first = await subscription_of(vpn, person)
    await handle(vpn, confirmed(person, order=order, cause="b"))
    assert await subscription_of(vpn, person) == first
    assert await vpn.fetchval(PERIODS, person) == 1


async def test_money_without_a_purchase_gives_no_access(vpn: Database) -> None:
    person = uuid4()
    await handle(vpn, confirmed(person).model_copy(update={"bought": None}))
    assert (await answer_access(AccessQuery(person=person), vpn)).state == "none"
    answer = await answer_key(KeyQuery(person=person), vpn)
    assert not isinstance(answer, Key)
    assert answer.reason == "no_access"


async def test_a_renewal_keeps_the_key(vpn: Database, node: Node, panel: FailingPanel) -> None:
    """And each order is published once."""
    person = uuid4()
    await handle(vpn, confirmed(person))
    await work(vpn, node, panel)
    key = panel.held[person]
    await handle(vpn, confirmed(person, months=3))
    await work(vpn, node, panel)
    await handle(vpn, confirmed(person), confirmed(person))
    await work(vpn, node, panel)
    assert panel.held == {person: key}
    granted = await published(vpn, AccessGranted)
    assert len(granted) == len({event.order for event in granted}) == 4
    assert [event.ends_at for event in granted] == sorted(event.ends_at for event in granted)
    assert await broken(vpn) == {}


async def test_a_grant_says_what_its_order_did(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """R-51: also where two orders are granted at once."""
    person = uuid4()
    await handle(vpn, confirmed(person))
    await work(vpn, node, panel)
    await handle(vpn, confirmed(person), confirmed(person, plan="plus"))
    await work(vpn, node, panel)
    granted = await published(vpn, AccessGranted)
    made = {event.effect: (event.plan, event.plan_before) for event in granted}
    assert made == {
        "begins": ("basic", None),
        "extends": ("plus", "basic"),
        "converts": ("plus", "basic"),
    }
    [changed] = [event for event in granted if event.effect == "converts"]
    assert 28 * 24 * 14_900 // 29_900 <= changed.converted_hours <= 62 * 24 * 14_900 // 29_900


async def test_a_waiting_renewal_takes_no_key_away(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """However slow the node is."""
    person = uuid4()
    await handle(vpn, confirmed(person))
    refused = await answer_key(KeyQuery(person=person), vpn)
    assert not isinstance(refused, Key)
    assert refused.reason == "issuing"
    await work(vpn, node, panel)
    await handle(vpn, confirmed(person))
    assert (await answer_access(AccessQuery(person=person), vpn)).state == "issuing"
    assert isinstance(await answer_key(KeyQuery(person=person), vpn), Key)


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_and_batching_give_one_result(vpn: Database, seed: int) -> None:
    """The fold sorts by booking time: events come late, reordered, repeated, in any batches."""
    lot = random.Random(seed)
    people = [uuid4() for _ in range(4)]
    events = [
        confirmed(
            lot.choice(people),
            plan=lot.choice(["basic", "plus"]),
            months=lot.choice([1, 3, 12]),
            booked_at=datetime.now(UTC) - timedelta(hours=lot.randrange(24 * 400)),
        )
        for _ in range(30)
    ]
    arriving = [*events, *lot.sample(events, 10)]
    lot.shuffle(arriving)
    while arriving:
        count = lot.randrange(1, 8)
        batch, arriving = arriving[:count], arriving[count:]
        await handle(vpn, *batch)
    for person in {event.about for event in events}:
        periods = [
            Period(event.bought.order, event.booked_at, event.bought.terms)
            for event in events
            if event.about == person and event.bought
        ]
        assert (await subscription_of(vpn, person))["ends_at"] == fold(periods).ends_at
    assert not {truth for truth in await broken(vpn) if "fold" in truth or "bought" in truth}


async def test_parallel_purchases_of_one_person_all_count(vpn: Database) -> None:
    """No transaction folds away the row of another one that it had not seen."""
    person = uuid4()
    events = [confirmed(person) for _ in range(12)]
    await asyncio.gather(*(handle(vpn, event) for event in events))
    assert await vpn.fetchval(PERIODS, person) == len(events)
    assert await broken_folds(vpn) == 0


async def broken_folds(vpn: Database) -> int:
    audit = await answer_audit(AuditQuery.of("vpn")(), vpn)
    return sum(finding.violations for finding in audit.findings if "fold" in finding.truth)


async def test_batches_in_opposite_order_do_not_deadlock(vpn: Database) -> None:
    await registered(vpn)
    people = [uuid4() for _ in range(60)]
    for _ in range(3):
        forth = [confirmed(person) for person in people]
        back = [confirmed(person) for person in reversed(people)]
        await asyncio.gather(handle(vpn, *forth), handle(vpn, *back))
    assert await broken_folds(vpn) == 0


async def test_a_period_cannot_be_changed(vpn: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await vpn.execute(FORGE)


async def test_a_period_without_months_is_a_data_error(vpn: Database) -> None:
    """A malformed purchase is dead-lettered with its bytes, and not retried for an hour."""
    with pytest.raises(asyncpg.CheckViolationError, match="a_period_is_one_to_120_months"):
        await handle(vpn, confirmed(uuid4(), months=0))


async def test_another_plan_moves_to_its_nodes(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    fast, other, person = await registered(vpn, "two", node_group="fast"), FailingPanel(), uuid4()
    await handle(vpn, confirmed(person))
    await work(vpn, node, panel)
    await handle(vpn, confirmed(person, plan="plus", node_group="fast"))
    await work(vpn, fast, other)
    await work(vpn, node, panel)
    assert (person in panel.held, person in other.held) == (False, True)
    assert len(await published(vpn, AccessGranted)) == 2
    assert await broken(vpn) == {}


async def test_every_node_agrees_before_access_is_published(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    two, other, person = await registered(vpn, "two"), FailingPanel(), uuid4()
    await handle(vpn, confirmed(person))
    await work(vpn, node, panel)
    assert await published(vpn, AccessGranted) == []
    assert isinstance(await answer_key(KeyQuery(person=person), vpn), Key)
    await work(vpn, two, other)
    assert panel.held == other.held
    assert len(await published(vpn, AccessGranted)) == 1


async def test_a_group_without_nodes_grants_nothing(vpn: Database) -> None:
    """No order is granted before a node can let the person in; the audit names the order."""
    order = uuid4()
    await handle(vpn, confirmed(uuid4(), order=order))
    assert await published(vpn, AccessGranted) == []
    assert await broken(vpn) == {"no grant waits without an open job": (str(order),)}
