"""Row 35: people who meet in one row of a table."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

from tests.chaos.load import Member, Wanted
from tests.chaos.streams import call
from tests.chaos.trial import Trial

STARTS = "EVT_BOT.referrals_registers_started"
BEFORE_A_LEVEL = 23
PARTNERS = 3
PLACE_AT_ONCE = 200

DECIDED = """
select payer, paying, percent, outcome from referrals.rewards where payer = any($1::uuid[]) order by paying
"""
WAITING = "select count(*) from referrals.waiting"
REWARDED = "select count(*) from referrals.rewards"


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
    """M-15: the 24th and the 25th pay in the same moment, heard by two processes: one earns 10 %, the other 25 %."""
    shop = trial.shop
    partners = await trial.town.arrive(["/start"] * PARTNERS)
    friends = [await _friends(trial, partner, BEFORE_A_LEVEL + 2) for partner in partners]
    await trial.pay([one for wanted in friends for one in wanted[:BEFORE_A_LEVEL]])
    await shop.rests(60)
    await shop.start("referrals+1")
    last = [wanted[BEFORE_A_LEVEL:] for wanted in friends]
    await asyncio.gather(*(trial.pay([one], 1e6) for wanted in last for one in wanted))
    await shop.rests(60)
    await shop.stop("referrals+1")
    del shop.services["referrals+1"]
    for wanted in last:
        rows = await shop.asked(DECIDED, [one.member.person for one in wanted])
        decided = [(row["paying"], row["percent"]) for row in rows]
        trial.expect(f"one is the 24th and one the 25th: {decided}", decided == [(24, 10), (25, 25)])
    trial.faults.append(f"{PARTNERS} times two 25th payers at once")


async def _one_partner(trial: Trial) -> None:
    """As fast for one partner as for many: his row is locked once a batch, not once a payment."""
    shop, buyers = trial.shop, trial.size(10_000, 200)
    spread = await _rewards_a_second(trial, await trial.town.orders(trial.size(1_000, 200), late=False))
    (partner,) = await trial.town.arrive(["/start"])
    wanted = await _friends(trial, partner, buyers)
    await shop.crowd.block(partner.chat, blocked=True)  # He cannot read a thousand messages at one a second.
    await shop.rests(120)
    at_once = await _rewards_a_second(trial, wanted)
    await shop.rests(600)
    await shop.crowd.block(partner.chat, blocked=False)
    trial.faults.append(f"one partner with {buyers} buyers at once")
    trial.reached("rewards for one partner, of those for many", at_once / spread, 0.5)


async def _rewards_a_second(trial: Trial, wanted: list[Wanted]) -> float:
    before, began = await trial.shop.asked_one(REWARDED), time.monotonic()
    await trial.pay(wanted, 1e6)
    while await trial.shop.asked_one(REWARDED) < before + len(wanted):
        await asyncio.sleep(0.05)
        if time.monotonic() - began > 600:
            raise TimeoutError("rewards are not decided")
    rate = len(wanted) / (time.monotonic() - began)
    await trial.shop.rests(120)
    return rate


async def _before_its_invitation(trial: Trial) -> None:
    """Nobody hears who started, so payments come first: they wait, and are rewarded when it is known who invited."""
    shop, count = trial.shop, trial.size(100, 30)
    until = datetime.now(UTC) + timedelta(hours=1)
    paused = await call(shop, f"CONSUMER.PAUSE.{STARTS}", {"pause_until": until.isoformat()})
    trial.expect(f"the starts are held back: {json.dumps(paused)[:200]}", paused.get("paused") is True)
    wanted = await _friends(trial, trial.town.members[0], count)
    await trial.pay(wanted)
    for _ in range(600):
        if (waiting := await shop.asked_one(WAITING)) == count:
            break
        await asyncio.sleep(0.1)
    trial.expect(f"{count} payments wait for their payer: {waiting}", waiting == count)
    await call(shop, f"CONSUMER.PAUSE.{STARTS}", {})
    await shop.rests(60)
    rows = await shop.asked(DECIDED, [one.member.person for one in wanted])
    trial.expect(f"all are rewarded: {len(rows)}", sum(row["outcome"] == "rewarded" for row in rows) == count)
    trial.faults.append(f"{count} payments before their invitation")
