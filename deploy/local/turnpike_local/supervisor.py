"""Restarts a part of the shop that has ended, with a reason and after a growing delay."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from shared.platform.backoff import backoff
from turnpike_local.processes import Child, StartError, ending

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
STEADY_AFTER_S = 60.0


class Part(Protocol):
    """PostgreSQL, NATS, the VPN node, the sandbox or a service, as the supervisor sees it."""

    @property
    def child(self) -> Child: ...

    async def restart(self) -> None:
        """Start it again on the same ports. Raises `StartError`."""


async def supervise(
    part: Part, report: Callable[[str], None], *, first_delay_s: float = FIRST_DELAY_S
) -> None:
    """Restart the part whenever it ends, and report it, until cancelled.

    The delay doubles up to `LONGEST_DELAY_S`. A part that ran for `STEADY_AFTER_S` begins again
    with the first delay.
    """
    restarts = 0
    while True:
        started_at = time.monotonic()
        code = await part.child.wait()
        if time.monotonic() - started_at >= STEADY_AFTER_S:
            restarts = 0
        name, lines = part.child.name, part.child.last_lines()
        report(f"{name} ended with {ending(code)}, its last lines:\n{lines}")
        started = False
        while not started:
            delay_s = backoff(restarts, first_s=first_delay_s, longest_s=LONGEST_DELAY_S)
            started = await _restarted(part, report, delay_s)
            restarts += 1


async def _restarted(part: Part, report: Callable[[str], None], delay_s: float) -> bool:
    report(f"{part.child.name} restarts in {delay_s:g} s.")
    await asyncio.sleep(delay_s)
    try:
        await part.restart()
    except StartError as error:
        report(str(error))
        return False
    report(f"{part.child.name} is running again.")
    return True
