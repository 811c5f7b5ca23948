"""Making nodes agree, on a real PostgreSQL and panels that stumble: leases, tries, replay, putting back, drift."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shared.commands import Replayed, ReplayJobs
from shared.contract import Refused
from shared.db import Database, Tx
from shared.facts import AccessGranted
from shared.inspection import AskDeadJobs
from shared.obey import obey
from tests.kit.access import (
    LINK,
    StumblingPanel,
    broken,
    confirmed,
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
from vpn_provisioner import attempts, watch
from vpn_provisioner.answers import answer_dead_jobs, replay_jobs
from vpn_provisioner.attempts import MOST_TRIES, Attempt
from vpn_provisioner.fleet import Fleet, place_first
from vpn_provisioner.live import LiveNode
from vpn_provisioner.panels.protocol import Panel, Wanted
from vpn_provisioner.store import jobs, nodes
from vpn_provisioner.store.jobs import Job
from vpn_provisioner.store.nodes import Node
from vpn_provisioner.watch import Watch
from vpn_provisioner.work import LEASE_S, Worker

WAITING = "select count(*) from access_jobs where state <> 'agreed'"
IDLE_IN_TRANSACTION = """
select count(*)
from pg_stat_activity
where state = 'idle in transaction' and usename = 'vpn_app'
"""


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    opened = Database((await fresh_database("vpn")).dsn("vpn_app"), name="test", size=12)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def panel() -> StumblingPanel:
    return StumblingPanel()


@pytest.fixture
async def node(database: Database) -> Node:
    return await placed(database)


async def bought(database: Database, count: int) -> list[UUID]:
    people = [uuid4() for _ in range(count)]
    await hear(database, *(confirmed(person) for person in people))
    return people


async def taken(database: Database, node: Node, *, lease_s: float = LEASE_S) -> tuple[UUID, list[Job]]:
    """Jobs as a worker takes them that dies before it settles."""
    token = uuid4()
    claimed = await jobs.claim(node.id, failed_before=False, most=300, token=token, lease_s=lease_s, database=database)
    return token, claimed


async def settled(database: Database, node: Node, token: UUID, *agreed: Job) -> None:
    async with database.transaction() as tx:
        await jobs.settle(node.id, token, {job: Attempt("agreed") for job in agreed}, tx)


# Leases


async def test_two_workers_never_take_one_job_at_once(database: Database, node: Node, panel: StumblingPanel) -> None:
    """P-06, W-08: four replicas drain 1 200 jobs; each is asked for exactly once."""
    people = await bought(database, 1_200)
    await asyncio.gather(*(work(database, node, panel) for _ in range(4)))
    assert Counter(person for batch in panel.asked for person in batch) == Counter(people)
    assert len(await told(database, AccessGranted)) == len(people)
    assert await broken(database) == {}


async def test_a_job_comes_back_when_its_lease_ends_and_not_before(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    """P-07: a job that somebody has is neither missing nor an attempt."""
    (person,) = await bought(database, 1)
    await taken(database, node, lease_s=0.3)
    assert await work(database, node, panel) == 0
    await asyncio.sleep(0.35)
    assert await work(database, node, panel) == 1
    assert (await job_of(database, person, node))["tries"] == 0


async def test_a_lease_is_kept_while_the_panel_thinks(database: Database, node: Node, panel: StumblingPanel) -> None:
    """Leases are short, so that a kill delays nobody for long; a slow panel is no reason to ask it twice."""
    await bought(database, 3)
    panel.gate.clear()
    slow = Worker(database, LiveNode(node, panel), failed_before=False, lease_s=0.2)
    working = asyncio.create_task(slow.round())
    await asyncio.sleep(0.5)
    assert await work(database, node, panel) == 0
    panel.gate.set()
    assert await working == 3
    assert len(panel.asked) == 1
    assert len(await told(database, AccessGranted)) == 3


async def test_who_cannot_keep_the_lease_stops_asking(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody still writes into a node when somebody else may have its job."""

    async def fails(*_: object, **__: object) -> bool:
        raise OSError("the database is away")

    monkeypatch.setattr(jobs, "renew", fails)
    await bought(database, 1)
    panel.gate.clear()
    with pytest.raises(TimeoutError):
        await Worker(database, LiveNode(node, panel), failed_before=False, lease_s=0.2).round()
    panel.gate.set()
    assert panel.held == {}
    await asyncio.sleep(0.1)
    assert await work(database, node, panel) == 1


async def test_a_crash_between_the_panels_write_and_its_record_gives_one_user_with_one_key(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    """P-04, P-05: what is asked is absolute, and the key was drawn by us before: asking again changes nothing."""
    (person,) = await bought(database, 1)
    _, (job,) = await taken(database, node, lease_s=0.1)
    await panel.ensure([Wanted(job.person, job.key, job.until)])
    await asyncio.sleep(0.15)
    await work(database, node, panel)
    assert panel.held == {person: (await subscription_of(database, person))["key"]}
    assert len(await told(database, AccessGranted)) == 1


async def test_a_time_out_after_the_write_gives_one_user_with_one_key(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-03, P-04: the panel did it and did not say so; one more call settles it."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.01)
    await bought(database, 1)
    panel.silent_after_write = True
    await work(database, node, panel)
    held = dict(panel.held)
    assert await told(database, AccessGranted) == []
    panel.silent_after_write = False
    await asyncio.sleep(0.02)
    assert await work(database, node, panel, failed_before=True) == 1
    assert panel.held == held
    assert len(panel.asked) == 2
    assert len(await told(database, AccessGranted)) == 1


async def test_a_job_of_an_old_generation_never_wins(database: Database, node: Node, panel: StumblingPanel) -> None:
    """P-15: who answers to an older wish is told to go again; the renewal is not agreed with by that answer."""
    (person,) = await bought(database, 1)
    token, (old,) = await taken(database, node)
    await hear(database, confirmed(person))
    assert await work(database, node, panel) == 0  # The old wish may still be on its way.
    await settled(database, node, token, old)
    assert (await job_of(database, person, node))["state"] == "waiting"
    _, (new,) = await taken(database, node)
    assert (new.generation, new.until) > (old.generation, old.until)


async def test_a_claim_that_was_taken_over_settles_nothing(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    (person,) = await bought(database, 1)
    late, (job,) = await taken(database, node, lease_s=0)
    token, _ = await taken(database, node)
    await settled(database, node, late, job)
    assert (await job_of(database, person, node))["claim"] == token


# Failures


async def test_a_refused_job_stops_no_other_and_dies_at_last(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-08, P-09, P-10: one refusal among fifty; its tries are counted, it is not tried for ever, and it is seen."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.002)
    poison, *others = await bought(database, 50)
    panel.refuses = {poison}
    await work(database, node, panel)
    assert set(panel.held) == set(others)
    assert await dies(database, node, panel, poison) == MOST_TRIES
    job = await job_of(database, poison, node)
    assert (job["tries"], job["error"]) == (MOST_TRIES, "PanelRefused: not this one")
    assert await broken(database) == {
        "no access job is dead": (f"{poison} on one: PanelRefused: not this one",),
    }


async def dies(database: Database, node: Node, panel: StumblingPanel, person: UUID) -> int:
    """Let the lane of failed jobs work until that one is dead; answers how often it was asked for in all."""

    async def dead() -> bool:
        await work(database, node, panel, failed_before=True)
        return bool((await job_of(database, person, node))["state"] == "dead")

    await until(dead)
    await work(database, node, panel)
    await work(database, node, panel, failed_before=True)
    return sum(person in batch for batch in panel.asked)


async def test_a_job_that_the_panel_chokes_on_takes_its_neighbours_along_once(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-10: a batch that fails whole is tried one by one, and all but one are served."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.01)
    poison, *others = await bought(database, 40)
    panel.chokes_on = {poison}
    await work(database, node, panel)
    assert panel.held == {}
    await asyncio.sleep(0.02)
    await work(database, node, panel, failed_before=True)
    assert set(panel.held) == set(others)
    assert len(await told(database, AccessGranted)) == len(others)


async def test_dead_jobs_run_again_on_an_operators_word(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-09: the replay is a command, answered once, and the person gets what was paid for."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)
    (person,) = await bought(database, 1)
    panel.refuses = {person}
    await work(database, node, panel)
    await dies(database, node, panel, person)
    [dead] = (await answer_dead_jobs(AskDeadJobs(), database)).jobs
    assert (dead.person, dead.node, dead.present, dead.tries) == (person, "one", True, MOST_TRIES)
    assert dead.error == "PanelRefused: not this one"
    panel.refuses = set()
    command = ReplayJobs(
        id=uuid4(), actor="operator:1", person=None, deadline_at=datetime.now(UTC) + timedelta(seconds=10)
    )
    woken: list[bool] = []

    async def act(wanted: ReplayJobs, tx: Tx) -> Replayed | Refused:
        return await replay_jobs(wanted, tx, wake=lambda: woken.append(True))

    assert await obey(database, command, act) == Replayed(replayed=1)
    assert await obey(database, command, act) == Replayed(replayed=1)
    assert woken == [True]
    await work(database, node, panel)
    assert len(await told(database, AccessGranted)) == 1
    again = command.model_copy(update={"id": uuid4()})
    assert await obey(database, again, act) == Refused(reason="no_dead_jobs")
    assert (await answer_dead_jobs(AskDeadJobs(person=person), database)).jobs == ()


async def test_a_fault_of_the_window_is_a_failed_try_and_names_no_key(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-07: an exception's text may hold what it stumbled over; only its kind is kept."""
    (person,) = await bought(database, 1)
    key = (await subscription_of(database, person))["key"]

    async def fails(_: object) -> list[object]:
        raise LookupError(str(key))

    monkeypatch.setattr(panel, "ensure", fails)
    await work(database, node, panel)
    job = await job_of(database, person, node)
    assert (job["tries"], job["error"]) == (1, "PanelRefused: the window failed: LookupError")


async def test_a_slow_panel_holds_no_connection_and_delays_no_purchase(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    """P-01, P-02, W-01, W-02: while the panel thinks, nothing of the database is held, and people go on buying."""
    await bought(database, 10)
    panel.gate.clear()
    working = asyncio.create_task(work(database, node, panel))
    await until(lambda: bool(panel.asked))
    assert await database.fetchval(IDLE_IN_TRANSACTION) == 0
    assert database.free == database.size
    async with asyncio.timeout(2):
        await bought(database, 10)
    panel.gate.set()
    await working
    assert len(await told(database, AccessGranted)) == 20


async def test_a_panel_that_never_answers_is_given_up_in_time(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-13, W-04: a hanging call ends by our bound, and counts as a failed try of a node that lives."""
    monkeypatch.setattr("vpn_provisioner.work.PANEL_TIMEOUT_S", 0.1)
    (person,) = await bought(database, 1)
    panel.gate.clear()
    async with asyncio.timeout(2):
        await work(database, node, panel)
    job = await job_of(database, person, node)
    assert (job["tries"], job["error"]) == (1, "PanelUnavailable: no answer within 0.1 s")


async def test_a_node_that_is_away_costs_no_tries_and_stops_no_other_node(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    """P-09: its jobs wait, the breaker keeps others from asking it, and when it is back they run at once."""
    far, other = await placed(database, "two", node_group="far"), StumblingPanel()
    panels: dict[UUID, Panel] = {node.id: panel, far.id: other}
    panel.away = True
    stopping, fleet = asyncio.Event(), Fleet(database, lambda node: panels[node.id])
    running = asyncio.create_task(fleet.run(stopping))
    try:
        here = await bought(database, 30)
        await hear(database, *(confirmed(uuid4(), node_group="far") for _ in range(30)))
        fleet.wake()
        await until(lambda: len(other.held) == 30)
        await asyncio.sleep(1)
        assert len(panel.asked) <= 2
        assert (await job_of(database, here[0], node))["tries"] == 0
        panel.away = False
        await until(lambda: len(panel.held) == 30)
        await until(lambda: all_told(database, 60))
    finally:
        stopping.set()
        await running
    assert await broken(database) == {}


async def all_told(database: Database, count: int) -> bool:
    return len(await told(database, AccessGranted)) == count


# Putting back


async def test_after_a_restart_everybody_is_put_back_and_nobody_told_twice(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xray keeps its users in memory: another incarnation has none, page by page they come back."""
    monkeypatch.setattr(watch, "PEOPLE_AT_ONCE", 7)
    seen = Watch(database, LiveNode(node, panel))
    await seen.round()
    await bought(database, 25)
    await work(database, node, panel)
    held = dict(panel.held)
    panel.restart()
    await seen.round()
    assert await work(database, node, panel) == 25
    assert panel.held == held
    await seen.round()
    assert await work(database, node, panel) == 0
    assert len(await told(database, AccessGranted)) == 25
    assert await broken(database) == {}


async def test_putting_back_goes_on_where_a_killed_replica_stopped(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    seen = Watch(database, LiveNode(node, panel))
    await seen.round()
    await bought(database, 20)
    await work(database, node, panel)
    panel.restart()
    async with database.transaction() as tx:
        assert await nodes.reborn(node.id, panel.incarnation, tx)
    async with database.transaction() as tx:
        assert await nodes.put_back(node, 5, tx)
    await Watch(database, LiveNode(node, panel)).round()
    await work(database, node, panel)
    assert len(panel.held) == 20
    assert await nodes.incarnation_of(node.id, database) == (panel.incarnation, False)


async def test_what_was_written_into_the_node_before_its_restart_is_written_again(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    """The answer was right when it was given; the restart came before it was recorded."""
    seen = Watch(database, LiveNode(node, panel))
    await seen.round()
    (person,) = await bought(database, 1)
    token, (job,) = await taken(database, node)
    await panel.ensure([Wanted(job.person, job.key, job.until)])
    panel.restart()
    await seen.round()
    await settled(database, node, token, job)
    assert (await job_of(database, person, node))["state"] == "waiting"
    await work(database, node, panel)
    assert set(panel.held) == {person}


async def test_a_new_node_is_given_everybody_of_its_group(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    people = await bought(database, 5)
    await hear(database, confirmed(uuid4(), node_group="far"))
    await work(database, node, panel)
    new, other = await placed(database, "two"), StumblingPanel()
    await Watch(database, LiveNode(new, other)).round()
    await work(database, new, other)
    assert other.held == panel.held
    assert set(other.held) == set(people)
    assert len(await told(database, AccessGranted)) == 5


async def test_a_dead_job_stays_dead_after_a_restart(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)
    seen = Watch(database, LiveNode(node, panel))
    await seen.round()
    (person,) = await bought(database, 1)
    panel.refuses = {person}
    await work(database, node, panel)
    await dies(database, node, panel, person)
    panel.restart()
    await seen.round()
    assert await work(database, node, panel) == 0


# Drift


async def test_who_is_missing_is_put_back(database: Database, node: Node, panel: StumblingPanel) -> None:
    """P-15: somebody removed a user at the panel, or gave one another key: the next look mends it."""
    lost, changed, *_ = people = await bought(database, 6)
    await work(database, node, panel)
    held = dict(panel.held)
    del panel.held[lost]
    panel.held[changed] = uuid4()
    seen = Watch(database, LiveNode(node, panel))
    await seen.look()
    assert "each node held exactly whom it should when it was last looked at" in await broken(database)
    assert await work(database, node, panel) == 2
    assert panel.held == held
    assert set(held) == set(people)
    await seen.look()
    assert await broken(database) == {}


async def test_fewer_people_than_before_are_a_reason_to_look(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(watch, "LOOKING_SHARE", 0)
    seen = Watch(database, LiveNode(node, panel))
    await bought(database, 3)
    await seen.round()
    await work(database, node, panel)
    await seen.round()
    panel.held.popitem()
    await seen.round()
    assert await work(database, node, panel) == 1


async def test_a_stranger_leaves_at_the_second_look(database: Database, node: Node, panel: StumblingPanel) -> None:
    """P-05, P-13: a user of ours whom nobody wants is removed, but never at first sight."""
    (person,) = await bought(database, 1)
    await work(database, node, panel)
    stranger = uuid4()
    panel.held[stranger] = uuid4()
    seen = Watch(database, LiveNode(node, panel))
    await seen.look()
    assert await work(database, node, panel) == 0
    await seen.look()
    assert await work(database, node, panel) == 1
    assert set(panel.held) == {person}
    await seen.look()
    assert await broken(database) == {}


async def test_a_stranger_who_buys_between_two_looks_stays(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    """P-13: what the first look saw is looked up again before anybody leaves."""
    stranger = uuid4()
    panel.held[stranger] = uuid4()
    seen = Watch(database, LiveNode(node, panel))
    await seen.look()
    await hear(database, confirmed(stranger))
    await seen.look()
    await seen.look()
    await work(database, node, panel)
    assert panel.held == {stranger: (await subscription_of(database, stranger))["key"]}
    assert await database.fetchval(WAITING) == 0


async def test_who_was_shut_out_and_is_there_again_is_shut_out_again(
    database: Database, node: Node, panel: StumblingPanel
) -> None:
    """P-16: the end reaches the panel and stays reached."""
    (person,) = await bought(database, 1)
    fast, other = await placed(database, "two", node_group="fast"), StumblingPanel()
    await work(database, node, panel)
    key = panel.held[person]
    await hear(database, confirmed(person, plan="plus", node_group="fast"))
    await work(database, node, panel)
    await work(database, fast, other)
    panel.held[person] = key
    seen = Watch(database, LiveNode(node, panel))
    await seen.look()
    await seen.look()
    await work(database, node, panel)
    assert (panel.held, set(other.held)) == ({}, {person})


async def test_a_look_that_fails_changes_nothing(database: Database, node: Node, panel: StumblingPanel) -> None:
    """A listing that broke off must not make everybody seem missing."""
    await bought(database, 3)
    await work(database, node, panel)
    panel.away = True
    await Watch(database, LiveNode(node, panel)).round()
    panel.away = False
    assert await work(database, node, panel) == 0


async def test_the_lanes_share_no_job(database: Database, node: Node, panel: StumblingPanel) -> None:
    """What failed before waits in its own lane: a slow retry delays nobody's first try."""
    panel.refuses = set(failing := await bought(database, 2))
    await work(database, node, panel)
    await bought(database, 3)
    panel.asked.clear()
    assert await worker(database, node, panel).round() == 3
    assert not set(panel.asked[0]) & set(failing)


# The list of nodes


async def test_a_moved_node_is_spoken_with_where_it_is_now(database: Database, panel: StumblingPanel) -> None:
    """The environment names another address after a restart: the same row, another connection, everybody put back."""
    there = StumblingPanel()
    old = Node(uuid4(), "first", "xray", "default", "127.0.0.1:1", "people", LINK)
    new = replace(old, address="127.0.0.1:2")
    panels: dict[str, Panel] = {old.address: panel, new.address: there}
    await place_first(old, database)
    stopping, fleet = asyncio.Event(), Fleet(database, lambda node: panels[node.address])
    running = asyncio.create_task(fleet.run(stopping))
    try:
        await bought(database, 3)
        fleet.wake()
        await until(lambda: len(panel.held) == 3)
        await place_first(new, database)
        await until(lambda: there.held == panel.held)
    finally:
        stopping.set()
        await running
    assert await nodes.serving(database) == [new]


async def test_placing_the_first_node_again_changes_nothing(database: Database, node: Node) -> None:
    await place_first(node, database)
    await place_first(None, database)
    assert await nodes.serving(database) == [node]


async def test_a_node_that_cannot_be_used_stops_no_other(database: Database, panel: StumblingPanel) -> None:
    await placed(database, "broken")
    await placed(database, "far", node_group="far")

    def opened(node: Node) -> Panel:
        if node.name == "broken":
            raise ValueError("no such link")
        return panel

    stopping, fleet = asyncio.Event(), Fleet(database, opened)
    running = asyncio.create_task(fleet.run(stopping))
    try:
        await hear(database, confirmed(uuid4(), node_group="far"))
        await until(lambda: len(panel.held) == 1)
    finally:
        stopping.set()
        await running


async def test_a_loop_that_dies_takes_the_fleet_down_with_its_reason(
    database: Database, node: Node, panel: StumblingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-05: a zombie is worse than a restart."""

    async def dies(*_: object) -> None:
        raise SystemError("gone")

    monkeypatch.setattr(Watch, "run", dies)
    monkeypatch.setattr("vpn_provisioner.fleet.FOLLOW_EVERY_S", 0.05)
    with pytest.raises(RuntimeError, match="one watch ended"):
        await Fleet(database, lambda _: panel).run(asyncio.Event())
