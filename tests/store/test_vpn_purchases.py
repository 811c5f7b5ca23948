"""What was bought, on a real PostgreSQL: one row per order, one subscription per person, whatever comes when."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.contract import derived_id
from shared.db import Database
from shared.facts import AccessEnded, AccessGranted
from shared.questions import AskAccess, AskAudit, AskKey, AskOutlook, Key
from tests.kit.access import (
    StumblingPanel,
    broken,
    confirmed,
    ending_at,
    hear,
    job_of,
    placed,
    subscription_of,
    told,
    until,
    work,
    worker,
)
from tests.kit.servers import MakeDatabase
from vpn_provisioner import ticks
from vpn_provisioner.access import Period, fold
from vpn_provisioner.answers import answer_access, answer_key, answer_outlook
from vpn_provisioner.audit import answer_audit
from vpn_provisioner.live import LiveNode
from vpn_provisioner.watch import Watch

STORY = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PERIODS = "select count(*) from periods where person = $1"
SHORTEN = "update subscriptions set ends_at = ends_at - interval '1 hour' where person = $1"
FORGE = "update periods set months = 120"


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    opened = Database((await fresh_database("vpn")).dsn("vpn_app"), name="test", size=12)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def panel() -> StumblingPanel:
    return StumblingPanel()


def now() -> datetime:
    return datetime.now(UTC)


async def expire(database: Database) -> None:
    await ticks.expire(database, lambda: None)


async def test_what_a_purchase_would_come_to_is_told_before_and_true_after(database: Database) -> None:
    """N-18: the outlook and the fold are one decision; asking writes nothing."""
    person = uuid4()
    nothing = await answer_outlook(wanted(person, "plus", 29_900), database)
    assert (nothing.effect, nothing.plan) == ("begins", None)
    await hear(database, confirmed(person))
    assert (await answer_outlook(wanted(person, "basic", 14_900), database)).effect == "extends"
    outlook = await answer_outlook(wanted(person, "plus", 29_900), database)
    assert (outlook.effect, outlook.plan) == ("converts", "basic")
    assert outlook.converted_hours >= 28 * 24 * 14_900 // 29_900 - 1
    await hear(database, confirmed(person, plan="plus"))
    became = await answer_access(AskAccess(person=person), database)
    assert became.ends_at is not None
    assert abs(became.ends_at - outlook.ends_at) <= timedelta(hours=1), "a moment passed, and whole hours convert"


def wanted(person: UUID, plan: str, list_month_minor: int) -> AskOutlook:
    return AskOutlook(person=person, plan=plan, months=1, list_month_minor=list_month_minor)


async def test_a_purchase_becomes_access_and_is_told_once(database: Database, panel: StumblingPanel) -> None:
    node, person = await placed(database), uuid4()
    event = confirmed(person).continuing(STORY)
    assert event.bought is not None
    await hear(database, event)
    assert (await answer_access(AskAccess(person=person), database)).state == "issuing"
    assert await work(database, node, panel) == 1
    subscription = await subscription_of(database, person)
    assert panel.held == {person: subscription["key"]}
    (granted,) = await told(database, AccessGranted)
    assert (granted.about, granted.order, granted.ends_at) == (person, event.bought.order, subscription["ends_at"])
    assert granted.id == derived_id(event.bought.order, AccessGranted.topic, person)
    assert granted.trace == STORY
    access = await answer_access(AskAccess(person=person), database)
    assert (access.state, access.plan, access.ends_at) == ("up", "basic", subscription["ends_at"])
    key = await answer_key(AskKey(person=person), database)
    assert isinstance(key, Key)
    assert str(subscription["key"]) in key.link
    assert await broken(database) == {}


async def test_an_order_heard_under_two_facts_buys_once(database: Database) -> None:
    """M-35: whatever repeats a purchase, and under whatever id, one order is one period."""
    person, order = uuid4(), uuid4()
    await hear(database, confirmed(person, order=order), confirmed(person, order=order, cause="charge"))
    first = await subscription_of(database, person)
    await hear(database, confirmed(person, order=order, cause="again"))
    assert await subscription_of(database, person) == first
    assert await database.fetchval(PERIODS, person) == 1


async def test_money_without_a_purchase_gives_no_access(database: Database) -> None:
    person = uuid4()
    await hear(database, confirmed(person).model_copy(update={"bought": None}))
    assert (await answer_access(AskAccess(person=person), database)).state == "none"
    answer = await answer_key(AskKey(person=person), database)
    assert not isinstance(answer, Key)
    assert answer.reason == "no_access"


async def test_a_renewal_keeps_the_key_and_each_order_is_told_once(database: Database, panel: StumblingPanel) -> None:
    node, person = await placed(database), uuid4()
    await hear(database, confirmed(person))
    await work(database, node, panel)
    key = panel.held[person]
    await hear(database, confirmed(person, months=3))
    await work(database, node, panel)
    await hear(database, confirmed(person), confirmed(person))
    await work(database, node, panel)
    assert panel.held == {person: key}
    granted = await told(database, AccessGranted)
    assert len(granted) == len({fact.order for fact in granted}) == 4
    assert [fact.ends_at for fact in granted] == sorted(fact.ends_at for fact in granted)
    assert await broken(database) == {}


async def test_a_renewal_never_takes_the_key_away_while_a_node_is_slow(
    database: Database, panel: StumblingPanel
) -> None:
    node, person = await placed(database), uuid4()
    await hear(database, confirmed(person))
    refused = await answer_key(AskKey(person=person), database)
    assert not isinstance(refused, Key)
    assert refused.reason == "issuing"
    await work(database, node, panel)
    await hear(database, confirmed(person))
    assert (await answer_access(AskAccess(person=person), database)).state == "issuing"
    assert isinstance(await answer_key(AskKey(person=person), database), Key)


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_and_any_batching_give_the_same_subscription(database: Database, seed: int) -> None:
    """The fold of all rows by the book's time: late and reordered facts, in batches of any size, repeated."""
    lot = random.Random(seed)
    people = [uuid4() for _ in range(4)]
    events = [
        confirmed(
            lot.choice(people),
            plan=lot.choice(["basic", "plus"]),
            months=lot.choice([1, 3, 12]),
            booked_at=now() - timedelta(hours=lot.randrange(24 * 400)),
        )
        for _ in range(30)
    ]
    arriving = [*events, *lot.sample(events, 10)]
    lot.shuffle(arriving)
    while arriving:
        count = lot.randrange(1, 8)
        batch, arriving = arriving[:count], arriving[count:]
        await hear(database, *batch)
    for person in {event.about for event in events}:
        periods = [
            Period(event.bought.order, event.booked_at, event.bought.terms)
            for event in events
            if event.about == person and event.bought
        ]
        assert (await subscription_of(database, person))["ends_at"] == fold(periods).ends_at
    broken_truths = set(await broken(database))
    assert not [truth for truth in broken_truths if "fold" in truth or "subscription and its promise" in truth]


async def test_purchases_of_one_person_in_parallel_transactions_all_count(database: Database) -> None:
    """Nobody's row is folded away by another transaction that had not seen it."""
    person = uuid4()
    events = [confirmed(person) for _ in range(12)]
    await asyncio.gather(*(hear(database, event) for event in events))
    assert await database.fetchval(PERIODS, person) == len(events)
    assert await broken_folds(database) == 0


async def broken_folds(database: Database) -> int:
    audit = await answer_audit(AskAudit.of("vpn")(), database)
    return sum(finding.violations for finding in audit.findings if "fold" in finding.truth)


async def test_batches_that_meet_in_opposite_order_do_not_deadlock(database: Database) -> None:
    await placed(database)
    people = [uuid4() for _ in range(60)]
    for _ in range(3):
        forth = [confirmed(person) for person in people]
        back = [confirmed(person) for person in reversed(people)]
        await asyncio.gather(hear(database, *forth), hear(database, *back))
    assert await broken_folds(database) == 0


async def test_what_was_bought_cannot_be_changed(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute(FORGE)


async def test_a_period_without_months_is_refused_as_data(database: Database) -> None:
    """A malformed purchase is a data error: buried with its bytes, not tried for an hour."""
    with pytest.raises(asyncpg.CheckViolationError, match="a_period_is_one_to_120_months"):
        await hear(database, confirmed(uuid4(), months=0))


async def test_another_plan_moves_to_the_nodes_of_its_group(database: Database, panel: StumblingPanel) -> None:
    slow, fast, person = await placed(database), await placed(database, "two", node_group="fast"), uuid4()
    other = StumblingPanel()
    await hear(database, confirmed(person))
    await work(database, slow, panel)
    await hear(database, confirmed(person, plan="plus", node_group="fast"))
    await work(database, fast, other)
    await work(database, slow, panel)
    assert (person in panel.held, person in other.held) == (False, True)
    assert len(await told(database, AccessGranted)) == 2
    assert await broken(database) == {}


async def test_a_person_is_on_every_node_of_the_group_before_it_is_told(
    database: Database, panel: StumblingPanel
) -> None:
    one, two, person = await placed(database), await placed(database, "two"), uuid4()
    other = StumblingPanel()
    await hear(database, confirmed(person))
    await work(database, one, panel)
    assert await told(database, AccessGranted) == []
    assert isinstance(await answer_key(AskKey(person=person), database), Key)
    await work(database, two, other)
    assert panel.held == other.held
    assert len(await told(database, AccessGranted)) == 1


async def test_a_purchase_for_a_group_without_nodes_is_not_told(database: Database) -> None:
    """Nothing is called granted before somebody can let the person in; the audit says what hangs."""
    order = uuid4()
    await hear(database, confirmed(uuid4(), order=order))
    assert await told(database, AccessGranted) == []
    assert await broken(database) == {"no order waits for an answer that nobody will give": (str(order),)}


async def test_the_end_is_told_only_after_every_node_confirmed_it(database: Database, panel: StumblingPanel) -> None:
    """P-21: "removed" is said when it is true."""
    one, two, person = await placed(database), await placed(database, "two"), uuid4()
    other = StumblingPanel()
    ends_at = now() + timedelta(seconds=0.5)
    await hear(database, ending_at(ends_at, person))
    await work(database, one, panel)
    await work(database, two, other)
    await expire(database)
    assert (await subscription_of(database, person))["state"] == "live"
    await asyncio.sleep(0.6)
    await expire(database)
    await expire(database)
    other.away = True
    await work(database, one, panel)
    await worker(database, two, other).round()
    assert (person in panel.held, await told(database, AccessEnded)) == (False, [])
    assert (await answer_access(AskAccess(person=person), database)).state == "ended"
    other.away = False
    await work(database, two, other)
    (ended,) = await told(database, AccessEnded)
    assert (ended.about, ended.ended_at, other.held) == (person, ends_at, {})
    assert ended.id == derived_id(f"{person} {ends_at.isoformat()}", AccessEnded.topic, person)
    assert await broken(database) == {}


async def test_a_renewal_that_races_the_expiry_wins(database: Database, panel: StumblingPanel) -> None:
    """P-14: the removal was wanted, and was even being done, when the renewal came: the person is in at the end."""
    node, person = await placed(database), uuid4()
    await hear(database, ending_at(now() + timedelta(seconds=0.3), person))
    await work(database, node, panel)
    key = panel.held[person]
    await asyncio.sleep(0.4)
    await expire(database)
    panel.gate.clear()
    removing = asyncio.create_task(work(database, node, panel))
    await until(lambda: len(panel.asked) == 2)
    await hear(database, confirmed(person))
    panel.gate.set()
    await removing
    assert panel.held == {person: key}
    assert await told(database, AccessEnded) == []
    assert (await subscription_of(database, person))["state"] == "live"
    assert await broken(database) == {}


async def test_after_an_end_a_purchase_opens_the_same_key_again(database: Database, panel: StumblingPanel) -> None:
    node, person = await placed(database), uuid4()
    await hear(database, ending_at(now() - timedelta(hours=1), person))
    await work(database, node, panel)
    key = (await subscription_of(database, person))["key"]
    await expire(database)
    await work(database, node, panel)
    assert (await subscription_of(database, person))["state"] == "ended"
    assert len(await told(database, AccessEnded)) == 1
    refused = await answer_key(AskKey(person=person), database)
    assert not isinstance(refused, Key)
    await hear(database, confirmed(person))
    await work(database, node, panel)
    assert panel.held == {person: key}
    assert await broken(database) == {}


async def test_an_end_missed_for_two_days_is_not_missed_for_ever(database: Database, panel: StumblingPanel) -> None:
    """P-22: what is due is due, however late somebody looks."""
    node, people = await placed(database), [uuid4() for _ in range(3)]
    await hear(database, *(ending_at(now() - timedelta(days=2), person) for person in people))
    await expire(database)
    await work(database, node, panel)
    assert {fact.about for fact in await told(database, AccessEnded)} == set(people)


async def test_who_was_on_no_node_ends_without_one(database: Database) -> None:
    person = uuid4()
    await hear(database, ending_at(now() - timedelta(days=1), person))
    await expire(database)
    assert len(await told(database, AccessEnded)) == len(await told(database, AccessGranted)) == 1
    assert await broken(database) == {}


async def test_the_audit_finds_a_subscription_that_is_not_its_fold(database: Database, panel: StumblingPanel) -> None:
    """I8: an end that was changed behind the fold's back is found, with whose it is."""
    node, person = await placed(database), uuid4()
    await hear(database, confirmed(person), confirmed(uuid4()))
    await Watch(database, LiveNode(node, panel)).round()
    await work(database, node, panel)
    await database.execute(SHORTEN, person)
    found = await broken(database)
    assert found["every subscription is the fold of what was bought, by the book's time"] == (str(person),)
    assert found["every node of its group is asked for what a live subscription is"] == (f"{person} on one",)


async def test_the_audit_counts_what_other_owners_must_agree_with(database: Database, panel: StumblingPanel) -> None:
    node = await placed(database)
    await hear(database, confirmed(uuid4()), confirmed(uuid4()))
    await work(database, node, panel)
    await hear(database, confirmed(UUID(int=1)))
    audit = await answer_audit(AskAudit.of("vpn")(), database)
    assert audit.counts == {"periods": 3, "orders_granted": 2, "live": 3}
    assert (await job_of(database, UUID(int=1), node))["state"] == "waiting"
