"""Loops that wait for a bell, and end at a stop."""

import asyncio

from shared.platform.loops import Bell, at_each_ring
from tests.kit.waiting import until

LONG_S = 3_600.0
HANG_S = 30.0


async def test_a_stop_ends_the_wait_for_work() -> None:
    """R-15: without it each service that has nothing to do drains for as long as it polls."""
    turns, stopping = 0, asyncio.Event()

    async def turn() -> bool:
        nonlocal turns
        turns += 1
        return False

    loop = asyncio.create_task(at_each_ring("test", Bell(), turn, stopping, every_s=LONG_S))
    await until(lambda: turns == 1)
    stopping.set()
    async with asyncio.timeout(HANG_S):
        await loop


async def test_a_ring_during_a_turn_is_heard() -> None:
    bell, stopping, turns = Bell(), asyncio.Event(), 0

    async def turn() -> bool:
        nonlocal turns
        turns += 1
        if turns == 1:
            bell.ring()
        else:
            stopping.set()
        return False

    async with asyncio.timeout(HANG_S):
        await at_each_ring("test", bell, turn, stopping, every_s=LONG_S)
    assert turns == 2
