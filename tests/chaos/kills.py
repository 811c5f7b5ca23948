"""Rows in which processes and connections die: services, the broker, the database."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from shared.owners import OWNERS
from tests.chaos.load import AT_ONCE_PER_S
from tests.chaos.shop import Shop, signal_to
from tests.chaos.streams import told_ten_times
from tests.chaos.trial import HANGS_AFTER_S, Trial

KILL_EVERY_S = 3.0
CUT_EVERY_S = 0.5
SLICE = 5
IN_TIME_S = 10.0  # What the dead held comes back after 5 s, and may meet another death on its way.
IN_TIME_OF_CUTS_S = 5.0
KILLS_OF_TRIES = 0.7  # Now and then the one whose turn it is has not yet begun again.

STORIES_ENDED = """
select count(*) from notifier.deliveries
where state = 'sent' and kind in ('access_ready', 'topped_up', 'missing')
"""

# Of these charges, those whose last message was sent in time.
IN_TIME = """
select count(distinct c.charge)
from unnest($1::text[], $2::timestamptz[]) as c (charge, paid_at)
join payments.receipts r on r.acquirer = 'telegram_stars' and r.charge = c.charge
join payments.bookings b on b.receipt = r.id
join notifier.deliveries d on d.person = r.payer and d.state = 'sent' and d.settled_at < c.paid_at + $3::interval
where case b.outcome
  when 'bought' then d.kind = 'access_ready' and d.cause = b.order_id::text
  else d.kind in ('topped_up', 'missing') and d.cause = r.id::text
end
"""

CUT_ONE = """
select pg_terminate_backend(pid)
from (
  select pid from pg_stat_activity where usename like '%\\_app' order by random() limit 1
) as one
"""


async def drained_s(trial: Trial, payments: int) -> float:
    """Hand in so many payments in one moment; answers after how many seconds all came to their last message."""
    wanted = await trial.town.orders(payments)
    before, began = await trial.shop.asked_one(STORIES_ENDED), time.monotonic()
    await trial.pay(wanted, AT_ONCE_PER_S)
    while await trial.shop.asked_one(STORIES_ENDED) < before + payments:
        if time.monotonic() - began > HANGS_AFTER_S:
            trial.expect(f"{payments} payments at once are done within {HANGS_AFTER_S:g} s", False)
            break
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def in_time(trial: Trial, per_s: float, seconds: float, within_s: float = IN_TIME_S) -> float:
    """A steady load for so long; answers the share of stories that came to their last message within `within_s`."""
    wanted = await trial.town.orders(int(per_s * seconds))
    charges: list[str] = []
    paid_at: list[datetime] = []
    began = time.monotonic()
    for begin in range(0, len(wanted), SLICE):
        await asyncio.sleep(began + begin / per_s - time.monotonic())
        paid_at += [datetime.now(UTC)] * len(wanted[begin : begin + SLICE])
        charges += [paid.charge for paid in await trial.pay(wanted[begin : begin + SLICE], AT_ONCE_PER_S)]
    await asyncio.sleep(within_s)
    return int(await trial.shop.asked_one(IN_TIME, charges, paid_at, timedelta(seconds=within_s))) / len(charges)


@asynccontextmanager
async def meanwhile(what: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Until the end of the block; what it died of is raised there."""
    doing = asyncio.create_task(what)
    try:
        yield
    finally:
        doing.cancel()
        with suppress(asyncio.CancelledError):
            await doing


async def kill_now_and_then(trial: Trial, names: list[str]) -> None:
    while True:
        await asyncio.sleep(KILL_EVERY_S)
        name = trial.random.choice(names)
        if trial.shop.services[name].child.alive:
            trial.shop.kill(name)
            if name.startswith("notifier"):
                trial.notifier_died()


async def random_kills(trial: Trial) -> None:
    """7 (W-31): at a third of what two cores can, at least 90 % of the stories are over within 10 s of their payment.

    How long a backlog takes is told without a bar: to start a service again costs one core more than a second of
    every three, which is not the shop's.
    """
    payments, per_s, seconds = trial.size(400, 60), trial.size(20, 15), trial.size(60, 12)
    undisturbed_s = await drained_s(trial, payments)
    await trial.rests("what nobody disturbs")
    async with trial.shop.kept():
        began = time.monotonic()
        async with meanwhile(kill_now_and_then(trial, list(OWNERS))):
            share = await in_time(trial, per_s, seconds)
            disturbed_s = await drained_s(trial, payments)
        killing_s = time.monotonic() - began
    tell_deaths(trial, "SIGKILL to a random service every 3 s", killing_s)
    trial.reached(f"over within {IN_TIME_S:g} s", share, 0.9)
    trial.figures.append(f"a backlog drained at {undisturbed_s / disturbed_s:.0%} of the rate")


def tell_deaths(trial: Trial, fault: str, killing_s: float) -> None:
    """Who died of what; a service that died of anything else than our signal is a fault of its own."""
    deaths = trial.shop.deaths
    trial.faults.append(f"{fault} ({', '.join(name for name, _ in deaths)})" if deaths else fault)
    others = [death for death in deaths if death[1] != -signal.SIGKILL]
    trial.expect(f"nobody dies but of our signal: {others}", not others)
    least = int(KILLS_OF_TRIES * killing_s / KILL_EVERY_S)
    trial.expect(f"at least {least} were killed: {len(deaths)}", len(deaths) >= max(1, least))


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
            trial.notifier_could_not_mark()
            await trial.rests(f"the shop after {number.name}")
            await trial.counts(f"after {number.name}")
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def connections_cut(trial: Trial) -> None:
    """14: `pg_terminate_backend` twice a second on our connections: at a third of what two cores can, at least 95 % of
    the stories are over within 5 s; a backlog, which takes all of both cores, is done at 80 % of the rate at least.
    """
    payments, times = trial.size(500, 60), trial.size(2, 1)
    per_s, seconds = trial.size(20, 15), trial.size(20, 8)
    undisturbed_s = disturbed_s = 0.0
    cut: list[int] = []
    async with trial.shop.kept():
        for _ in range(times):
            undisturbed_s += await drained_s(trial, payments)
            await trial.rests("what nobody disturbs")
            async with meanwhile(_cut_now_and_then(trial.shop, cut)):
                disturbed_s += await drained_s(trial, payments)
            trial.notifier_could_not_mark()
            await trial.rests("what was cut")
        async with meanwhile(_cut_now_and_then(trial.shop, cut)):
            share = await in_time(trial, per_s, seconds, IN_TIME_OF_CUTS_S)
        trial.notifier_could_not_mark()
    trial.faults.append(f"pg_terminate_backend twice a second ({len(cut)} connections)")
    trial.expect(f"{len(cut)} connections were cut in {disturbed_s:.1f} s", len(cut) > disturbed_s)
    trial.expect(f"no service dies of it: {trial.shop.deaths}", not trial.shop.deaths)
    trial.reached(f"over within {IN_TIME_OF_CUTS_S:g} s", share, 0.95)
    trial.reached("a backlog drained, of the rate of one that nobody disturbs,", undisturbed_s / disturbed_s, 0.8)


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
    payments, per_s, seconds = trial.size(300, 60), trial.size(20, 10), trial.size(30, 10)
    one_of_each_s = await drained_s(trial, payments)
    await trial.rests("one of each")
    replicas = [f"{owner}+{number}" for owner in OWNERS for number in (1, 2)]
    await asyncio.gather(*(shop.start(name) for name in replicas))
    async with AsyncExitStack() as while_it_lasts:
        await while_it_lasts.enter_async_context(shop.kept())
        await while_it_lasts.enter_async_context(told_ten_times(trial))
        began = time.monotonic()
        async with meanwhile(kill_now_and_then(trial, list(shop.services))):
            share = await in_time(trial, per_s, seconds)
            three_s = await drained_s(trial, payments)
        killing_s = time.monotonic() - began
        await trial.rests("three of each")
    tell_deaths(trial, "three replicas of every service, SIGKILL to a random one every 3 s", killing_s)
    trial.reached(f"over within {IN_TIME_S:g} s", share, 0.9)
    trial.reached("a backlog drained, of the rate of one of each that nobody disturbs,", one_of_each_s / three_s, 0.2)
    await shop.stop(*replicas)
    for name in replicas:
        del shop.services[name]
