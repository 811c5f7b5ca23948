"""Loops that wait for a bell, and end at a stop."""

import asyncio

from shared.platform.loops import Bell, at_each_ring
from tests.kit.waiting import until

LONG_S = 3_600.0
HANG_S = 30.0


async def something_is_due() -> float | None:
    return 0.0


async def test_a_stop_ends_the_wait_for_work() -> None:
    """R-15: without it each service that has nothing to do drains for as long as it polls."""
    looked, stopping = 0, asyncio.Event()

    async def turn() -> bool:
        raise AssertionError("nothing is due")

    async def due_in_s() -> float | None:
        nonlocal looked
        looked += 1
        return None

    loop = asyncio.create_task(
        at_each_ring("test", Bell(), turn, due_in_s, stopping, every_s=LONG_S)
    )
    await until(lambda: looked == 1)
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
        await at_each_ring("test", bell, turn, something_is_due, stopping, every_s=LONG_S)
    assert turns == 2


async def test_a_wait_ends_when_work_is_due() -> None:
    """R-128: work that rests for a moment does not wait for a whole poll."""
    rests_s, stopping = [0.01, 0.0], asyncio.Event()

    async def due_in_s() -> float | None:
        return rests_s.pop(0)

    async def turn() -> bool:
        stopping.set()
        return True

    async with asyncio.timeout(HANG_S):
        await at_each_ring("test", Bell(), turn, due_in_s, stopping, every_s=LONG_S)
    assert rests_s == []


async def test_work_of_another_is_not_hunted() -> None:
    """R-128: work that is due and that no turn gets is looked for after a poll, not at once."""
    turns, bell, stopping = 0, Bell(), asyncio.Event()

    async def turn() -> bool:
        nonlocal turns
        turns += 1
        return False

    loop = asyncio.create_task(
        at_each_ring("test", bell, turn, something_is_due, stopping, every_s=LONG_S)
    )
    await until(lambda: turns >= 1)
    assert turns == 1
    bell.ring()
    await until(lambda: turns >= 2)
    assert turns == 2
    stopping.set()
    await loop
