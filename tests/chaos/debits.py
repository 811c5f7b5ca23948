"""Row 36: fifty debits of 80 % of a balance at once, with double taps: one passes."""

import asyncio
from uuid import UUID, uuid4

from shared.contracts.message import Refused, derived_id
from shared.contracts.payments import (
    OpenedInvoice,
    OpenInvoice,
    PaidFromBalance,
    PayFromBalance,
    PlaceOrder,
)
from tests.chaos.load import Buyer, Purchase, by
from tests.chaos.trial import Trial, first_few
from tests.kit.acquirers import Way

DEBITS = 50
PRICE_MINOR = 149_00
REWARD_MINOR = 14_90
TOPUP_MINOR = PRICE_MINOR * 5 // 4 - REWARD_MINOR
"""With the reward, the price is 80 % of the balance."""

HELD = """
select coalesce(sum(balance_minor), 0)::bigint from payments.accounts where owner = $1
"""
BOUGHT = """
select
  (
    select count(*) from payments.orders
    where person = $1 and what = 'subscription' and state = 'paid'
  ) as paid,
  (
    select count(*)
    from payments.transfers t
    join payments.orders o on t.cause = 'order:' || o.id
    where o.person = $1 and t.reason = 'purchase'
  ) as debits,
  (select count(*) from vpn.periods where person = $1) as periods,
  (
    select count(*) from notifier.deliveries
    where person = $1 and kind = 'access_ready' and state = 'sent'
  ) as keys,
  (select coalesce(sum(balance_minor), 0)::bigint from payments.accounts where owner = $1) as held
"""


async def debits_at_once(trial: Trial) -> None:
    """36 (M-03, M-04): fifty debits of 80 % of wallet and rewards at once: one passes.

    Half of them are another tap on the order of the other half, and each command is sent twice. Two
    processes execute them.
    """
    shop, count = trial.shop, trial.size(10, 2)
    rich = await _rich(trial, count)
    orders = [await _orders(trial, one) for one in rich]
    await shop.start("payments+1")
    purchases = await trial.load.place_orders(trial.size(400, 80))
    paying = asyncio.create_task(trial.pay(purchases))
    passed = [await _taps(trial, one, some) for one, some in zip(rich, orders, strict=True)]
    await paying
    trial.faults.append(f"{DEBITS} debits of 80 % at once, each sent twice, for {count} people")
    trial.expect(f"one debit passes for each: {passed}", set(passed) == {1})
    await trial.expect_quiescent("the shop after the debits")
    await shop.stop("payments+1")
    del shop.services["payments+1"]
    wanted = {"paid": 1, "debits": 1, "periods": 1, "keys": 1, "held": PRICE_MINOR // 4}
    wrong = []
    for one in rich:
        (row,) = await shop.fetch(BOUGHT, one.person)
        if dict(row) != wanted:
            wrong.append(f"{one.chat} has {dict(row)}")
    trial.expect(f"each bought once and kept the rest: {first_few(wrong)}", not wrong)


async def _rich(trial: Trial, count: int) -> list[Buyer]:
    """People with a reward and a top-up: 186.25 rubles, of two accounts."""
    load = trial.load
    partners = await load.register(["/start"] * count)
    friends = await load.register([f"/start r_{one.code}" for one in partners])
    bought = [Purchase(one, await load.place_order(one), "right") for one in friends]
    ways: tuple[Way, ...] = ("sbp", "crypto")
    topups = [
        Purchase(one, await _topped_up(trial, one, ways[place % 2]), "top-up")
        for place, one in enumerate(partners)
    ]
    await trial.pay([*bought, *await load.opened(topups)])
    await trial.expect_quiescent("the shop before the debits")
    await trial.expect_all_money("watcher")
    await trial.expect_quiescent("the shop with all balances")
    held = [await trial.shop.fetch_value(HELD, one.person) for one in partners]
    trial.expect(f"each holds 186.25 rubles: {held}", set(held) == {PRICE_MINOR * 5 // 4})
    return partners


async def _topped_up(trial: Trial, buyer: Buyer, way: Way) -> OpenedInvoice:
    order = PlaceOrder(**by(buyer), id=uuid4(), topup_minor=TOPUP_MINOR)
    await trial.load.executed(order)
    invoice = derived_id("invoice of", order.id)
    return await trial.load.executed(OpenInvoice(**by(buyer), id=invoice, order=order.id, way=way))


async def _orders(trial: Trial, buyer: Buyer) -> list[UUID]:
    """Of a month of Basic each; a newer one supersedes the older ones, which can still be paid."""
    orders = []
    for _ in range(DEBITS // 2):
        placed = await trial.load.executed(
            PlaceOrder(**by(buyer), id=uuid4(), plan="basic", months=1)
        )
        orders.append(placed.order)
    return orders


async def _taps(trial: Trial, buyer: Buyer, orders: list[UUID]) -> int:
    """How many of the commands passed."""
    taps = [
        PayFromBalance(**by(buyer), id=uuid4(), order=order) for order in orders for _ in range(2)
    ]

    async def answered(tap: PayFromBalance) -> PaidFromBalance | Refused:
        return await trial.load.answer_to(tap)

    answers = await asyncio.gather(*(answered(tap) for tap in taps for _ in range(2)))
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        trial.expect(f"the same command has one answer: {first}, {second}", first == second)
    reasons = {answer.reason for answer in answers if isinstance(answer, Refused)}
    known = {"balance_short", "order_paid", "order_closed"}
    trial.expect(f"refused only as short, paid or closed: {reasons}", reasons <= known)
    return sum(isinstance(answer, PaidFromBalance) for answer in answers) // 2
