"""Rows 35 and 38: many people contend for one row of a table, and one person has many rows."""

import asyncio
import signal
import time

import asyncpg

from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.jetstream import consumer_info
from tests.chaos.load import AT_ONCE_PER_S, Buyer, Purchase
from tests.chaos.shop import send_signal
from tests.chaos.streams import paused, until_published
from tests.chaos.trial import Trial

HANDLES_STARTS = "referrals_registers_started"
(HANDLES_PAYMENTS,) = (one for one in SUBSCRIPTIONS if one.handler == "referrals_rewards_confirmed")
BEFORE_A_LEVEL = 23
PARTNERS = 10
PLACED_AT_ONCE = 200
BOTH_WAIT_WITHIN_S = DELIVERED_WITHIN_S = 60.0
DECIDED_WITHIN_S = 600.0

DECIDED = """
select payer, paying, percent, outcome, xmin::text as decider
from referrals.rewards
where payer = any($1::uuid[])
order by paying
"""
WAITING = "select count(*) from referrals.waiting"
LOCK = "select from referrals.partners where person = any($1::uuid[]) for update"

# Transactions that wait for a partner's lock: each process decides in one at a time.
AT_THE_LOCK = """
select backend_xid::text as decider
from pg_stat_activity
where usename = 'referrals_app' and wait_event_type = 'Lock' and backend_xid is not null
"""

# Read a hundred times a second, so only from these rows: looking for ten thousand charges takes
# a whole core.
RATE = """
select count(*) as decided,
  extract(epoch from clock_timestamp() - min(decided_at))::float8 as seconds
from referrals.rewards
where decided_at > $1
"""


# As a person who taps for days would leave them, were there no newer order.
PLACE_MANY = """
with placed as (
  insert into payments.orders (
    id, person, what, plan, months, devices, node_group, list_month_minor, price_minor,
    received_minor, placed_at, honoured_until
  )
  select gen_random_uuid(), $1, 'subscription', 'basic', 1, 5, 'default', 14900, 14900, nth % 2,
    now() - nth * interval '1 s', now() - nth * interval '1 s' + interval '30 d'
  from generate_series($2::int + 1, $3::int) as nth
  returning id, placed_at
)
insert into payments.invoices (
  id, order_id, way, acquirer, asked_minor, asked_currency, opened_at, expires_at
)
select gen_random_uuid(), id, 'stars', 'telegram_stars', 99, 'XTR', placed_at,
  placed_at + interval '30 min'
from placed
"""
ROWS_AT_ONCE = 10_000


async def many_at_once(trial: Trial) -> None:
    """35: two "25th" payers at once; one partner with 10 000 buyers; payments come too early."""
    await _two_at_a_boundary(trial)
    await _one_partner(trial)
    await _before_the_invitation(trial)


async def _friends(trial: Trial, partner: Buyer, count: int) -> list[Purchase]:
    """People whom the partner invited, each with an open order."""
    friends = await trial.load.register([f"/start r_{partner.code}"] * count)
    purchases: list[Purchase] = []
    for begin in range(0, count, PLACED_AT_ONCE):
        some = friends[begin : begin + PLACED_AT_ONCE]
        placed = await asyncio.gather(*(trial.load.place_order(friend) for friend in some))
        purchases += [
            Purchase(friend, invoice, "right") for friend, invoice in zip(some, placed, strict=True)
        ]
    return purchases


async def _two_at_a_boundary(trial: Trial) -> None:
    """M-15: the 24th and the 25th friend pay at once, in two processes: 10 % and 25 % are earned.

    Both processes are stopped (SIGSTOP) until each has its half of the payments. The partners are
    locked until both wait for them.
    """
    shop, count = trial.shop, trial.size(30, 6)
    partners = await trial.load.register(["/start"] * count)
    for partner in partners:  # At one message a second in a chat, fifty would take too long.
        await shop.crowd.block(partner.chat, blocked=True)
    friends = [await _friends(trial, partner, BEFORE_A_LEVEL + 2) for partner in partners]
    await trial.pay([one for purchases in friends for one in purchases[:BEFORE_A_LEVEL]])
    await trial.expect_quiescent("the shop before the level")
    await shop.start("referrals+1")
    both = ("referrals", "referrals+1")
    last = [purchases[BEFORE_A_LEVEL:] for purchases in friends]
    lock = await asyncpg.connect(shop.postgres.dsn())
    try:
        async with lock.transaction():
            await lock.execute(LOCK, [partner.person for partner in partners])
            for name in both:
                send_signal(shop.services[name].child, signal.SIGSTOP)
            try:
                await trial.pay([one for purchases in last for one in purchases], AT_ONCE_PER_S)
                await until_published(shop, "bot", "payments")
                await _all_delivered(trial)
            finally:
                for name in both:
                    send_signal(shop.services[name].child, signal.SIGCONT)
            deciders = await _two_at_the_lock(trial)
    finally:
        await lock.close()
    await trial.expect_quiescent("the shop after both decisions")
    await shop.stop("referrals+1")
    del shop.services["referrals+1"]
    for partner in partners:
        await shop.crowd.block(partner.chat, blocked=False)
    met = 0
    for purchases in last:
        rows = await shop.fetch(DECIDED, [one.buyer.person for one in purchases])
        decided = [(row["paying"], row["percent"]) for row in rows]
        trial.expect(
            f"one is the 24th and one the 25th: {decided}", decided == [(24, 10), (25, 25)]
        )
        met += {row["decider"] for row in rows} == deciders
    trial.expect(
        f"two processes met over a partner: {met} of {count} times", met >= trial.size(5, 1)
    )
    trial.faults.append(f"{count} times two 25th payers at once ({met} of them in two processes)")


async def _all_delivered(trial: Trial) -> None:
    """All payments have left the stream for one of the two processes."""
    give_up_at = time.monotonic() + DELIVERED_WITHIN_S
    while time.monotonic() < give_up_at:
        durable = await consumer_info(trial.shop.bus.client, HANDLES_PAYMENTS)
        if not durable["num_pending"]:
            return
        await asyncio.sleep(0.05)
    left = durable["num_pending"]
    trial.expect(f"all payments are delivered to the two: {left} are not", holds=False)


async def _two_at_the_lock(trial: Trial) -> set[str]:
    """The transactions of both processes, as soon as both wait."""
    give_up_at = time.monotonic() + BOTH_WAIT_WITHIN_S
    while True:
        deciders = {row["decider"] for row in await trial.shop.fetch(AT_THE_LOCK)}
        if len(deciders) == 2 or time.monotonic() > give_up_at:
            trial.expect(f"two processes wait for a partner: {len(deciders)}", len(deciders) == 2)
            return deciders
        await asyncio.sleep(0.02)


async def _one_partner(trial: Trial) -> None:
    """As fast for one partner as for many: the row is locked once a batch, not once a payment."""
    shop, buyers, measured = trial.shop, trial.size(10_000, 200), trial.size(1_000, 200)
    purchases = await trial.load.place_orders(measured, late=False, only_stars=True)
    spread = await _rewards_per_s(trial, purchases, measured)
    (partner,) = await trial.load.register(["/start"])
    purchases = await _friends(trial, partner, buyers)
    # At one message a second in a chat, a thousand would take too long. The partner stays blocked:
    # a person who comes back gets the message of every reward.
    await shop.crowd.block(partner.chat, blocked=True)
    await trial.expect_quiescent("the shop with all friends of one", 120)
    at_once = await _rewards_per_s(trial, purchases, measured)
    trial.faults.append(f"one partner with {buyers} buyers at once")
    # The short form decides two hundred in a third of a second: it may stand still for ten times
    # as long where other programs use the machine.
    share = at_once / spread
    trial.expect_share("rewards for one partner, of those for many", share, 0.5, least_short=0.02)


async def _rewards_per_s(trial: Trial, purchases: list[Purchase], measured: int) -> float:
    """All other work is done while referrals is stopped, so that only its decisions take time.

    The rate is that of the first `measured`: until then the other services have little work.
    """
    await trial.shop.stop("referrals")
    await trial.pay(purchases, AT_ONCE_PER_S)
    others = ("bot", "payments", "vpn", "notifier")
    await until_published(trial.shop, *others, within_s=DECIDED_WITHIN_S)
    stopped_at = await trial.shop.fetch_value("select clock_timestamp()")
    starting = asyncio.create_task(trial.shop.start("referrals"))
    rate, give_up_at = 0.0, time.monotonic() + DECIDED_WITHIN_S
    while True:
        (seen,) = await trial.shop.fetch(RATE, stopped_at)
        if seen["decided"] >= measured and not rate:
            rate = seen["decided"] / float(seen["seconds"])
        if seen["decided"] == len(purchases):
            break
        if time.monotonic() > give_up_at:
            raise TimeoutError("rewards are not decided")
        await asyncio.sleep(0.05 if rate else 0.01)
    await starting
    await trial.expect_quiescent("the shop after all rewards", DECIDED_WITHIN_S)
    return rate


async def _before_the_invitation(trial: Trial) -> None:
    """Payments come while `PersonStarted` is held back: they wait, and are rewarded later."""
    shop, count = trial.shop, trial.size(100, 30)
    async with paused(shop, HANDLES_STARTS):
        purchases = [
            one
            for partner in trial.load.buyers[:PARTNERS]
            for one in await _friends(trial, partner, count // PARTNERS)
        ]
        await trial.pay(purchases)
        for _ in range(600):
            if (waiting := await shop.fetch_value(WAITING)) == count:
                break
            await asyncio.sleep(0.1)
        trial.expect(f"{count} payments wait for their payer: {waiting}", waiting == count)
    await trial.expect_quiescent("the shop after the invitations")
    rows = await shop.fetch(DECIDED, [one.buyer.person for one in purchases])
    rewarded = sum(row["outcome"] == "rewarded" for row in rows)
    trial.expect(f"all are rewarded: {rewarded}", rewarded == count)
    trial.faults.append(f"{count} payments before their invitation")


async def many_orders(trial: Trial) -> None:
    """38 (W-36): one person has 100 000 open orders and pays too, between all others."""
    orders = trial.size(100_000, 20_000)
    (hoarder,) = await trial.load.register(["/start"])
    for begin in range(0, orders, ROWS_AT_ONCE):
        await trial.shop.fetch(PLACE_MANY, hoarder.person, begin, begin + ROWS_AT_ONCE)
    purchases = await trial.load.place_orders(trial.size(600, 200))
    own = Purchase(hoarder, await trial.load.place_order(hoarder), "right")
    half = len(purchases) // 2
    await trial.pay([*purchases[:half], own, *purchases[half:]])
    trial.faults.append(f"one person with {orders} open orders")
