"""Access jobs on a real PostgreSQL and a failing panel: leases, generations, retries and replay."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.contracts.message import Refused
from shared.contracts.vpn import AccessGranted, DeadJobsQuery, Replayed, ReplayJobs
from shared.messaging.idempotency import execute
from shared.platform.db import Database, Tx
from tests.kit.access import (
    TEST_LEASE_S,
    FailingPanel,
    bought,
    broken,
    claimed,
    confirmed,
    dies,
    handle,
    job_of,
    published,
    settled,
    subscription_of,
    work,
    worker,
)
from tests.kit.waiting import HANG_S, until
from vpn_provisioner.commands.replay_jobs import replay_jobs
from vpn_provisioner.domain import pauses
from vpn_provisioner.domain.attempts import MAX_TRIES
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.domain.panel import Wanted
from vpn_provisioner.queries import answer_dead_jobs
from vpn_provisioner.store import jobs
from vpn_provisioner.workers import jobs as workers
from vpn_provisioner.workers.jobs import Worker
from vpn_provisioner.workers.live import LiveNode

IDLE_IN_TRANSACTION = """
select count(*)
from pg_stat_activity
where state = 'idle in transaction' and usename = 'vpn_app'
"""

TIME_PASSES = "update access_jobs set run_at = run_at - $1 * interval '1 second'"
RENEWED = "select min(run_at) > now() + $1 * interval '1 second' from access_jobs"

# Leases


async def test_workers_never_claim_the_same_job(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-06, W-08: four replicas drain 1 200 jobs, and the panel is asked once for each."""
    people = await bought(vpn, 1_200)
    await asyncio.gather(*(work(vpn, node, panel) for _ in range(4)))
    assert Counter(person for batch in panel.asked for person in batch) == Counter(people)
    assert len(await published(vpn, AccessGranted)) == len(people)
    assert await broken(vpn) == {}


async def test_a_job_returns_when_its_lease_ends(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-07: and not before. A job that another worker has is neither missing nor an attempt."""
    (person,) = await bought(vpn, 1)
    await claimed(vpn, node)
    assert await work(vpn, node, panel) == 0
    await vpn.execute(TIME_PASSES, TEST_LEASE_S)
    assert await work(vpn, node, panel) == 1
    assert (await job_of(vpn, person, node))["tries"] == 0


async def test_a_lease_is_renewed_during_the_request(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are short, so a kill delays nobody for long; still a slow panel is asked only once."""
    monkeypatch.setattr(workers, "RENEWALS_PER_LEASE", 600)
    await bought(vpn, 3)
    panel.gate.clear()
    working = asyncio.create_task(worker(vpn, node, panel).round())
    await until(lambda: bool(panel.asked))
    for _ in range(3):  # Twice the lease, and never all that is left of it.
        await vpn.execute(TIME_PASSES, TEST_LEASE_S * 2 / 3)
        await until(lambda: vpn.fetchval(RENEWED, TEST_LEASE_S * 5 / 6))
    assert await work(vpn, node, panel) == 0
    panel.gate.set()
    assert await working == 3
    assert len(panel.asked) == 1
    assert len(await published(vpn, AccessGranted)) == 3


async def test_a_worker_without_its_lease_stops_asking(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker writes into a node when another one may have its job."""

    async def fails(*_: object, **__: object) -> bool:
        raise OSError("the database is away")

    monkeypatch.setattr(jobs, "renew", fails)
    await bought(vpn, 1)
    panel.gate.clear()
    with pytest.raises(TimeoutError):
        await Worker(vpn, LiveNode(node, panel), failed_before=False, lease_s=0.2).round()
    panel.gate.set()
    assert panel.held == {}
    await asyncio.sleep(0.1)
    assert await work(vpn, node, panel) == 1


async def test_a_crash_after_the_write_leaves_one_user(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-04, P-05: requests are absolute and the key is ours, so a repeat changes nothing."""
    (person,) = await bought(vpn, 1)
    _, (job,) = await claimed(vpn, node, lease_s=0.1)
    await panel.ensure([Wanted(job.person, job.key, job.until)])
    await asyncio.sleep(0.15)
    await work(vpn, node, panel)
    assert panel.held == {person: (await subscription_of(vpn, person))["key"]}
    assert len(await published(vpn, AccessGranted)) == 1


async def test_a_timeout_after_the_write_leaves_one_user(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-03, P-04: the panel wrote and did not answer; one more call settles it."""
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", 0.01)
    await bought(vpn, 1)
    panel.silent_after_write = True
    await work(vpn, node, panel)
    held = dict(panel.held)
    assert await published(vpn, AccessGranted) == []
    panel.silent_after_write = False
    await asyncio.sleep(0.02)
    assert await work(vpn, node, panel, failed_before=True) == 1
    assert panel.held == held
    assert len(panel.asked) == 2
    assert len(await published(vpn, AccessGranted)) == 1


async def test_an_answer_to_an_old_generation_never_counts(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-15: the job runs again, and the old answer does not confirm the renewal."""
    (person,) = await bought(vpn, 1)
    token, (old,) = await claimed(vpn, node)
    await handle(vpn, confirmed(person))
    assert await work(vpn, node, panel) == 0  # The old request may still be on its way.
    await settled(vpn, node, token, old)
    assert (await job_of(vpn, person, node))["state"] == "waiting"
    _, (new,) = await claimed(vpn, node)
    assert (new.generation, new.until) > (old.generation, old.until)


async def test_a_claim_that_was_taken_over_settles_nothing(vpn: Database, node: Node) -> None:
    (person,) = await bought(vpn, 1)
    late, (job,) = await claimed(vpn, node, lease_s=0)
    token, _ = await claimed(vpn, node)
    await settled(vpn, node, late, job)
    assert (await job_of(vpn, person, node))["claim"] == token


async def test_the_lanes_share_no_job(vpn: Database, node: Node, panel: FailingPanel) -> None:
    """Failed jobs wait in their own lane: a slow retry delays no first try."""
    panel.refuses = set(failing := await bought(vpn, 2))
    await work(vpn, node, panel)
    await bought(vpn, 3)
    panel.asked.clear()
    assert await worker(vpn, node, panel).round() == 3
    assert not set(panel.asked[0]) & set(failing)


# Failures


async def test_a_refused_job_dies_without_blocking_others(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-08, P-09, P-10: one refusal among fifty: its tries are counted, bounded and visible."""
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", 0.002)
    poison, *others = await bought(vpn, 50)
    panel.refuses = {poison}
    await work(vpn, node, panel)
    assert set(panel.held) == set(others)
    assert await dies(vpn, node, panel, poison) == MAX_TRIES
    job = await job_of(vpn, poison, node)
    assert (job["tries"], job["error"]) == (MAX_TRIES, "PanelRefused: not this one")
    assert await broken(vpn) == {
        "there is no dead job": (f"{poison} on one: PanelRefused: not this one",),
    }


async def test_a_poison_job_delays_its_batch_once(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-10: a batch that fails as a whole is tried one by one, and all other jobs succeed."""
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", 0.01)
    poison, *others = await bought(vpn, 40)
    panel.fails_on = {poison}
    await work(vpn, node, panel)
    assert panel.held == {}
    await asyncio.sleep(0.02)
    await work(vpn, node, panel, failed_before=True)
    assert set(panel.held) == set(others)
    assert len(await published(vpn, AccessGranted)) == len(others)


async def test_an_operator_replays_dead_jobs_once(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-09: the replay is an idempotent command, and the person gets the access that was paid."""
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", 0.001)
    (person,) = await bought(vpn, 1)
    panel.refuses = {person}
    await work(vpn, node, panel)
    await dies(vpn, node, panel, person)
    [dead] = (await answer_dead_jobs(DeadJobsQuery(), vpn)).jobs
    assert (dead.person, dead.node, dead.present, dead.tries) == (person, "one", True, MAX_TRIES)
    assert dead.error == "PanelRefused: not this one"
    panel.refuses = set()
    command = ReplayJobs(
        id=uuid4(),
        actor="operator:1",
        role="support",
        reason="the node is back",
        person=None,
        deadline_at=datetime.now(UTC) + timedelta(seconds=10),
    )
    woken: list[bool] = []

    async def act(command: ReplayJobs, tx: Tx) -> Replayed | Refused:
        return await replay_jobs(command, tx, wake=lambda: woken.append(True))

    assert await execute(vpn, command, act) == Replayed(replayed=1)
    assert await execute(vpn, command, act) == Replayed(replayed=1)
    assert woken == [True]
    await work(vpn, node, panel)
    assert len(await published(vpn, AccessGranted)) == 1
    another = command.model_copy(update={"id": uuid4()})
    assert await execute(vpn, another, act) == Refused(reason="no_dead_jobs")
    assert (await answer_dead_jobs(DeadJobsQuery(person=person), vpn)).jobs == ()


async def test_a_client_fault_names_no_key(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-07: it is a failed try. The text of an exception may hold a key; only its type is kept."""
    (person,) = await bought(vpn, 1)
    key = (await subscription_of(vpn, person))["key"]

    async def fails(_: object) -> list[object]:
        raise LookupError(str(key))

    monkeypatch.setattr(panel, "ensure", fails)
    await work(vpn, node, panel)
    job = await job_of(vpn, person, node)
    assert (job["tries"], job["error"]) == (1, "PanelRefused: the client failed: LookupError")


async def test_a_slow_panel_holds_no_database_connection(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-01, P-02, W-01, W-02: nothing of the database is held, and people go on buying."""
    await bought(vpn, 10)
    panel.gate.clear()
    working = asyncio.create_task(work(vpn, node, panel))
    await until(lambda: bool(panel.asked))
    assert await vpn.fetchval(IDLE_IN_TRANSACTION) == 0
    assert vpn.free == vpn.size
    async with asyncio.timeout(HANG_S):
        await bought(vpn, 10)
    panel.gate.set()
    await working
    assert len(await published(vpn, AccessGranted)) == 20


async def test_a_panel_that_never_answers_times_out(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-13, W-04: a hanging call ends by our bound and counts as a failed try of a living node."""
    monkeypatch.setattr("vpn_provisioner.workers.jobs.PANEL_TIMEOUT_S", 0.1)
    (person,) = await bought(vpn, 1)
    panel.gate.clear()
    async with asyncio.timeout(HANG_S):
        await work(vpn, node, panel)
    job = await job_of(vpn, person, node)
    assert (job["tries"], job["error"]) == (1, "PanelUnavailable: no answer within 0.1 s")
