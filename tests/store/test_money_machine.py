"""Whatever happens to money and invitations, in any order: searched over a list as broker, and played over the bus."""

import os
from asyncio import Runner
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from shared.bus import Bus
from tests.kit.money_bus import BusMachine, BusWorld
from tests.kit.money_machine import MAY_DIE, MOVES, MoneyMachine
from tests.kit.money_world import HEARS, World, opened
from tests.kit.servers import FreshDatabase, MakeDatabase

PROFILE = os.environ.get("HYPOTHESIS_PROFILE")
LONG = PROFILE in ("long", "free")
PARTS = (1, 2) if LONG else (1,)  # Of the long form's 20 000 steps and 500 deaths, one for each core.
EXAMPLES = 88 if LONG else 15
STEPS = 120  # One of them begins the example.
LEAST_STEPS, LEAST_DEATHS = (10_000, 250) if LONG else (1_500, 40)
STEPS_OVER_THE_BUS, LEAST_DEATHS_OVER_THE_BUS = 150, 10


@pytest.fixture(scope="module")
async def both(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("payments", "referrals")


@pytest.fixture
def world(both: FreshDatabase) -> Iterator[World]:
    """In a loop of its own: the machine is not asynchronous, its rules run the loop."""
    with Runner() as runner:
        both_opened = opened(both)
        world = World(runner, *runner.run(both_opened.__aenter__()))
        runner.run(world.begin())
        yield world
        runner.run(both_opened.__aexit__(None, None, None))


@pytest.fixture
def world_with_a_bus(both: FreshDatabase, nats_url: str) -> Iterator[BusWorld]:
    with Runner() as runner:
        both_opened, bus = opened(both), Bus(nats_url, name="machine")
        admin, databases = runner.run(both_opened.__aenter__())
        runner.run(bus.open())
        world = BusWorld(runner, admin, databases, bus)
        runner.run(world.begin())
        yield world
        runner.run(bus.close())
        runner.run(both_opened.__aexit__(None, None, None))


@pytest.mark.parametrize("part", PARTS)
def test_whatever_happens_to_notices_and_facts_money_is_neither_lost_nor_doubled(
    world: World, part: int, record_property: Callable[[str, object], None]
) -> None:
    """M-02, R-01, W-24: conservation of each person's money, one booking per charge, one reward per receipt."""
    machine = type("MoneyMachineHere", (MoneyMachine,), {"world": world})
    if PROFILE != "free":
        machine = seed(part)(machine)
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    moves, deaths = world.moves, world.deaths
    record_property("said", f"{world.steps} steps in {world.examples} examples that came to rest,")
    record_property("said", f"of {moves.total()}: {dict(moves)}; {deaths.total()} deaths: {dict(deaths)}")
    assert world.steps >= LEAST_STEPS, "counted where every check was made"
    assert deaths.total() >= LEAST_DEATHS
    if LONG:
        assert set(moves) == set(MOVES)
        assert set(deaths) == MAY_DIE


@pytest.mark.parametrize("drawn_by", [1, 2])
def test_over_the_bus_and_its_broker_it_is_neither_lost_nor_doubled_too(
    world_with_a_bus: BusWorld, drawn_by: int
) -> None:
    """M-02, W-24: batches as they come, repeats by JetStream, listeners that die before they acknowledge."""
    world, random = world_with_a_bus, Random(drawn_by)
    machine = type("BusMachineHere", (BusMachine,), {"world": world})()
    machine.begin(drawn_by)
    for _ in range(STEPS_OVER_THE_BUS):
        machine.step(lambda *among: random.choice(among))
        machine.the_book_is_the_models()
        machine.the_rewards_are_the_models()
    machine.teardown()
    assert world.steps == STEPS_OVER_THE_BUS
    assert world.deaths.total() >= LEAST_DEATHS_OVER_THE_BUS
    assert set(machine.broker.delivered()) == set(HEARS)
