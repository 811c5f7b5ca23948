"""Refunds on a real PostgreSQL: access is shortened once, in any order of arrival."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.contracts.message import Refused
from shared.contracts.vpn import AccessEnded, AccessGranted, AccessQuery, GrantQuery
from shared.platform.db import Database
from tests.kit.access import (
    FailingPanel,
    broken,
    confirmed,
    handle,
    published,
    shorten,
    subscription_of,
    work,
)
from tests.kit.refunds import refunded
from tests.kit.sessions import waits_for_a_lock
from vpn_provisioner import ticks
from vpn_provisioner.domain.access import after_months
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.queries import answer_access, answer_grant
from vpn_provisioner.subscribers import vpn_grants_confirmed, vpn_shortens_refunded


def awake() -> None:
    """No worker runs."""


async def test_a_refund_ends_the_access(vpn: Database, node: Node, panel: FailingPanel) -> None:
    """R-67: at once, confirmed by the node. The end says that its refund has a message."""
    person, order = uuid4(), uuid4()
    await handle(vpn, confirmed(person, order=order))
    await work(vpn, node, panel)
    assert person in panel.held
    event = refunded(person, order)
    await shorten(vpn, event, event)
    await shorten(vpn, event)
    assert (await answer_access(AccessQuery(person=person), vpn)).state == "ended"
    await work(vpn, node, panel)
    assert panel.held == {}
    [ended] = await published(vpn, AccessEnded)
    assert (ended.about, ended.refunded) == (person, True)
    assert await broken(vpn) == {}


async def test_a_share_shortens_the_access(vpn: Database, node: Node, panel: FailingPanel) -> None:
    """R-67: the person stays in, the node gets the new end, and the last share ends it."""
    person, order, now = uuid4(), uuid4(), datetime.now(UTC)
    await handle(vpn, confirmed(person, order=order, booked_at=now))
    await work(vpn, node, panel)
    whole = (await subscription_of(vpn, person))["ends_at"]
    await shorten(vpn, refunded(person, order, undone_minor=7_450))
    await work(vpn, node, panel)
    half = (await subscription_of(vpn, person))["ends_at"]
    assert abs((half - now) * 2 - (whole - now)) <= timedelta(hours=2)
    assert person in panel.held
    await shorten(vpn, refunded(person, order, undone_minor=7_450))
    await work(vpn, node, panel)
    assert panel.held == {}
    assert await broken(vpn) == {}


async def test_another_order_keeps_the_access(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """R-67: of two orders one is undone, and the other's month is left."""
    person, first = uuid4(), uuid4()
    await handle(vpn, confirmed(person, order=first))
    await handle(vpn, confirmed(person))
    await work(vpn, node, panel)
    await shorten(vpn, refunded(person, first))
    assert (await subscription_of(vpn, person))["state"] == "live"
    await work(vpn, node, panel)
    assert person in panel.held
    assert await published(vpn, AccessEnded) == []
    assert await broken(vpn) == {}


async def test_a_refund_before_its_order_waits(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """R-63: the order comes to nothing: no node is asked, and no key is announced."""
    person, order = uuid4(), uuid4()
    booked_at = datetime.now(UTC) - timedelta(seconds=1)
    await shorten(vpn, refunded(person, order))
    await handle(vpn, confirmed(person, order=order, booked_at=booked_at))
    await work(vpn, node, panel)
    assert panel.asked == []
    assert await published(vpn, AccessGranted) == []
    assert [event.refunded for event in await published(vpn, AccessEnded)] == [True]
    grant = await answer_grant(GrantQuery(order=order), vpn)
    assert not isinstance(grant, Refused)
    assert (grant.withdrawn, grant.announced_at, grant.event) == (True, None, None)
    assert await broken(vpn) == {}


@pytest.mark.parametrize("refund_first", [True, False])
async def test_a_restored_order_is_one_period(
    vpn: Database, node: Node, refund_first: bool
) -> None:
    """R-143: its event may be repeated, and may come before that of the refund."""
    person, lost = uuid4(), uuid4()
    bought_at = datetime.now(UTC) - timedelta(days=10)
    await handle(vpn, confirmed(person, order=lost, booked_at=bought_at))
    event = confirmed(person)
    assert event.bought is not None
    again = event.bought.model_copy(update={"restores": lost})
    event = event.model_copy(update={"bought": again})
    if refund_first:
        await shorten(vpn, refunded(person, lost))
    await handle(vpn, event)
    await handle(vpn, event)
    if not refund_first:
        await shorten(vpn, refunded(person, lost))
    ends_at = (await subscription_of(vpn, person))["ends_at"]
    assert ends_at == after_months(event.booked_at, 1)
    assert await broken(vpn) == {}


async def test_an_ungranted_order_is_withdrawn(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """R-67: the node was away when the refund came. Nobody gets a key that opens nothing."""
    person, order = uuid4(), uuid4()
    await handle(vpn, confirmed(person, order=order))
    await shorten(vpn, refunded(person, order))
    await work(vpn, node, panel)
    assert panel.held == {}
    assert await published(vpn, AccessGranted) == []
    assert await broken(vpn) == {}


async def test_first_order_and_refund_at_once_meet(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """R-63: neither transaction saw the other's row. The next tick folds both."""
    person, order = uuid4(), uuid4()
    async with vpn.transaction() as tx:
        await vpn_grants_confirmed([confirmed(person, order=order)], tx, wake=awake)
        await shorten(vpn, refunded(person, order))
    assert (await subscription_of(vpn, person))["state"] == "live"
    await ticks.meet_refunds(vpn, awake)
    await ticks.meet_refunds(vpn, awake)
    assert (await subscription_of(vpn, person))["state"] != "live"
    await work(vpn, node, panel)
    assert panel.held == {}
    assert await broken(vpn) == {}


async def test_a_refund_racing_a_renewal(vpn: Database, node: Node, panel: FailingPanel) -> None:
    """R-67: both lock the subscription, and the second folds all rows."""
    person, first = uuid4(), uuid4()
    await handle(vpn, confirmed(person, order=first))
    async with vpn.transaction() as tx:
        await vpn_shortens_refunded([refunded(person, first)], tx, wake=awake)
        task = asyncio.create_task(handle(vpn, confirmed(person)))
        await waits_for_a_lock(task, vpn)
    await task
    await work(vpn, node, panel)
    assert person in panel.held
    assert await broken(vpn) == {}


async def test_a_refund_without_an_order_changes_nothing(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """R-67: a top-up that was returned bought no access."""
    person = uuid4()
    await handle(vpn, confirmed(person))
    await work(vpn, node, panel)
    await shorten(vpn, refunded(person))
    assert await vpn.fetchval("select count(*) from shortenings") == 0
    assert person in panel.held


async def test_a_late_refund_publishes_no_second_end(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """R-67: the access had ended long before its money was returned."""
    person, order = uuid4(), uuid4()
    long_ago = datetime.now(UTC) - timedelta(days=90)
    await handle(vpn, confirmed(person, order=order, booked_at=long_ago))
    await ticks.expire(vpn, awake)
    await work(vpn, node, panel)
    await shorten(vpn, refunded(person, order))
    await ticks.expire(vpn, awake)
    await work(vpn, node, panel)
    assert len(await published(vpn, AccessEnded)) == 1
    assert await broken(vpn) == {}


ORDER = UUID(int=7)
DAMAGE = {
    "every subscription is the fold of its periods, by booking time": "delete from shortenings",
    "no order is shortened by more than the whole": (
        "update shortenings set price_minor = undone_minor; "
        "insert into shortenings (id, refund, order_id, person, undone_minor, price_minor) "
        "select gen_random_uuid(), gen_random_uuid(), order_id, person, 1, price_minor "
        "from shortenings"
    ),
    "every undone order is known within ten minutes": (
        "update shortenings set order_id = gen_random_uuid(), "
        "handled_at = now() - interval '11 minutes'"
    ),
    "periods and shortenings are insert-only": "grant delete on shortenings to vpn_app",
}


@pytest.mark.parametrize("truth", DAMAGE)
async def test_the_audit_finds_a_wrong_shortening(
    vpn: Database, vpn_dsn: str, node: Node, panel: FailingPanel, truth: str
) -> None:
    """R-67: each check of the undone shares can fail."""
    person = uuid4()
    await handle(vpn, confirmed(person, order=ORDER))
    await work(vpn, node, panel)
    await shorten(vpn, refunded(person, ORDER, undone_minor=100))
    await work(vpn, node, panel)
    assert await broken(vpn) == {}
    owner = await asyncpg.connect(vpn_dsn)
    await owner.execute(DAMAGE[truth])
    await owner.close()
    assert truth in await broken(vpn)
