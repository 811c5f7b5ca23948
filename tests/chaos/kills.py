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
from tests.chaos.trial import HANGS_AFTER_S, Trial, first_few

KILL_EVERY_S = 3.0
CUT_EVERY_S = 0.5
SLICE = 5
LOOK_EVERY_S = 0.1  # A look goes through every charge.
STEADY = 0.3  # Of the rate at which a backlog is drained.
STEADY_TENFOLD = 0.2  # The copies are most of the work.
LEAST_PER_S = 10.0
UNDISTURBED_IN_TIME = 0.95
IN_TIME_S = 10.0  # What the dead held comes back after 5 s, and may meet another death on its way.
IN_TIME_OF_CUTS_S = 5.0
KILLS_OF_TRIES = 0.7  # Now and then the one whose turn it is has not yet begun again.

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
select format('%s %s', usename, pid) as whose, pg_terminate_backend(pid) as cut
from (
  select usename, pid from pg_stat_activity where usename like '%\\_app' order by random() limit 1
) as one
"""


async def drained_s(trial: Trial, payments: int) -> float:
    """Hand in so many payments in one moment; answers after how many seconds all came to their last message."""
    wanted = await trial.town.orders(payments)
    began, paid_at = time.monotonic(), [datetime.now(UTC)] * payments
    charges = [paid.charge for paid in await trial.pay(wanted, AT_ONCE_PER_S)]
    while await _over(trial, charges, paid_at, HANGS_AFTER_S) < payments:
        if time.monotonic() - began > HANGS_AFTER_S:
            trial.expect(f"{payments} payments at once are done within {HANGS_AFTER_S:g} s", False)
            break
        await asyncio.sleep(LOOK_EVERY_S)
    return time.monotonic() - began


def steady_per_s(trial: Trial, drained_per_s: float, seconds: float, share: float = STEADY) -> float:
    """A load that this machine bears well: at least 10/s, for fewer say little, and nobody pays twice in `seconds`."""
    return min(max(share * drained_per_s, LEAST_PER_S), len(trial.town.members) / seconds)


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
    await trial.shop.rests(within_s)  # What moves even then was not in time, and the row's end waits for it.
    return await _over(trial, charges, paid_at, within_s) / len(charges)


async def _over(trial: Trial, charges: list[str], paid_at: list[datetime], within_s: float) -> int:
    return int(await trial.shop.asked_one(IN_TIME, charges, paid_at, timedelta(seconds=within_s)))


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
            trial.killed.append(f"{name} {trial.shop.kill(name)}")
            if name.startswith("notifier"):
                trial.notifier_interrupted()


async def random_kills(trial: Trial) -> None:
    """7 (W-31): under a steady load 90 % as many stories as undisturbed are over within 10 s of their payment.

    A backlog, which takes all of both cores, is drained at 60 % of the rate at least: to start a service again costs
    one core more than a second of every three, and what the dead held comes back after 5 s.
    """
    payments, seconds = trial.size(1_200, 60), trial.size(40, 10)
    undisturbed_s = await drained_s(trial, payments)
    await trial.rests("what nobody disturbs")
    per_s = steady_per_s(trial, payments / undisturbed_s, seconds)
    undisturbed = await in_time(trial, per_s, seconds / 4)
    async with trial.shop.kept():
        began = time.monotonic()
        async with meanwhile(kill_now_and_then(trial, list(OWNERS))):
            share = await in_time(trial, per_s, seconds)
            disturbed_s = await drained_s(trial, payments)
        killing_s = time.monotonic() - began
    tell_deaths(trial, "SIGKILL to a random service every 3 s", killing_s)
    reached_in_time(trial, per_s, IN_TIME_S, undisturbed, share, 0.9)
    reached_drained(trial, payments / undisturbed_s, undisturbed_s / disturbed_s, 0.6)


def reached_in_time(
    trial: Trial, per_s: float, within_s: float, undisturbed: float, disturbed: float, least: float
) -> None:
    """Shares of `in_time` of one load, before the fault and under it: `least` is of their ratio."""
    trial.reached(f"at {per_s:.0f}/s undisturbed over within {within_s:g} s", undisturbed, UNDISTURBED_IN_TIME)
    trial.reached("of these under the fault", disturbed / undisturbed, least)


def reached_drained(trial: Trial, undisturbed_per_s: float, share: float, least: float) -> None:
    trial.reached(f"a backlog's rate under the fault, of {undisturbed_per_s:.0f}/s undisturbed,", share, least)


def tell_deaths(trial: Trial, fault: str, killing_s: float) -> None:
    """Who died of what; a service that died of anything else than our signal is a fault of its own."""
    deaths, killed = trial.shop.deaths, trial.killed
    trial.faults.append(f"{fault} ({first_few(killed)})")
    others = [one for one in deaths if one.ended != -signal.SIGKILL or f"{one.name} {one.pid}" not in killed]
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
    """13 (W-33, R-03): fast, immediate and kill -9: pools come back, no half of a batch is there, no money is lost."""
    shop = trial.shop
    signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    wanted = await trial.town.orders(trial.size(900, 240))
    async with shop.kept():
        for place, number in enumerate(signals):

            async def die(number: signal.Signals = number) -> None:
                trial.faults.append(signal_to(shop.postgres.child, number))
                await shop.postgres.child.wait()
                trial.notifier_interrupted()

            took_s = await trial.broken_under_load(wanted[place :: len(signals)], die, shop.postgres.restart)
            trial.took(f"back after {number.name}", took_s, 10.0)
            await trial.rests(f"the shop after {number.name}")
            await trial.counts(f"after {number.name}")
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def connections_cut(trial: Trial) -> None:
    """14: `pg_terminate_backend` twice a second on our connections: under a steady load 95 % as many stories as
    undisturbed are over within 5 s; a backlog, which takes all of both cores, is drained at 80 % of the rate at least.

    Nothing is said again: the notifier lives, and over its next connection it writes down what it said.
    """
    payments, times, seconds = trial.size(500, 60), trial.size(2, 1), trial.size(20, 8)
    undisturbed_s = disturbed_s = 0.0
    cut: list[str] = []
    async with trial.shop.kept():
        for _ in range(times):
            undisturbed_s += await drained_s(trial, payments)
            await trial.rests("what nobody disturbs")
            async with meanwhile(_cut_now_and_then(trial.shop, cut)):
                disturbed_s += await drained_s(trial, payments)
            await trial.rests("what was cut")
        drained_per_s = times * payments / undisturbed_s
        per_s = steady_per_s(trial, drained_per_s, seconds)
        undisturbed = await in_time(trial, per_s, seconds / 2, IN_TIME_OF_CUTS_S)
        async with meanwhile(_cut_now_and_then(trial.shop, cut)):
            share = await in_time(trial, per_s, seconds, IN_TIME_OF_CUTS_S)
    trial.faults.append(f"pg_terminate_backend twice a second on connections ({first_few(cut)})")
    trial.expect(f"{len(cut)} connections were cut in {disturbed_s:.1f} s", len(cut) > disturbed_s)
    trial.expect(f"no service dies of it: {trial.shop.deaths}", not trial.shop.deaths)
    reached_in_time(trial, per_s, IN_TIME_OF_CUTS_S, undisturbed, share, 0.95)
    reached_drained(trial, drained_per_s, undisturbed_s / disturbed_s, 0.8)


async def _cut_now_and_then(shop: Shop, cut: list[str]) -> None:
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        while True:
            cut += [row["whose"] for row in await connection.fetch(CUT_ONE) if row["cut"]]
            await asyncio.sleep(CUT_EVERY_S)
    finally:
        await connection.close()


async def three_replicas(trial: Trial) -> None:
    """34 (W-09, W-18): three replicas of each service, killed at random, and told everything ten times.

    Measured as in row 7, against one of each that nobody disturbs and that hears everything once.
    """
    shop = trial.shop
    payments, seconds = trial.size(300, 60), trial.size(30, 10)
    one_of_each_s = await drained_s(trial, payments)
    await trial.rests("one of each")
    per_s = steady_per_s(trial, payments / one_of_each_s, seconds, STEADY_TENFOLD)
    undisturbed = await in_time(trial, per_s, seconds / 3)
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
    reached_in_time(trial, per_s, IN_TIME_S, undisturbed, share, 0.9)
    reached_drained(trial, payments / one_of_each_s, one_of_each_s / three_s, 0.2)
    await shop.stop(*replicas)
    for name in replicas:
        del shop.services[name]
