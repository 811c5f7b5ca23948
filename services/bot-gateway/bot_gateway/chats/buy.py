"""Choosing what to buy: plan, period, and the ways to pay for it.

Each step is in its button, so a restart between two taps changes nothing.
"""

import asyncio
from uuid import uuid4

import structlog
from aiogram import F, Router
from aiogram.types import CallbackQuery

from bot_gateway.chats import buy_screens
from bot_gateway.chats.buttons import Go, PickPeriod, PickPlan
from bot_gateway.chats.buy_screens import Offer
from bot_gateway.chats.visit import Visit
from bot_gateway.domain.ways import offered
from shared.contracts.message import Refused
from shared.contracts.payments import BalanceQuery, Plan, Plans, PlansQuery, Price
from shared.contracts.vpn import Outlook, OutlookQuery
from shared.messaging.rpc import UnansweredError

log = structlog.get_logger()

# A person who wants to pay must not wait for what only completes the screen.
EXTRA_TIMEOUT_S = 1.0


def routes() -> Router:
    router = Router(name="buy")
    router.callback_query.register(show_plans, Go.filter(F.to == "buy"))
    router.callback_query.register(show_periods, PickPlan.filter())
    router.callback_query.register(show_ways, PickPeriod.filter())
    return router


async def show_plans(_: CallbackQuery, visit: Visit) -> None:
    await visit.show(buy_screens.plans(await plans_of(visit), visit.say))


async def plans_of(visit: Visit) -> Plans:
    """The plans on sale that buttons can name, and the ways to pay that this bot has."""
    answer = await visit.query(PlansQuery(person=visit.person.person))
    left = buy_screens.on_buttons(answer)
    if left != answer:
        log.error("a plan or period cannot be offered: its name or months fit no button")
    ways = offered(left.ways, cards=visit.shop.takes_cards)
    return left.model_copy(update={"ways": ways})


async def show_periods(_: CallbackQuery, callback_data: PickPlan, visit: Visit) -> None:
    sold = await plans_of(visit)
    plan = plan_in(sold, callback_data.plan)
    if plan is None:
        return await not_sold(sold, "plan_unknown", visit)
    return await visit.show(buy_screens.periods(plan, sold.ways, visit.say))


async def show_ways(_: CallbackQuery, callback_data: PickPeriod, visit: Visit) -> None:
    await offer(callback_data.plan, callback_data.months, visit)


async def offer(plan_name: str, months: int, visit: Visit, *, toast: str | None = None) -> None:
    """Show the ways to pay. The id that the order's is derived from is drawn here."""
    sold = await plans_of(visit)
    plan = plan_in(sold, plan_name)
    price = price_in(plan, months)
    if plan is None or price is None:
        return await not_sold(sold, "period_unknown" if plan else "plan_unknown", visit)
    outlook, balance_minor = await asyncio.gather(
        outlook_of(plan.plan, months, list_month_of(plan), visit), balance_of(visit)
    )
    wanted = Offer(plan, price, sold.ways, balance_minor, outlook, sold.saved)
    return await visit.show(buy_screens.ways(wanted, uuid4(), visit.say), toast=toast)


async def outlook_of(
    plan: str, months: int, list_month_minor: int | None, visit: Visit
) -> Outlook | None:
    """The effect of the purchase on the present access.

    None where vpn-provisioner does not answer in time.
    """
    if list_month_minor is None:
        return None
    wanted = OutlookQuery(
        person=visit.person.person, plan=plan, months=months, list_month_minor=list_month_minor
    )
    try:
        answer = await visit.shop.bus.query(wanted, timeout_s=EXTRA_TIMEOUT_S)
    except UnansweredError:
        return None
    return None if isinstance(answer, Refused) else answer


async def balance_of(visit: Visit) -> int:
    """Wallet and rewards in kopecks. 0 where payments does not answer in time."""
    wanted = BalanceQuery(person=visit.person.person)
    try:
        held = await visit.shop.bus.query(wanted, timeout_s=EXTRA_TIMEOUT_S)
    except UnansweredError:
        return 0
    return 0 if isinstance(held, Refused) else held.wallet_minor + held.earned_minor


async def not_sold(sold: Plans, reason: str, visit: Visit) -> None:
    await visit.refuse("order", reason)
    await visit.show(buy_screens.plans(sold, visit.say), toast=visit.say("toast-not-sold"))


async def stale(visit: Visit, reason: str) -> None:
    """A forged button, or one of an older form."""
    await visit.refuse("order", reason)
    await visit.show(
        buy_screens.plans(await plans_of(visit), visit.say), toast=visit.say("toast-stale")
    )


def plan_in(sold: Plans, name: str) -> Plan | None:
    return next((plan for plan in sold.plans if plan.plan == name), None)


def price_in(plan: Plan | None, months: int) -> Price | None:
    return next((price for price in plan.prices if price.months == months), None) if plan else None


def list_month_of(plan: Plan) -> int | None:
    """The list price of one month in kopecks. None for a plan without one, which is not sold."""
    price = price_in(plan, 1)
    return price.price_minor if price else None
