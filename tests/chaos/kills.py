"""Rows in which processes and connections die: services, the broker, the database."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from shared.contracts.owners import OWNERS
from tests.chaos.load import AT_ONCE_PER_S
from tests.chaos.shop import Shop, send_signal
from tests.chaos.streams import published_ten_times
from tests.chaos.trial import HANGS_AFTER_S, Trial, first_few

KILL_EVERY_S = 3.0
STARTS_A_KILL = 3  # In a backlog. More often, a slow machine would do little but start services.
TERMINATE_EVERY_S = 0.5
SLICE = 5
LOOK_EVERY_S = 0.1  # A look goes through every charge.
STEADY = 0.3  # Of the rate at which a backlog is drained.
STEADY_TENFOLD = 0.2  # The copies are most of the work.
LEAST_PER_S = 10.0
UNDISTURBED_IN_TIME = 0.95
MOST = 0.9  # The last tenth of a backlog measures how long a message is held, not a rate.
# Messages that a killed process held come back after 5 s, and may meet another kill.
IN_TIME_S = 10.0
IN_TIME_TERMINATED_S = 5.0
KILLS_OF_TRIES = 0.7  # Sometimes the chosen service has not started again yet.

# Of these charges, those whose last message was sent in time.
IN_TIME = """
select count(distinct c.charge)
from unnest($1::text[], $2::timestamptz[]) as c (charge, paid_at)
join payments.receipts r on r.acquirer = 'telegram_stars' and r.charge = c.charge
join payments.bookings b on b.receipt = r.id
join notifier.deliveries d
  on d.person = r.payer and d.state = 'sent' and d.settled_at < c.paid_at + $3::interval
where case b.outcome
  when 'bought' then d.kind in ('access_ready', 'left_over') and d.cause = b.order_id::text
  else d.kind in ('topped_up', 'missing') and d.cause = r.id::text
end
"""

TERMINATE_ONE = """
select format('%s %s', usename, pid) as whose, pg_terminate_backend(pid) as terminated
from (
  select usename, pid
  from pg_stat_activity
  where usename like '%\\_app'
  order by random()
  limit 1
) as one
"""


async def drained_s(trial: Trial, payments: int) -> float:
    """Make this many payments at once, and wait for every final message.

    Returns the seconds until most final messages were sent. In Stars only: of a provider's notice
    that met a kill, its own pause would be measured.
    """
    purchases = await trial.load.place_orders(payments, only_stars=True)
    began, paid_at = time.monotonic(), [datetime.now(UTC)] * payments
    charges = [paid.charge for paid in await trial.pay(purchases, AT_ONCE_PER_S)]
    most_s, hangs_after_s = 0.0, trial.patience_s(HANGS_AFTER_S)
    while (complete := await _complete(trial, charges, paid_at, hangs_after_s)) < payments:
        took_s = time.monotonic() - began
        most_s = most_s or (took_s if complete >= MOST * payments else 0.0)
        if took_s > hangs_after_s:
            trial.expect(f"{payments} payments at once are done within {hangs_after_s:g} s", False)
            break
        await asyncio.sleep(LOOK_EVERY_S)
    return most_s or time.monotonic() - began


def steady_per_s(
    trial: Trial, drained_per_s: float, seconds: float, share: float = STEADY
) -> float:
    """A rate that this machine can sustain for `seconds`.

    At least 10/s, because fewer payments prove little, and at most one payment per person.
    """
    return min(max(share * drained_per_s, LEAST_PER_S), len(trial.load.buyers) / seconds)


async def in_time(trial: Trial, per_s: float, seconds: float, within_s: float = IN_TIME_S) -> float:
    """A steady load; returns the share of purchases in Stars that were complete within `within_s`.

    The others are there, and wait for their provider's next notice or for the watcher. The short
    form asks for no more than that they are complete at all: a slow machine may need longer to
    start one service.
    """
    within_s = trial.patience_s(HANGS_AFTER_S) if trial.short else within_s
    purchases = await trial.load.place_orders(int(per_s * seconds))
    charges: list[str] = []
    paid_at: list[datetime] = []
    began = time.monotonic()
    for begin in range(0, len(purchases), SLICE):
        await asyncio.sleep(began + begin / per_s - time.monotonic())
        some = purchases[begin : begin + SLICE]
        at = datetime.now(UTC)
        paid = await trial.pay(some, AT_ONCE_PER_S)
        charges += [one.charge for one in paid if not one.purchase.reference]
        paid_at += [at] * (len(charges) - len(paid_at))
    # A purchase in flight after that was not in time; the end of the row waits for it.
    await trial.shop.until_quiescent(within_s)
    return await _complete(trial, charges, paid_at, within_s) / len(charges)


async def _complete(
    trial: Trial, charges: list[str], paid_at: list[datetime], within_s: float
) -> int:
    within = timedelta(seconds=within_s)
    return int(await trial.shop.fetch_value(IN_TIME, charges, paid_at, within))


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` in the background during the block; re-raise its error."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def kill_repeatedly(trial: Trial, names: list[str], every_s: float = KILL_EVERY_S) -> None:
    while True:
        await asyncio.sleep(every_s)
        name = trial.random.choice(names)
        if trial.shop.services[name].child.alive:
            trial.killed.append(f"{name} {trial.shop.kill(name)}")
            if name.startswith("notifier"):
                trial.notifier_interrupted()


async def random_kills(trial: Trial) -> None:
    """7 (W-31): 90 % as many purchases as undisturbed are complete within 10 s, at a steady load.

    A backlog takes all of both cores. It is drained at half of the rate at least: a service that
    starts again takes one core for a third of the time, and nothing is done for those who wait
    for it.
    """
    payments, seconds, backlogs = trial.size(1_200, 60), trial.size(40, 10), trial.size(3, 1)
    undisturbed_s = await drained_s(trial, payments)
    await trial.expect_quiescent("the undisturbed shop")
    per_s = steady_per_s(trial, payments / undisturbed_s, seconds)
    undisturbed = await in_time(trial, per_s, seconds / 4)
    every_s = max(KILL_EVERY_S, STARTS_A_KILL * await _start_s(trial.shop))
    async with trial.shop.supervised():
        began = time.monotonic()
        async with meanwhile(kill_repeatedly(trial, list(OWNERS))):
            share = await in_time(trial, per_s, seconds)
        tries, began = (time.monotonic() - began) / KILL_EVERY_S, time.monotonic()
        async with meanwhile(kill_repeatedly(trial, list(OWNERS), every_s)):
            disturbed_s = [await drained_s(trial, payments) for _ in range(backlogs)]
        tries += (time.monotonic() - began) / every_s
    fault = f"SIGKILL to a random service every 3 s, in backlogs every {every_s:.1f} s"
    expect_only_our_kills(trial, fault, tries)
    expect_in_time(trial, per_s, IN_TIME_S, undisturbed, share, 0.9)
    ratio = undisturbed_s * backlogs / sum(disturbed_s)
    expect_drained(trial, payments / undisturbed_s, ratio, 0.5)


async def _start_s(shop: Shop) -> float:
    """How long this machine takes to start a service."""
    await shop.stop("bot")
    began = time.monotonic()
    await shop.start("bot")
    return time.monotonic() - began


def expect_in_time(
    trial: Trial, per_s: float, within_s: float, undisturbed: float, disturbed: float, least: float
) -> None:
    """Two shares of `in_time` at one load, before and during the fault. `least` is their ratio."""
    complete = f"at {per_s:.0f}/s undisturbed complete within {within_s:g} s"
    trial.expect_share(complete, undisturbed, UNDISTURBED_IN_TIME)
    trial.expect_share("of these under the fault", disturbed / undisturbed, least)


def expect_drained(trial: Trial, undisturbed_per_s: float, share: float, least: float) -> None:
    rate = f"a backlog's rate under the fault, of {undisturbed_per_s:.0f}/s undisturbed,"
    trial.expect_share(rate, share, least)


def expect_only_our_kills(trial: Trial, fault: str, tries: float) -> None:
    """A service that ends otherwise than by our signal is a failure of its own."""
    deaths, killed = trial.shop.deaths, trial.killed
    trial.faults.append(f"{fault} ({first_few(killed)})")
    others = [
        one
        for one in deaths
        if one.ended != -signal.SIGKILL or f"{one.name} {one.pid}" not in killed
    ]
    trial.expect(f"no process dies but of our signal: {others}", not others)
    # On a slow machine a service starts for longer than the pause between two kills.
    least = 1 if trial.short else max(1, int(KILLS_OF_TRIES * tries))
    trial.expect(f"at least {least} were killed: {len(deaths)}", len(deaths) >= least)


async def broker_killed(trial: Trial) -> None:
    """9 (W-31): resumes in at most 3 s."""
    shop = trial.shop

    async def die() -> None:
        trial.faults.append(send_signal(shop.broker.child, signal.SIGKILL))

    purchases = await trial.load.place_orders(trial.size(800, 200))
    async with shop.supervised():
        took_s = await trial.break_under_load(purchases, die, shop.broker.restart)
        trial.expect_within("resumed", took_s, 3.0)
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def database_killed(trial: Trial) -> None:
    """13 (W-33, R-03): fast, immediate and kill -9.

    Pools come back, no batch is half done, no payment is lost.
    """
    shop = trial.shop
    signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    purchases = await trial.load.place_orders(trial.size(900, 240))
    async with shop.supervised():
        for place, number in enumerate(signals):

            async def die(number: signal.Signals = number) -> None:
                trial.faults.append(send_signal(shop.postgres.child, number))
                await shop.postgres.child.wait()
                trial.notifier_interrupted()

            own = purchases[place :: len(signals)]
            took_s = await trial.break_under_load(own, die, shop.postgres.restart)
            trial.expect_within(f"back after {number.name}", took_s, 10.0)
            await trial.expect_quiescent(f"the shop after {number.name}")
            await trial.expect_no_loss(f"after {number.name}")
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def connections_terminated(trial: Trial) -> None:
    """14: `pg_terminate_backend` twice a second on the connections of the services.

    At a steady load 95 % as many purchases as undisturbed are complete within 5 s. A backlog
    takes all of both cores. It is drained at 80 % of the rate at least. No message is sent again:
    notifier lives, and records over its next connection that it sent.
    """
    payments, times, seconds = trial.size(500, 60), trial.size(2, 1), trial.size(20, 8)
    undisturbed_s = disturbed_s = 0.0
    terminated: list[str] = []
    async with trial.shop.supervised():
        for _ in range(times):
            undisturbed_s += await drained_s(trial, payments)
            await trial.expect_quiescent("the undisturbed shop")
            async with meanwhile(_terminate_repeatedly(trial.shop, terminated)):
                disturbed_s += await drained_s(trial, payments)
            await trial.expect_quiescent("the shop with terminated connections")
        drained = len(terminated)
        drained_per_s = times * payments / undisturbed_s
        per_s = steady_per_s(trial, drained_per_s, seconds)
        undisturbed = await in_time(trial, per_s, seconds / 2, IN_TIME_TERMINATED_S)
        async with meanwhile(_terminate_repeatedly(trial.shop, terminated)):
            share = await in_time(trial, per_s, seconds, IN_TIME_TERMINATED_S)
    trial.faults.append(
        f"pg_terminate_backend twice a second on connections ({first_few(terminated)})"
    )
    trial.expect(
        f"{drained} connections were terminated while the backlog drained ({disturbed_s:.1f} s)",
        drained > disturbed_s,
    )
    trial.expect(f"no service dies of it: {trial.shop.deaths}", not trial.shop.deaths)
    expect_in_time(trial, per_s, IN_TIME_TERMINATED_S, undisturbed, share, 0.95)
    expect_drained(trial, drained_per_s, undisturbed_s / disturbed_s, 0.8)


async def _terminate_repeatedly(shop: Shop, terminated: list[str]) -> None:
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        while True:
            rows = await connection.fetch(TERMINATE_ONE)
            terminated += [row["whose"] for row in rows if row["terminated"]]
            await asyncio.sleep(TERMINATE_EVERY_S)
    finally:
        await connection.close()


async def three_replicas(trial: Trial) -> None:
    """34 (W-09, W-18): three replicas of each service, killed at random.

    Every message is delivered ten times. Measured as in row 7, against one undisturbed replica of
    each with single messages.
    """
    shop = trial.shop
    payments, seconds = trial.size(300, 60), trial.size(30, 10)
    one_of_each_s = await drained_s(trial, payments)
    await trial.expect_quiescent("the shop with one of each")
    per_s = steady_per_s(trial, payments / one_of_each_s, seconds, STEADY_TENFOLD)
    undisturbed = await in_time(trial, per_s, seconds / 3)
    replicas = [f"{owner}+{number}" for owner in OWNERS for number in (1, 2)]
    await asyncio.gather(*(shop.start(name) for name in replicas))
    async with AsyncExitStack() as faults:
        await faults.enter_async_context(shop.supervised())
        await faults.enter_async_context(published_ten_times(trial))
        began = time.monotonic()
        async with meanwhile(kill_repeatedly(trial, list(shop.services))):
            share = await in_time(trial, per_s, seconds)
            three_s = await drained_s(trial, payments)
        killing_s = time.monotonic() - began
        await trial.expect_quiescent("the shop with three of each")
    fault = "three replicas of every service, SIGKILL to a random one every 3 s"
    expect_only_our_kills(trial, fault, killing_s / KILL_EVERY_S)
    expect_in_time(trial, per_s, IN_TIME_S, undisturbed, share, 0.9)
    expect_drained(trial, payments / one_of_each_s, one_of_each_s / three_s, 0.2)
    await shop.stop(*replicas)
    for name in replicas:
        del shop.services[name]
