"""Notices that a part of the shop has ended, says why, and starts it again after a growing delay."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from turnpike_local.processes import Child, StartError, ending

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
STEADY_AFTER_S = 60.0


class Part(Protocol):
    """What the keeper needs of PostgreSQL, NATS, the VPN node, the sandbox and each service."""

    @property
    def child(self) -> Child: ...

    async def restart(self) -> None:
        """Start it again on the same ports. Raises `StartError`."""


async def keep(part: Part, say: Callable[[str], None], *, first_delay_s: float = FIRST_DELAY_S) -> None:
    """Until cancelled. The delay doubles up to `LONGEST_DELAY_S`, and is short again for a part that ran a while."""
    delay_s = first_delay_s
    while True:
        started_at = time.monotonic()
        code = await part.child.wait()
        if time.monotonic() - started_at >= STEADY_AFTER_S:
            delay_s = first_delay_s
        say(f"{part.child.name} ended with {ending(code)}, its last lines:\n{part.child.last_lines()}")
        while not await _is_back(part, say, delay_s):
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)


async def _is_back(part: Part, say: Callable[[str], None], delay_s: float) -> bool:
    say(f"{part.child.name} is started again in {delay_s:g} s.")
    await asyncio.sleep(delay_s)
    try:
        await part.restart()
    except StartError as error:
        say(str(error))
        return False
    say(f"{part.child.name} is back.")
    return True
