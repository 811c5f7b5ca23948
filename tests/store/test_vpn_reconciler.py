"""Reconciling nodes on a real PostgreSQL: people are put back after a restart, and drift ends."""

from uuid import uuid4

import pytest

from shared.contracts.vpn import AccessGranted
from shared.platform.db import Database
from tests.kit.access import (
    FailingPanel,
    bought,
    broken,
    claimed,
    confirmed,
    dies,
    handle,
    job_of,
    published,
    registered,
    settled,
    subscription_of,
    work,
)
from vpn_provisioner.domain import pauses
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.domain.panel import Wanted
from vpn_provisioner.store import nodes
from vpn_provisioner.workers import reconciler
from vpn_provisioner.workers.live import LiveNode
from vpn_provisioner.workers.reconciler import Reconciler

WAITING = "select count(*) from access_jobs where state <> 'agreed'"


# Putting back


async def test_after_a_restart_everybody_is_put_back(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new incarnation of Xray has no users: they come back page by page.

    Nothing is published twice.
    """
    monkeypatch.setattr(reconciler, "PAGE_SIZE", 7)
    one = Reconciler(vpn, LiveNode(node, panel))
    await one.reconcile()
    await bought(vpn, 25)
    await work(vpn, node, panel)
    held = dict(panel.held)
    panel.restart()
    await one.reconcile()
    assert await work(vpn, node, panel) == 25
    assert panel.held == held
    await one.reconcile()
    assert await work(vpn, node, panel) == 0
    assert len(await published(vpn, AccessGranted)) == 25
    assert await broken(vpn) == {}


async def test_putting_back_continues_after_a_kill(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """Another replica goes on from the recorded page."""
    await Reconciler(vpn, LiveNode(node, panel)).reconcile()
    await bought(vpn, 20)
    await work(vpn, node, panel)
    panel.restart()
    async with vpn.transaction() as tx:
        assert await nodes.record_incarnation(node.id, panel.incarnation, tx)
    async with vpn.transaction() as tx:
        assert await nodes.put_back(node, 5, tx)
    await Reconciler(vpn, LiveNode(node, panel)).reconcile()
    await work(vpn, node, panel)
    assert len(panel.held) == 20
    assert await nodes.incarnation_of(node.id, vpn) == (panel.incarnation, False)


async def test_writes_before_a_restart_are_repeated(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """The answer was right when it was given; the restart came before it was recorded."""
    one = Reconciler(vpn, LiveNode(node, panel))
    await one.reconcile()
    (person,) = await bought(vpn, 1)
    token, (job,) = await claimed(vpn, node)
    await panel.ensure([Wanted(job.person, job.key, job.until)])
    panel.restart()
    await one.reconcile()
    await settled(vpn, node, token, job)
    assert (await job_of(vpn, person, node))["state"] == "waiting"
    await work(vpn, node, panel)
    assert set(panel.held) == {person}


async def test_a_new_node_gets_everybody_of_its_group(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    people = await bought(vpn, 5)
    await handle(vpn, confirmed(uuid4(), node_group="far"))
    await work(vpn, node, panel)
    new, other = await registered(vpn, "two"), FailingPanel()
    await Reconciler(vpn, LiveNode(new, other)).reconcile()
    await work(vpn, new, other)
    assert other.held == panel.held
    assert set(other.held) == set(people)
    assert len(await published(vpn, AccessGranted)) == 5


async def test_a_dead_job_stays_dead_after_a_restart(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", 0.001)
    one = Reconciler(vpn, LiveNode(node, panel))
    await one.reconcile()
    (person,) = await bought(vpn, 1)
    panel.refuses = {person}
    await work(vpn, node, panel)
    await dies(vpn, node, panel, person)
    panel.restart()
    await one.reconcile()
    assert await work(vpn, node, panel) == 0


# Drift


async def test_missing_people_are_put_back(vpn: Database, node: Node, panel: FailingPanel) -> None:
    """P-15: a user was removed at the panel, or got another key; the next comparison repairs it."""
    lost, changed, *_ = people = await bought(vpn, 6)
    await work(vpn, node, panel)
    held = dict(panel.held)
    del panel.held[lost]
    panel.held[changed] = uuid4()
    one = Reconciler(vpn, LiveNode(node, panel))
    await one.compare()
    assert "each node held exactly its people at the last comparison" in await broken(vpn)
    assert await work(vpn, node, panel) == 2
    assert panel.held == held
    assert set(held) == set(people)
    await one.compare()
    assert await broken(vpn) == {}


async def test_fewer_users_than_before_start_a_comparison(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "COMPARE_AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(reconciler, "COMPARE_TIME_DIVISOR", 0)
    one = Reconciler(vpn, LiveNode(node, panel))
    await bought(vpn, 3)
    await one.reconcile()
    await work(vpn, node, panel)
    await one.reconcile()
    panel.held.popitem()
    await one.reconcile()
    assert await work(vpn, node, panel) == 1


async def test_an_unknown_user_leaves_at_the_second_comparison(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-05, P-13: a user of ours without a job is removed, but never at once."""
    (person,) = await bought(vpn, 1)
    await work(vpn, node, panel)
    panel.held[uuid4()] = uuid4()
    one = Reconciler(vpn, LiveNode(node, panel))
    await one.compare()
    assert await work(vpn, node, panel) == 0
    await one.compare()
    assert await work(vpn, node, panel) == 1
    assert set(panel.held) == {person}
    await one.compare()
    assert await broken(vpn) == {}


async def test_an_unknown_user_with_a_new_purchase_stays(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-13: the desired state is read again before anybody is removed."""
    unknown = uuid4()
    panel.held[unknown] = uuid4()
    one = Reconciler(vpn, LiveNode(node, panel))
    await one.compare()
    await handle(vpn, confirmed(unknown))
    await one.compare()
    await one.compare()
    await work(vpn, node, panel)
    assert panel.held == {unknown: (await subscription_of(vpn, unknown))["key"]}
    assert await vpn.fetchval(WAITING) == 0


async def test_a_removed_user_who_returns_is_removed_again(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-16: the end of access reaches the panel and stays there."""
    (person,) = await bought(vpn, 1)
    fast, other = await registered(vpn, "two", node_group="fast"), FailingPanel()
    await work(vpn, node, panel)
    key = panel.held[person]
    await handle(vpn, confirmed(person, plan="plus", node_group="fast"))
    await work(vpn, node, panel)
    await work(vpn, fast, other)
    panel.held[person] = key
    one = Reconciler(vpn, LiveNode(node, panel))
    await one.compare()
    await one.compare()
    await work(vpn, node, panel)
    assert (panel.held, set(other.held)) == ({}, {person})


async def test_a_failed_comparison_changes_nothing(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """A listing that broke off must not make everybody seem missing."""
    await bought(vpn, 3)
    await work(vpn, node, panel)
    panel.away = True
    await Reconciler(vpn, LiveNode(node, panel)).reconcile()
    panel.away = False
    assert await work(vpn, node, panel) == 0
