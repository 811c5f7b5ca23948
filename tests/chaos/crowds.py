"""Row 35: people who meet in one row of a table."""

import asyncio
import signal
import time

import asyncpg

from shared.streams import stream_of
from tests.chaos.load import AT_ONCE_PER_S, Member, Wanted
from tests.chaos.shop import signal_to
from tests.chaos.streams import call, held_back, until_told
from tests.chaos.trial import Trial

STARTS, PAYMENTS = "referrals_registers_started", "referrals_rewards_confirmed"
PAYMENTS_STREAM = stream_of("payments")
BEFORE_A_LEVEL = 23
PARTNERS = 10
PLACE_AT_ONCE = 200
BOTH_WAIT_WITHIN_S = 5.0
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

# Asked a hundred times a second, so of nothing but these rows: to look for ten thousand charges takes a core.
RATE = """
select count(*) as decided, extract(epoch from clock_timestamp() - min(decided_at))::float8 as seconds
from referrals.rewards
where decided_at > $1
"""


async def many_at_once(trial: Trial) -> None:
    """35: two "25th" payers at once; one partner with 10 000 buyers at once; payments before their invitation."""
    await _two_at_a_boundary(trial)
    await _one_partner(trial)
    await _before_its_invitation(trial)


async def _friends(trial: Trial, partner: Member, count: int) -> list[Wanted]:
    """People whom he invited, each with an open order."""
    friends = await trial.town.arrive([f"/start r_{partner.code}"] * count)
    wanted: list[Wanted] = []
    for begin in range(0, count, PLACE_AT_ONCE):
        some = friends[begin : begin + PLACE_AT_ONCE]
        placed = await asyncio.gather(*(trial.town.place_order(friend) for friend in some))
        wanted += [Wanted(friend, invoice, "right") for friend, invoice in zip(some, placed, strict=True)]
    return wanted


async def _two_at_a_boundary(trial: Trial) -> None:
    """M-15: the 24th and the 25th pay in the same moment, heard by two processes: one earns 10 %, the other 25 %.

    Both processes stand still (SIGSTOP) until each has its half of the payments, and the partners are locked until
    both wait for them.
    """
    shop, count = trial.shop, trial.size(30, 6)
    partners = await trial.town.arrive(["/start"] * count)
    for partner in partners:  # They cannot read fifty messages at one a second.
        await shop.crowd.block(partner.chat, blocked=True)
    friends = [await _friends(trial, partner, BEFORE_A_LEVEL + 2) for partner in partners]
    await trial.pay([one for wanted in friends for one in wanted[:BEFORE_A_LEVEL]])
    await trial.rests("what came before the level")
    await shop.start("referrals+1")
    both = ("referrals", "referrals+1")
    last = [wanted[BEFORE_A_LEVEL:] for wanted in friends]
    held = await asyncpg.connect(shop.postgres.dsn())
    try:
        async with held.transaction():
            await held.execute(LOCK, [partner.person for partner in partners])
            for name in both:
                signal_to(shop.services[name].child, signal.SIGSTOP)
            try:
                await trial.pay([one for wanted in last for one in wanted], AT_ONCE_PER_S)
                await until_told(shop, "bot", "payments")
                await _all_have_come(trial)
            finally:
                for name in both:
                    signal_to(shop.services[name].child, signal.SIGCONT)
            deciders = await _two_at_the_lock(trial)
    finally:
        await held.close()
    await trial.rests("what two decide")
    await shop.stop("referrals+1")
    del shop.services["referrals+1"]
    for partner in partners:
        await shop.crowd.block(partner.chat, blocked=False)
    met = 0
    for wanted in last:
        rows = await shop.asked(DECIDED, [one.member.person for one in wanted])
        decided = [(row["paying"], row["percent"]) for row in rows]
        trial.expect(f"one is the 24th and one the 25th: {decided}", decided == [(24, 10), (25, 25)])
        met += {row["decider"] for row in rows} == deciders
    trial.expect(f"two processes met over a partner: {met} of {count} times", met >= trial.size(5, 1))
    trial.faults.append(f"{count} times two 25th payers at once ({met} of them before two processes)")


async def _all_have_come(trial: Trial) -> None:
    """All payments have left the stream, for one of the two."""
    for _ in range(40):
        durable = await call(trial.shop, f"CONSUMER.INFO.{PAYMENTS_STREAM}.{PAYMENTS}")
        if not durable["num_pending"]:
            return
        await asyncio.sleep(0.05)
    trial.expect(f"all payments are with the two: {durable['num_pending']} are not", holds=False)


async def _two_at_the_lock(trial: Trial) -> set[str]:
    """The transactions of both processes, once both wait."""
    give_up_at = time.monotonic() + BOTH_WAIT_WITHIN_S
    while True:
        deciders = {row["decider"] for row in await trial.shop.asked(AT_THE_LOCK)}
        if len(deciders) == 2 or time.monotonic() > give_up_at:
            trial.expect(f"two processes wait for a partner: {len(deciders)}", len(deciders) == 2)
            return deciders
        await asyncio.sleep(0.02)


async def _one_partner(trial: Trial) -> None:
    """As fast for one partner as for many: his row is locked once a batch, not once a payment."""
    shop, buyers, measured = trial.shop, trial.size(10_000, 200), trial.size(1_000, 200)
    spread = await _rewards_a_second(trial, await trial.town.orders(measured, late=False), measured)
    (partner,) = await trial.town.arrive(["/start"])
    wanted = await _friends(trial, partner, buyers)
    await shop.crowd.block(partner.chat, blocked=True)  # He cannot read a thousand messages at one a second.
    await trial.rests("the friends of one", 120)
    at_once = await _rewards_a_second(trial, wanted, measured)
    await shop.crowd.block(partner.chat, blocked=False)
    trial.faults.append(f"one partner with {buyers} buyers at once")
    trial.reached("rewards for one partner, of those for many", at_once / spread, 0.5)


async def _rewards_a_second(trial: Trial, wanted: list[Wanted], measured: int) -> float:
    """All are paid and booked before referrals hears of the first: only what it decides takes time.

    Of the first `measured`: by then few of the others are at work on what follows.
    """
    await trial.shop.stop("referrals")
    await trial.pay(wanted, AT_ONCE_PER_S)
    await until_told(trial.shop, "bot", "payments", within_s=DECIDED_WITHIN_S)
    stopped_at = await trial.shop.asked_one("select clock_timestamp()")
    starting = asyncio.create_task(trial.shop.start("referrals"))
    rate, give_up_at = 0.0, time.monotonic() + DECIDED_WITHIN_S
    while True:
        (seen,) = await trial.shop.asked(RATE, stopped_at)
        if seen["decided"] >= measured and not rate:
            rate = seen["decided"] / float(seen["seconds"])
        if seen["decided"] == len(wanted):
            break
        if time.monotonic() > give_up_at:
            raise TimeoutError("rewards are not decided")
        await asyncio.sleep(0.05 if rate else 0.01)
    await starting
    await trial.rests("what is rewarded", DECIDED_WITHIN_S)
    return rate


async def _before_its_invitation(trial: Trial) -> None:
    """Nobody hears who started, so payments come first: they wait, and are rewarded when it is known who invited."""
    shop, count = trial.shop, trial.size(100, 30)
    async with held_back(shop, STARTS):
        partners = trial.town.members[:PARTNERS]
        wanted = [one for partner in partners for one in await _friends(trial, partner, count // PARTNERS)]
        await trial.pay(wanted)
        for _ in range(600):
            if (waiting := await shop.asked_one(WAITING)) == count:
                break
            await asyncio.sleep(0.1)
        trial.expect(f"{count} payments wait for their payer: {waiting}", waiting == count)
    await trial.rests("what waited")
    rows = await shop.asked(DECIDED, [one.member.person for one in wanted])
    trial.expect(f"all are rewarded: {len(rows)}", sum(row["outcome"] == "rewarded" for row in rows) == count)
    trial.faults.append(f"{count} payments before their invitation")
