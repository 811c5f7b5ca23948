"""Replay of dead access jobs."""

from collections.abc import Callable

from shared.contracts.message import Refused
from shared.contracts.vpn import Replayed, ReplayJobs
from shared.platform.db import Tx
from vpn_provisioner.store import jobs

MAX_REPLAYED = 10_000


async def replay_jobs(
    command: ReplayJobs, tx: Tx, *, wake: Callable[[], None]
) -> Replayed | Refused:
    """Let dead jobs run again, at most `MAX_REPLAYED` of them."""
    replayed = await jobs.replay(command.person, MAX_REPLAYED, tx)
    if not replayed:
        return Refused(reason="no_dead_jobs")
    tx.after_commit(wake)
    return Replayed(replayed=replayed)
