"""Rows in which processes and connections die: services, the broker, the database."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack

import asyncpg

from shared.owners import OWNERS
from tests.chaos.shop import Shop, signal_to
from tests.chaos.streams import told_ten_times
from tests.chaos.trial import HANGS_AFTER_S, Trial

KILL_EVERY_S = 3.0
CUT_EVERY_S = 0.5

STORIES_ENDED = """
select count(*) from notifier.deliveries
where state = 'sent' and kind in ('access_ready', 'topped_up', 'missing')
"""

CUT_ONE = """
select pg_terminate_backend(pid)
from (
  select pid from pg_stat_activity where usename like '%\\_app' order by random() limit 1
) as one
"""


async def stories_a_second(trial: Trial, per_s: float, seconds: float) -> float:
    """Offer a steady load for so long; answers how many stories a second came to their last message, until all did."""
    wanted = await trial.town.orders(int(per_s * seconds))
    before, began = await trial.shop.asked_one(STORIES_ENDED), time.monotonic()
    await trial.pay(wanted, per_s)
    while await trial.shop.asked_one(STORIES_ENDED) < before + len(wanted):
        if time.monotonic() - began > seconds + HANGS_AFTER_S:
            break  # What is missing is lost, or late: the count tells.
        await asyncio.sleep(0.1)
    return len(wanted) / (time.monotonic() - began)


async def baseline(trial: Trial, per_s: float, seconds: float) -> float:
    undisturbed = await stories_a_second(trial, per_s, seconds)
    await trial.shop.rests(60)
    return undisturbed


async def kill_now_and_then(trial: Trial, names: list[str]) -> None:
    while True:
        await asyncio.sleep(KILL_EVERY_S)
        name = trial.random.choice(names)
        if trial.shop.services[name].child.alive:
            trial.shop.kill(name)
            if name.startswith("notifier"):
                trial.notifier_died()


async def random_kills(trial: Trial) -> None:
    """7 (W-31): throughput at least 90 % of the baseline."""
    per_s, seconds = trial.size(20, 15), trial.size(70, 12)
    undisturbed = await baseline(trial, per_s, seconds)
    async with trial.shop.kept():
        killing = asyncio.create_task(kill_now_and_then(trial, list(OWNERS)))
        disturbed = await stories_a_second(trial, per_s, seconds)
        killing.cancel()
    tell_deaths(trial, "SIGKILL to a random service every 3 s")
    trial.reached("throughput", disturbed / undisturbed, 0.9)


def tell_deaths(trial: Trial, fault: str) -> None:
    """Who died of what; a service that died of anything else than our signal is a fault of its own."""
    deaths = trial.shop.deaths
    trial.faults.append(f"{fault} ({', '.join(name for name, _ in deaths)})" if deaths else fault)
    others = [death for death in deaths if death[1] != -signal.SIGKILL]
    trial.expect(f"nobody dies but of our signal: {others}", not others)
    trial.expect("somebody was killed", bool(deaths))


async def broker_killed(trial: Trial) -> None:
    """9 (W-31): resumes in at most 3 s."""
    shop = trial.shop

    async def die() -> None:
        trial.faults.append(signal_to(shop.broker.child, signal.SIGKILL))

    wanted = await trial.town.orders(trial.size(800, 200))
    async with shop.kept():
        trial.took("resumed", await trial.broken_under_load(wanted, die, shop.broker.restart), 3.0)
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def database_killed(trial: Trial) -> None:
    """13: fast, immediate and kill -9: the pools come back, no half of a batch is there, no money is dropped (R-03)."""
    shop = trial.shop
    signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    wanted = await trial.town.orders(trial.size(900, 240))
    async with shop.kept():
        for place, number in enumerate(signals):

            async def die(number: signal.Signals = number) -> None:
                trial.faults.append(signal_to(shop.postgres.child, number))
                await shop.postgres.child.wait()

            took_s = await trial.broken_under_load(wanted[place :: len(signals)], die, shop.postgres.restart)
            trial.took(f"back after {number.name}", took_s, 10.0)
        trial.notifier_could_not_mark(len(signals))
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def connections_cut(trial: Trial) -> None:
    """14: `pg_terminate_backend` twice a second on our connections; throughput at least 95 %."""
    per_s, seconds = trial.size(20, 15), trial.size(40, 8)
    undisturbed = await baseline(trial, per_s, seconds)
    cut: list[int] = []
    async with trial.shop.kept():
        cutting = asyncio.create_task(_cut_now_and_then(trial.shop, cut))
        disturbed = await stories_a_second(trial, per_s, seconds)
        cutting.cancel()
        trial.notifier_could_not_mark()
    trial.faults.append(f"pg_terminate_backend twice a second ({len(cut)} connections)")
    trial.expect("connections were cut", len(cut) > seconds)
    trial.expect(f"no service dies of it: {trial.shop.deaths}", not trial.shop.deaths)
    trial.reached("throughput", disturbed / undisturbed, 0.95)


async def _cut_now_and_then(shop: Shop, cut: list[int]) -> None:
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        while True:
            cut += [1 for row in await connection.fetch(CUT_ONE) if row[0]]
            await asyncio.sleep(CUT_EVERY_S)
    finally:
        await connection.close()


async def three_replicas(trial: Trial) -> None:
    """34 (W-09, W-18): three replicas of each service, killed at random, and told everything ten times."""
    shop = trial.shop
    replicas = [f"{owner}+{number}" for owner in OWNERS for number in (1, 2)]
    await asyncio.gather(*(shop.start(name) for name in replicas))
    per_s, seconds = trial.size(20, 10), trial.size(30, 10)
    async with AsyncExitStack() as while_it_lasts:
        await while_it_lasts.enter_async_context(shop.kept())
        await while_it_lasts.enter_async_context(told_ten_times(trial))
        killing = asyncio.create_task(kill_now_and_then(trial, list(shop.services)))
        wanted = await trial.town.orders(int(per_s * seconds))
        await trial.pay(wanted, per_s)
        killing.cancel()
        await shop.rests(60)
    tell_deaths(trial, "three replicas of every service, SIGKILL to a random one every 3 s")
    await shop.stop(*replicas)
    for name in replicas:
        del shop.services[name]
