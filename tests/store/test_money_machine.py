"""Whatever happens to money and invitations, in any order: searched over a list as broker, and played over the bus."""

import os
from asyncio import Runner
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from shared.bus import Bus
from tests.kit.money_bus import BusMachine, BusWorld
from tests.kit.money_machine import MAY_DIE, MOVES, MoneyMachine
from tests.kit.money_world import HEARS, World, opened
from tests.kit.servers import FreshDatabase, MakeDatabase

LONG = os.environ.get("HYPOTHESIS_PROFILE") in ("long", "free")
EXAMPLES = 175 if LONG else 15
STEPS = 120  # One of them begins the example.
LEAST_STEPS, LEAST_DEATHS = (20_000, 500) if LONG else (1_500, 40)
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


def test_whatever_happens_to_notices_and_facts_money_is_neither_lost_nor_doubled(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """M-02, R-01, W-24: conservation of each person's money, one booking per charge, one reward per receipt."""
    machine = type("MoneyMachineHere", (MoneyMachine,), {"world": world})
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    moves, deaths = world.moves, world.deaths
    if LONG:
        with capsys.disabled():
            print(f"\n{world.steps} steps in {world.examples} examples that came to rest,")  # noqa: T201 - a report.
            print(f"of {moves.total()}: {dict(moves)}; {deaths.total()} deaths: {dict(deaths)}")  # noqa: T201 - a report.
    assert world.steps >= LEAST_STEPS, "counted where every check was made"
    assert deaths.total() >= LEAST_DEATHS
    if LONG:
        assert set(moves) == set(MOVES)
        assert set(deaths) == MAY_DIE


@pytest.mark.parametrize("seed", [1, 2])
def test_over_the_bus_and_its_broker_it_is_neither_lost_nor_doubled_too(world_with_a_bus: BusWorld, seed: int) -> None:
    """M-02, W-24: batches as they come, repeats by JetStream, listeners that die before they acknowledge."""
    world, random = world_with_a_bus, Random(seed)
    machine = type("BusMachineHere", (BusMachine,), {"world": world})()
    machine.begin(seed)
    for _ in range(STEPS_OVER_THE_BUS):
        machine.step(lambda *among: random.choice(among))
        machine.the_book_is_the_models()
        machine.the_rewards_are_the_models()
    machine.teardown()
    assert world.steps == STEPS_OVER_THE_BUS
    assert world.deaths.total() >= LEAST_DEATHS_OVER_THE_BUS
    assert set(machine.broker.delivered()) == set(HEARS)
