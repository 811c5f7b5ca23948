"""Buying: plan, period, way, invoice. Every step is in its button, so a restart between two taps changes nothing."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from aiogram import F, Router
from aiogram.types import CallbackQuery, LabeledPrice, Message

from bot_gateway import screens
from bot_gateway.buttons import Go, Pay, PickPeriod, PickPlan
from bot_gateway.chats.visit import ANYBODY, BEFORE_OFFER, Visit
from bot_gateway.store import people
from bot_gateway.updates import order_of
from shared import telemetry
from shared.bus import UnansweredError
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused
from shared.questions import AskOutlook, AskPlans, Outlook, Plan, Plans, Price

WANTED_FOR = timedelta(minutes=5)  # A tap that waited longer is not obeyed: its person may want something else now.
STILL_WORTH_SHOWING = timedelta(seconds=60)  # An invoice that runs out sooner is replaced by a new offer.
OUTLOOK_TIMEOUT_S = 1.0

NOT_SOLD = frozenset({"plan_unknown", "period_unknown", "way_closed"})


def routes() -> Router:
    router = Router(name="buy")
    router.callback_query.register(show_plans, Go.filter(F.to == "buy"))
    router.callback_query.register(show_periods, PickPlan.filter())
    router.callback_query.register(show_ways, PickPeriod.filter())
    router.callback_query.register(pay, Pay.filter())
    router.message.register(show_paid, F.successful_payment, flags=ANYBODY | BEFORE_OFFER)
    return router


async def show_plans(_: CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.plans(await visit.ask(AskPlans()), visit.say))


async def show_periods(_: CallbackQuery, callback_data: PickPlan, visit: Visit) -> None:
    offered = await visit.ask(AskPlans())
    plan = plan_in(offered, callback_data.plan)
    if plan is None:
        return await not_sold(offered, "plan_unknown", visit)
    return await visit.show(screens.periods(plan, visit.say))


async def show_ways(_: CallbackQuery, callback_data: PickPeriod, visit: Visit) -> None:
    await offer(callback_data.plan, callback_data.months, visit)


async def offer(plan_name: str, months: int, visit: Visit, *, toast: str | None = None) -> None:
    """Draws the id of the order that its screen offers."""
    offered = await visit.ask(AskPlans())
    plan = plan_in(offered, plan_name)
    price = price_in(plan, months)
    if plan is None or price is None:
        return await not_sold(offered, "period_unknown" if plan else "plan_unknown", visit)
    outlook = await outlook_of(plan.plan, months, list_month_of(plan), visit)
    return await visit.show(screens.ways(plan, price, outlook, uuid4(), visit.say), toast=toast)


async def outlook_of(plan: str, months: int, list_month_minor: int | None, visit: Visit) -> Outlook | None:
    """What the purchase makes of the present access. Nobody who wants to pay waits long for it: then it is None."""
    if list_month_minor is None:
        return None
    wanted = AskOutlook(person=visit.person.person, plan=plan, months=months, list_month_minor=list_month_minor)
    try:
        answer = await visit.shop.bus.ask(wanted, timeout_s=OUTLOOK_TIMEOUT_S)
    except UnansweredError:
        return None
    return None if isinstance(answer, Refused) else answer


async def pay(_: CallbackQuery, callback_data: Pay, visit: Visit) -> None:
    """Two taps are one order: its id came with the screen. The story of the payment begins here, under that id."""
    try:
        command = callback_data.command_id
    except ValueError:
        return await stale(visit, "malformed")
    with telemetry.story(command, "buy with stars", plan=callback_data.plan, months=callback_data.months):
        return await place(command, callback_data, visit)


async def place(command: UUID, wanted: Pay, visit: Visit) -> None:
    order = PlaceOrder(
        id=command,
        actor=f"person:{visit.person.person}",
        deadline_at=visit.received_at + WANTED_FOR,
        person=visit.person.person,
        plan=wanted.plan,
        months=wanted.months,
        way=wanted.way,
    )
    answer = await visit.shop.bus.do(order)
    if isinstance(answer, Refused):
        return await not_placed(answer, visit)
    if left_of(answer, visit.received_at) < STILL_WORTH_SHOWING:
        return await offer(wanted.plan, wanted.months, visit, toast=visit.say("toast-ran-out"))
    outlook, link = await asyncio.gather(
        outlook_of(answer.plan, answer.months, answer.list_month_minor, visit), invoice_link(answer, visit)
    )
    return await visit.show(screens.invoice(answer, outlook, link, visit.say), order=answer.order)


async def show_paid(message: Message, visit: Visit) -> None:
    """In place of the pay button, unless the person went elsewhere; what the money became is for notifier to say."""
    paid, known = message.successful_payment, visit.known
    order = order_of(paid.invoice_payload) if paid else None
    if paid is None or known is None or known.screen_id is None or order is None or known.screen_order != order:
        return
    await visit.edit(known.screen_id, screens.paid(paid.total_amount, paid.currency, visit.say))
    async with visit.shop.database.transaction() as tx:
        await people.keep_screen(visit.user.id, known.screen_id, None, tx)


def left_of(placed: Invoice, asked_at: datetime) -> timedelta:
    """How long it can still be paid. A repeat gets the first answer, whose seconds have run since: the end counts too.

    Both by databases' clocks.
    """
    return min(timedelta(seconds=placed.expires_in_s), placed.expires_at - asked_at)


async def not_placed(refused: Refused, visit: Visit) -> None:
    if refused.reason == "too_late":
        raise UnansweredError(PlaceOrder.topic)
    if refused.reason in NOT_SOLD:
        return await not_sold(await visit.ask(AskPlans()), refused.reason, visit)
    return await stale(visit, refused.reason)


async def not_sold(offered: Plans, reason: str, visit: Visit) -> None:
    await visit.refuse("order", reason)
    await visit.show(screens.plans(offered, visit.say), toast=visit.say("toast-not-sold"))


async def stale(visit: Visit, reason: str) -> None:
    """A button that was forged, or belongs to somebody else's order."""
    await visit.refuse("order", reason)
    await visit.show(screens.plans(await visit.ask(AskPlans()), visit.say), toast=visit.say("toast-stale"))


async def invoice_link(placed: Invoice, visit: Visit) -> str:
    """A link that opens Telegram's pay sheet. Several links of one invoice are one invoice: its payload is the same."""
    texts = screens.invoice_texts(placed, visit.say)
    return await visit.shop.bot.create_invoice_link(
        title=texts.title,
        description=texts.description,
        payload=placed.payload,
        currency=placed.currency,
        prices=[LabeledPrice(label=texts.label, amount=placed.asked_minor)],
    )


def plan_in(offered: Plans, name: str) -> Plan | None:
    return next((plan for plan in offered.plans if plan.plan == name), None)


def price_in(plan: Plan | None, months: int) -> Price | None:
    return next((price for price in plan.prices if price.months == months), None) if plan else None


def list_month_of(plan: Plan) -> int | None:
    """The one-month list price in kopecks; a plan without one is not sold."""
    price = price_in(plan, 1)
    return price.price_minor if price else None
