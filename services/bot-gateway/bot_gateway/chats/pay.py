"""Paying for an order: from the balance, or by an invoice in one of the ways to pay.

An order is placed by the tap that chooses a way, and what it lacks is asked for in that way. Both
are in the button, so a restart between two taps changes nothing.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import get_args
from uuid import UUID

import structlog
from aiogram import F, Router
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import CallbackQuery, LabeledPrice, Message

from bot_gateway.chats import pay_screens, screens
from bot_gateway.chats.buttons import Pay, PayOrder, PayRest, PayTopUp, Remember, SkipEmail
from bot_gateway.chats.buy import not_sold, offer, outlook_of, plans_of, stale
from bot_gateway.chats.screens import Screen
from bot_gateway.chats.visit import ANYBODY, BEFORE_OFFER, QUERY_TIMEOUT_S, Visit
from bot_gateway.domain.people import Shown
from bot_gateway.domain.updates import order_in
from bot_gateway.domain.ways import offered
from bot_gateway.store import checkout_holds, people
from bot_gateway.telegram import redacted
from shared.contracts.message import Refused, derived_id
from shared.contracts.payload import read_payload
from shared.contracts.payments import (
    MAX_CHECKOUTS,
    InvoiceQuery,
    OpenedInvoice,
    OpenInvoice,
    PayFromBalance,
    PlacedOrder,
    PlaceOrder,
    Rest,
    RestQuery,
    SavedName,
    Way,
)
from shared.messaging.rpc import UnansweredError
from shared.platform import telemetry

log = structlog.get_logger()

# A tap that waited longer orders and asks for nothing: the person may want something else by now.
ACT_WITHIN = timedelta(minutes=5)
# An invoice that expires sooner is replaced by the ways to pay.
SHORTEST_TIME_TO_PAY = timedelta(seconds=60)

# The order has ended, or money for it came.
OVER = frozenset({"order_paid", "order_closed", "order_too_old", "invoice_paid"})
NOT_SOLD = frozenset({"plan_unknown", "period_unknown"})
# The order is there, and can be paid in another way.
OTHER_WAY = {
    "way_closed": "toast-way-closed",
    "too_much": "toast-too-much",
    "balance_short": "toast-balance-short",
    "method_unknown": "toast-method-unknown",
    "being_charged": "toast-being-charged",
    "dearer": "toast-dearer",
    "nothing_missing": "toast-balance-enough",
}
# Money is on its way. A repeated command names fewer charges than now: one came meanwhile.
COMING = frozenset({"being_booked", "id_reused"})


def routes() -> Router:
    router = Router(name="pay")
    router.callback_query.register(pay, Pay.filter())
    router.callback_query.register(pay_topup, PayTopUp.filter())
    router.callback_query.register(pay_order, PayOrder.filter())
    router.callback_query.register(pay_rest, PayRest.filter())
    router.callback_query.register(remember, Remember.filter())
    router.message.register(show_paid, F.successful_payment, flags=ANYBODY | BEFORE_OFFER)
    return router


async def pay(_: CallbackQuery, callback_data: Pay, visit: Visit) -> None:
    """Two taps are one order: its id is derived from the one that came with the screen.

    The trace of the payment begins here, under that id.
    """
    try:
        command = callback_data.command_id(visit.person.person)
    except ValueError:
        return await stale(visit, "malformed")
    way, plan, months = callback_data.way, callback_data.plan, callback_data.months
    with telemetry.order_trace(command, f"buy with {named(way)}", plan=plan, months=months):
        answer = await place(command, visit, plan=plan, months=months)
        if isinstance(answer, Refused):
            return await not_placed(answer, visit)
        if callback_data.pays_at_once and answer.price_minor > callback_data.price_minor:
            return await not_paid("dearer", answer.order, visit, from_balance=way == "balance")
        if way == "balance":
            return await pay_from_balance(answer.order, visit)
        if way == "missing":
            return await ask_for_rest(answer.order, visit, from_balance=True)
        return await open_invoice(answer.order, way, visit)


async def pay_topup(_: CallbackQuery, callback_data: PayTopUp, visit: Visit) -> None:
    try:
        command = callback_data.command_id(visit.person.person)
    except ValueError:
        return await stale(visit, "malformed")
    with telemetry.order_trace(command, f"top up with {named(callback_data.way)}"):
        answer = await place(command, visit, topup_minor=100 * callback_data.rubles)
        if isinstance(answer, Refused):
            return await not_placed(answer, visit)
        return await open_invoice(answer.order, callback_data.way, visit)


def named(way: str) -> str:
    """For a trace: the name of a saved method says nothing there."""
    return way if way in (*get_args(Way), "balance", "missing") else "saved"


async def place(command: UUID, visit: Visit, **wanted: str | int) -> PlacedOrder | Refused:
    order = PlaceOrder.model_validate(
        {
            "id": command,
            "actor": f"person:{visit.person.person}",
            "deadline_at": visit.received_at + ACT_WITHIN,
            "person": visit.person.person,
            **wanted,
        }
    )
    return await visit.shop.bus.execute(order)


async def not_placed(refused: Refused, visit: Visit) -> None:
    if refused.reason == "too_late":
        raise UnansweredError("an order that came too late")
    if refused.reason in NOT_SOLD:
        return await not_sold(await plans_of(visit), refused.reason, visit)
    return await stale(visit, refused.reason)


async def pay_order(_: CallbackQuery, callback_data: PayOrder, visit: Visit) -> None:
    if callback_data.way == "balance":
        return await pay_from_balance(callback_data.order, visit)
    return await open_invoice(
        callback_data.order,
        callback_data.way,
        visit,
        from_balance=callback_data.from_balance,
        most_minor=callback_data.most_minor,
    )


async def remember(_: CallbackQuery, callback_data: Remember, visit: Visit) -> None:
    """Consent is a part of what is asked, so it is another invoice of the same order."""
    await open_invoice(
        callback_data.order,
        callback_data.way,
        visit,
        from_balance=callback_data.from_balance,
        remember=callback_data.on,
    )


async def pay_rest(_: CallbackQuery, callback_data: PayRest, visit: Visit) -> None:
    await ask_for_rest(callback_data.order, visit, from_balance=False)


async def pay_from_balance(order: UUID, visit: Visit) -> None:
    """Two taps are one purchase: the id is derived from the order.

    The one message about it is notifier's, as about any payment.
    """
    wanted = PayFromBalance(
        id=derived_id("from balance", order),
        actor=f"person:{visit.person.person}",
        deadline_at=visit.received_at + ACT_WITHIN,
        person=visit.person.person,
        order=order,
    )
    answer = await visit.shop.bus.execute(wanted)
    if isinstance(answer, Refused):
        return await not_paid(answer.reason, order, visit, from_balance=True)
    return await visit.show(screens.menu(visit.say), toast=visit.say("toast-paid-from-balance"))


async def open_invoice(
    order: UUID,
    way: Way | SavedName,
    visit: Visit,
    *,
    from_balance: bool = False,
    remember: bool = False,
    most_minor: int | None = None,
) -> None:
    """Two taps get the same invoice: payments answers the open one again.

    A saved method is charged without another screen, at most `most_minor`. payments knows what was
    booked, and we know what was charged: nothing is asked for in between.
    """
    if way == "telegram" and not visit.shop.takes_cards:
        return await not_paid("way_closed", order, visit, from_balance=from_balance)
    database = visit.shop.database
    charged = await checkout_holds.charged_of_order(order, MAX_CHECKOUTS, database)
    wanted = OpenInvoice(
        id=derived_id("invoice", order, way, visit.cause),
        actor=f"person:{visit.person.person}",
        deadline_at=visit.received_at + ACT_WITHIN,
        person=visit.person.person,
        order=order,
        way=way,
        remember=remember,
        from_balance=from_balance,
        most_minor=most_minor,
        charged=tuple(named.invoice for one in charged if (named := read_payload(one))),
    )
    opened = await visit.shop.bus.execute(wanted)
    if isinstance(opened, Refused):
        if opened.reason == "email_wanted":
            return await ask_email(order, way, visit, from_balance=from_balance)
        return await not_paid(opened.reason, order, visit, from_balance=from_balance)
    was_charged, now = await checkout_holds.was_charged(opened.payload, database)
    if was_charged:  # payments may not have booked it yet, and it may be too little.
        return await visit.show(pay_screens.order_over("invoice_paid", visit.say))
    to_pay = time_to_pay(opened, now)
    if to_pay < SHORTEST_TIME_TO_PAY and not opened.charges:
        return await ran_out(opened, visit, from_balance=from_balance)
    try:
        shown = await invoice_screen(opened, to_pay, visit, from_balance=from_balance)
    except TelegramBadRequest as error:
        if way != "telegram":
            raise
        log.error("Telegram refuses an invoice for a card", error=redacted(error))
        return await not_paid("way_closed", order, visit, from_balance=from_balance)
    await visit.show(shown, order=order)
    if opened.state == "asking":  # It may have ended before the screen could be found by its event.
        with suppress(UnansweredError):
            await edit_screen(opened.invoice, order, visit)
    return None


async def ask_email(
    order: UUID, way: Way | SavedName, visit: Visit, *, from_balance: bool, again: bool = False
) -> None:
    """Once, before the first invoice with a receipt: the answer opens it."""
    skip = SkipEmail(order=order, way=way, from_balance=from_balance)
    awaits = f"email:{way}:rest" if from_balance else f"email:{way}"
    await visit.show(pay_screens.email(skip, visit.say, again=again), order=order, awaits=awaits)


async def invoice_screen(
    opened: OpenedInvoice, to_pay: timedelta, visit: Visit, *, from_balance: bool
) -> Screen:
    """For the whole price, with the effect on the access; for a part of it, or for a top-up."""
    if opened.charges:
        return pay_screens.charging(opened, visit.say)
    whole = opened.list_month_minor if pay_screens.is_whole(opened) else None
    outlook, link = await asyncio.gather(
        outlook_of(opened.plan or "", opened.months or 0, whole, visit),
        pay_link(opened, visit),
    )
    if link is None:
        return pay_screens.asking(opened, visit.say, from_balance=from_balance)
    return pay_screens.invoice(opened, outlook, link, to_pay, visit.say, from_balance=from_balance)


async def edit_screen(
    invoice: UUID, order: UUID, visit: Visit, *, was_canceled: bool = False
) -> None:
    """The screen of this invoice gets its page to pay on, or the other ways.

    An invoice that another one replaced meanwhile is not shown. One that charges a saved method has
    no page: the message about the payment follows.
    """
    query = InvoiceQuery(person=visit.person.person, invoice=invoice)
    opened = await visit.query(query)
    if opened.state == "open" and not opened.charges:
        to_pay = timedelta(seconds=opened.expires_in_s)
        shown = await invoice_screen(opened, to_pay, visit, from_balance=False)
    elif opened.state == "expired":
        rest = await rest_of(order, visit, from_balance=opened.worth_minor < opened.price_minor)
        if isinstance(rest, Refused):
            return
        shown = pay_screens.other_ways(
            rest, visit.say, was_canceled=was_canceled, refused=opened.refused
        )
    else:
        return
    known = await people.person_of_screen(visit.person.person, order, visit.shop.database)
    if known is not None and known.screen_id is not None:
        await visit.edit(known.screen_id, shown)


def time_to_pay(opened: OpenedInvoice, now: datetime) -> timedelta:
    """The time that is left to pay, by the clocks of the databases.

    A repeated command gets the stored answer. Its seconds are those of the first time, so the end
    of the invoice counts too.
    """
    return min(timedelta(seconds=opened.expires_in_s), opened.expires_at - now)


async def ran_out(opened: OpenedInvoice, visit: Visit, *, from_balance: bool) -> None:
    """Only the stored answer of an update that is run again, much later, has so little time."""
    toast = visit.say("toast-ran-out")
    if opened.plan is None or opened.months is None or from_balance:
        return await show_rest(opened.order, visit, from_balance=from_balance, toast=toast)
    return await offer(opened.plan, opened.months, visit, toast=toast)


async def not_paid(reason: str, order: UUID, visit: Visit, *, from_balance: bool) -> None:
    """Each refusal leads to a screen with a way on."""
    if reason == "too_late":
        raise UnansweredError("a wish to pay that came too late")
    if reason in COMING:
        reason = "invoice_paid"
    if reason in OVER:
        return await visit.show(pay_screens.order_over(reason, visit.say))
    if reason in OTHER_WAY:
        await visit.refuse("order", reason)
        toast = visit.say(OTHER_WAY[reason])
        return await show_rest(order, visit, from_balance=from_balance, toast=toast)
    return await stale(visit, reason)


async def ask_for_rest(order: UUID, visit: Visit, *, from_balance: bool) -> None:
    """The invoice at once where there is nothing to choose, else the ways to pay."""
    rest = await rest_of(order, visit, from_balance=from_balance)
    if isinstance(rest, Refused):
        return await not_paid(rest.reason, order, visit, from_balance=from_balance)
    if len(rest.ways) == 1 and not rest.saved and rest.balance_minor < rest.price_minor:
        return await open_invoice(order, rest.ways[0].way, visit, from_balance=from_balance)
    return await visit.show(pay_screens.rest(rest, visit.say, from_balance=from_balance))


async def show_rest(
    order: UUID, visit: Visit, *, from_balance: bool, toast: str | None = None
) -> None:
    """The ways to pay for an order, anew."""
    rest = await rest_of(order, visit, from_balance=from_balance)
    if isinstance(rest, Refused):
        return await not_paid(rest.reason, order, visit, from_balance=from_balance)
    shown = pay_screens.rest(rest, visit.say, from_balance=from_balance)
    return await visit.show(shown, toast=toast)


async def rest_of(order: UUID, visit: Visit, *, from_balance: bool) -> Rest | Refused:
    """What the order lacks, and the ways to pay it that this bot has."""
    query = RestQuery(person=visit.person.person, order=order, from_balance=from_balance)
    rest = await visit.shop.bus.query(query, timeout_s=QUERY_TIMEOUT_S)
    if isinstance(rest, Refused):
        return rest
    ways = offered(rest.ways, cards=visit.shop.takes_cards)
    return rest.model_copy(update={"ways": ways})


async def pay_link(opened: OpenedInvoice, visit: Visit) -> str | None:
    """A link to pay by. Of Telegram's own ways it opens the pay sheet. None: it is not ready yet.

    All links of one invoice have the same payload.
    """
    if opened.way not in ("stars", "telegram"):
        return opened.pay_url if opened.state == "open" else None
    texts, token = pay_screens.invoice_texts(opened, visit.say), visit.shop.provider_token
    return await visit.shop.bot.create_invoice_link(
        title=texts.title,
        description=texts.description,
        payload=opened.payload,
        currency=opened.currency,
        prices=[LabeledPrice(label=texts.label, amount=opened.asked_minor)],
        provider_token=token.get_secret_value() if token and opened.way == "telegram" else None,
    )


async def show_paid(message: Message, visit: Visit) -> None:
    """Replace the pay button by the menu, unless the person left the screen.

    The one message about the payment is notifier's: only payments knows what it became.
    """
    paid, known = message.successful_payment, visit.known
    order = order_in(paid.invoice_payload) if paid else None
    if (
        paid is None
        or known is None
        or known.screen_id is None
        or order is None
        or known.screen_order != order
    ):
        return
    await visit.edit(known.screen_id, screens.menu(visit.say))
    async with visit.shop.database.transaction() as tx:
        await people.set_screen(visit.user.id, Shown(known.screen_id), tx)
