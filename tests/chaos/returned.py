"""Rows 19 and 32: money that goes back before it was booked, twice, or while its payer buys."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from shared.contracts.message import Refused
from shared.contracts.payments import PaidFromBalance, PayFromBalance
from tests.chaos.load import PaidPurchase, Purchase, by
from tests.chaos.streams import paused
from tests.chaos.trial import Trial, first_few
from tests.kit.acquirers import YookassaAcquirer
from tests.kit.waiting import until

BOOKS_PAYMENTS = "payments_confirms_reported"
PARKED_WITHIN_S = 120.0
REPORTS = 2

WAITING = """
select count(*)
from payments.refunds
where charge = any($1::text[]) and state = 'waiting'
"""

# Of each returned charge: how often each service undid it, and how much.
RETURNED = """
with returned as (
  select c.charge, r.id as receipt, r.payer, b.order_id, b.value_minor as worth_minor
  from unnest($1::text[]) as c (charge)
  left join payments.receipts r using (charge)
  left join payments.bookings b on b.receipt = r.id
)
select charge,
  (select count(*) from payments.refunds f where f.charge = c.charge and f.state = 'booked')
    as refunds,
  (select coalesce(sum(f.value_minor), 0) from payments.refunds f where f.charge = c.charge)
    = worth_minor as whole,
  (
    select count(*)
    from referrals.reversals v
    join payments.refunds f on f.id = v.refund
    where f.charge = c.charge
  ) as reversals,
  (
    select count(*)
    from payments.undone_orders u
    join payments.refunds f on f.id = u.refund
    where f.charge = c.charge and u.order_id = c.order_id
  ) as undone,
  (select o.state from payments.orders o where o.id = order_id) as state,
  (
    select count(*)
    from vpn.shortenings s
    join payments.refunds f on f.id = s.refund
    where f.charge = c.charge and s.order_id = c.order_id
  ) as shortenings,
  (
    select count(*)
    from notifier.deliveries d
    join payments.refunds f on d.cause = f.id::text
    where f.charge = c.charge and d.kind = 'refunded' and d.state <> 'superseded'
  ) as messages
from returned c
"""
ONCE = {"refunds": 1, "whole": True, "reversals": 1, "undone": 1, "state": "refunded"}
BOUGHT = ONCE | {"shortenings": 1, "messages": 1}
TOPPED_UP = ONCE | {"undone": 0, "shortenings": 0, "messages": 1}


async def refunds_first(trial: Trial) -> None:
    """19 (R-63): refunds come before their payments: they wait, then both are booked at once.

    Payments of Stars are held back, and their refunds are not; each of those is reported twice.
    """
    shop = trial.shop
    victims = await _rightly_in_stars(trial, trial.size(60, 12))
    purchases = await trial.load.place_orders(trial.size(600, 120))
    async with paused(shop, BOOKS_PAYMENTS):
        charges = await shop.crowd.pay([one.charge for one in victims])
        await shop.crowd.refund(charges, reports=REPORTS)
        await trial.pay(purchases)

        async def all_wait() -> bool:
            return bool(await shop.fetch_value(WAITING, charges) == len(charges))

        await until(all_wait, within_s=PARKED_WITHIN_S, every_s=0.1)
    trial.faults.append(f"{len(charges)} refunds before their payments, each reported twice")
    await trial.expect_quiescent("the shop after the refunds")
    await _expect_returned(trial, charges, BOUGHT)


async def _rightly_in_stars(trial: Trial, count: int) -> list[Purchase]:
    """Orders of as many people, paid by the row alone: the count of charges expects no refund."""
    buyers = trial.load.next_buyers(count)
    invoices = await asyncio.gather(*(trial.load.place_order(buyer) for buyer in buyers))
    return [
        Purchase(buyer, invoice, "right") for buyer, invoice in zip(buyers, invoices, strict=True)
    ]


async def _expect_returned(trial: Trial, charges: Sequence[str], wanted: dict[str, Any]) -> None:
    """Each was undone by each service once, as a whole."""
    wrong = []
    for row in await trial.shop.fetch(RETURNED, list(charges)):
        seen = {name: row[name] for name in wanted}
        if seen != wanted:
            wrong.append(f"{row['charge']} has {seen}")
    trial.expect(f"each charge is undone once: {first_few(wrong)}", not wrong)


async def refunds_twice(trial: Trial) -> None:
    """32 (R-64, R-65): refunds are reported twice, and race their payers' next purchases.

    Some pay for a renewal in Stars meanwhile, and some buy from the balance that the refund takes.
    Money of YooKassa goes back in its cabinet, and its listing is compared twice.
    """
    shop, count = trial.shop, trial.size(60, 10)
    victims = await _rightly_in_stars(trial, count)
    charges = await shop.crowd.pay([one.charge for one in victims])
    topups = await _top_ups(trial, count)
    topped_up = await shop.crowd.pay([one.charge for one in topups])
    by_sbp = await _paid_by_sbp(trial, trial.size(20, 4))
    await trial.expect_quiescent("the shop before the refunds")
    renewals = [
        Purchase(one.buyer, await trial.load.place_order(one.buyer), "right") for one in victims
    ]
    purchases = await trial.load.place_orders(trial.size(400, 100))
    orders = [(one, await trial.load.place_order(one.buyer)) for one in topups]
    _, _, _, *answers = await asyncio.gather(
        shop.crowd.refund([*charges, *topped_up], reports=REPORTS),
        trial.pay(renewals),
        trial.pay(purchases),
        *(_buy(trial, one, order.order) for one, order in orders),
    )
    bought = sum(isinstance(answer, PaidFromBalance) for answer in answers)
    await _refund_in_the_cabinet(trial, by_sbp)
    trial.faults.append(
        f"{2 * count} refunds of Stars reported twice beside {count} renewals and "
        f"{bought} purchases from the balance, {len(by_sbp)} at YooKassa listed twice"
    )
    await trial.expect_quiescent("the shop after the refunds")
    await _expect_returned(trial, charges, BOUGHT)
    await _expect_returned(trial, topped_up, TOPPED_UP)
    await _expect_returned(trial, [one.charge for one in by_sbp], BOUGHT)


async def _top_ups(trial: Trial, count: int) -> list[Purchase]:
    buyers = trial.load.next_buyers(count)
    invoices = await asyncio.gather(*(trial.load.place_order(buyer, plan=None) for buyer in buyers))
    return [
        Purchase(buyer, invoice, "top-up") for buyer, invoice in zip(buyers, invoices, strict=True)
    ]


async def _paid_by_sbp(trial: Trial, count: int) -> list[PaidPurchase]:
    """Booked, too: a notice brings each."""
    buyers = trial.load.next_buyers(count)
    placed = [
        Purchase(buyer, await trial.load.place_order(buyer, way="sbp"), "right") for buyer in buyers
    ]
    opened = await trial.load.opened(placed)
    await trial.shop.tills.pay(
        [(one.acquirer, one.reference, "once", one.buyer.chat) for one in opened]
    )
    return [PaidPurchase(one.reference, one) for one in opened]


async def _buy(trial: Trial, topup: Purchase, order: object) -> PaidFromBalance | Refused:
    command = PayFromBalance(**by(topup.buyer), id=uuid4(), order=order)
    return await trial.load.answer_to(command)


async def _refund_in_the_cabinet(trial: Trial, paid: Sequence[PaidPurchase]) -> None:
    """Each as a whole; two comparisons of the listing find the same refunds."""
    yookassa = trial.shop.tills.by_name["yookassa"]
    assert isinstance(yookassa, YookassaAcquirer)
    for one in paid:
        await yookassa.control.refund_in_cabinet(one.charge)
    for _ in range(REPORTS):
        await trial.shop.tills.reconcile(trial.since, always=True)
