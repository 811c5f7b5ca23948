"""Buying in the chat, from the plans to the reported payment; stale and forged buttons."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from bot_gateway.chats.buttons import Pay, packed
from bot_gateway.receiving import take_in
from bot_gateway.workers.bells import Bells
from shared.contracts.payments import CheckoutQuery, OpenedInvoice, OpenInvoice, PlaceOrder
from shared.contracts.vpn import Outlook, OutlookQuery
from tests.kit.bot import BOT, open_sheet, running, user
from tests.kit.bot_shop import Shop, buy, choose, opened_shop
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox.client import Button, PersonClient

LONG = timedelta(hours=1)
RUN_AGAIN = """
update updates
set state = 'waiting', ended_at = null
where seq = (select max(seq) from updates where lane = 'chat')
"""


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop, running(shop.settings):
        yield shop


async def to_payment_methods(person: PersonClient) -> Button:
    """From the menu to the payment methods; returns the button that places the order."""
    await person.press("Buy")
    await person.press("Basic")
    await person.press("1 month")
    return await person.button("Stars")


async def test_a_purchase_edits_one_message_and_is_reported(shop: Shop) -> None:
    """R-05: plan, period, method and invoice in one message.

    payments is queried before the charge.
    """
    ann = await shop.newcomer()
    await buy(ann)
    paid = await ann.pay()
    assert paid.charge is not None
    await until(lambda: shop.has_events("bot.payment.reported", 1))
    [reported] = await shop.events("bot.payment.reported")
    [order] = shop.owners.orders.values()
    assert (reported["charge"], reported["acquirer"], reported["amount_minor"]) == (
        paid.charge,
        "telegram_stars",
        99,
    )
    assert reported["payer"] == str(order.person)
    assert reported["payload"].startswith(order.id.hex)
    query, *_ = shop.owners.received_of(CheckoutQuery)
    [asked] = query.charges
    assert (asked.payer, asked.payload, asked.currency, asked.amount_minor) == (
        order.person,
        reported["payload"],
        "XTR",
        99,
    )
    chat = await ann.chat()
    assert len(chat.from_bot) == 1, "the chat fills up"


async def test_the_offer_shows_the_effect_on_access(shop: Shop) -> None:
    """N-18: the offer and the order screen both show it.

    Both query vpn-provisioner with the plan's one-month list price.
    """
    ann = await shop.newcomer()
    ends_at = datetime(2027, 3, 1, 12, tzinfo=UTC)
    shop.owners.outlook = Outlook(
        effect="converts", plan="plus", converted_hours=30, ends_at=ends_at
    )
    await buy(ann)
    order = await ann.receives("Your invoice is ready")
    assert "You have Plus now" in order.text
    assert "becomes 1 day 6 hours of Basic" in order.text
    assert "until 1 March 2027, 12:00 UTC" in order.text
    before, *others, after = shop.owners.received_of(OutlookQuery)
    assert all(one == before for one in (*others, after))
    assert (before.plan, before.months, before.list_month_minor) == ("basic", 1, 14900)


async def test_paying_needs_no_answer_of_vpn_provisioner(shop: Shop) -> None:
    """N-18, P-01: without an answer the offer shows the rule in words."""
    ann = await shop.newcomer()
    shop.owners.silent.add(OutlookQuery.topic)
    await buy(ann)
    assert "Another plan replaces it" in (await ann.receives("Your invoice is ready")).text
    assert (await ann.pay()).paid


async def test_ten_taps_on_stars_place_one_order(shop: Shop) -> None:
    """M-04: the order's id was drawn with the screen, so all taps have one id and one payload."""
    ann = await shop.newcomer()
    await to_payment_methods(ann)
    await ann.press("Stars", times=10)
    await until(shop.is_quiescent)
    assert shop.owners.arrivals_of(PlaceOrder) >= 10
    assert len(shop.owners.orders) == 1
    assert {order.actor for order in shop.owners.orders.values()} == {
        f"person:{order.person}" for order in shop.owners.orders.values()
    }


async def test_two_deliberate_purchases_are_two_orders(shop: Shop) -> None:
    """M-05: a screen that is drawn again offers another order."""
    ann = await shop.newcomer()
    await buy(ann)
    await ann.press("Back")
    await choose(ann)
    await until(lambda: len(shop.owners.received_of(PlaceOrder)) == 2)
    assert len(shop.owners.orders) == 2


async def test_the_button_try_again_repeats_the_same_order(shop: Shop) -> None:
    """P-01: an unanswered command loses nothing; the button holds the same command id."""
    ann = await shop.newcomer()
    offered = (await to_payment_methods(ann)).data
    shop.owners.silent.add(PlaceOrder.topic)
    await ann.press("Stars")
    again = await ann.button("Try again")
    assert again.data == offered
    shop.owners.silent.clear()
    await ann.press("Try again")
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    assert len(shop.owners.orders) == 1


@pytest.mark.parametrize(
    "data",
    [
        "plan",
        "go:nowhere",
        "pay:basic:1:stars:x",
        "pay:basic:99999:stars:x",
        "pay:xxxxxxxxxxxxxxxxxxxxxxxxx:1:stars:AAAAAAAAAAAAAAAAAAAAAA",
        "plan:'; drop",
        "x" * 64,
    ],
)
async def test_a_forged_button_only_refreshes_the_screen(shop: Shop, data: str) -> None:
    """S-08: one sentence over the chat, no order, and a row with the refusal."""
    ann = await shop.newcomer()
    menu = await ann.receives("What would you like to do?")
    await ann.press_data(menu.id, data)
    await ann.wait_for(
        lambda chat: any(
            "out of date" in toast["text"] or "no longer sold" in toast["text"]
            for toast in chat.toasts
        )
    )
    await until(lambda: _one_is_refused(shop))
    assert shop.owners.orders == {}
    assert len((await ann.chat()).from_bot) == 1


async def _one_is_refused(shop: Shop) -> bool:
    return len(await shop.refusals()) == 1


async def test_a_foreign_id_orders_for_oneself(shop: Shop) -> None:
    """S-08: an order's id is derived from the person, so nobody can choose or use up another's."""
    ann, eve = await shop.newcomer("Ann"), await shop.newcomer("Eve")
    await buy(ann)
    [placed] = shop.owners.orders.values()
    menu = await eve.receives("What would you like to do?")
    for chosen in (placed.id, UUID(int=7)):
        forged = Pay(plan="basic", months=1, way="stars", command=packed(chosen)).pack()
        await eve.press_data(menu.id, forged)
    orders = shop.owners.orders
    await until(lambda: len(orders) == 3)
    assert orders[placed.id] == placed
    assert UUID(int=7) not in orders
    assert len({order.person for order in orders.values()}) == 2


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("order_paid", "This order is already paid."),
        ("order_closed", "You paid a newer order, so this one is closed."),
        ("order_too_old", "You placed this order more than 30 days ago"),
        ("being_booked", "Your payment for this order has arrived."),
    ],
)
async def test_old_pay_button_names_the_orders_end(shop: Shop, reason: str, sentence: str) -> None:
    """N-19: the stored answer would show an order that is ready, and a button to pay it."""
    ann = await shop.newcomer()
    old = await to_payment_methods(ann)
    await ann.press_at(old)
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    [order] = shop.owners.orders
    shop.owners.payments.ended[order] = reason
    await ann.press_at(old)
    await ann.receives(sentence)
    await ann.button("Support")
    assert not (await ann.chat()).invoice_buttons()
    assert len(shop.owners.orders) == 1


async def test_a_pruned_orders_button_shows_the_plans(shop: Shop) -> None:
    """N-19: payments does not know the order any more, and says that it is not theirs."""
    ann = await shop.newcomer()
    old = await to_payment_methods(ann)
    await ann.press_at(old)
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    [order] = shop.owners.orders
    shop.owners.payments.ended[order] = "not_yours"
    await ann.press_at(old)
    await ann.receives("Choose a plan")
    await ann.wait_for(lambda chat: any("out of date" in toast["text"] for toast in chat.toasts))


async def test_a_button_from_before_the_upgrade_is_answered(shop: Shop) -> None:
    """R-80: its order was placed by another form of the command, whose id is used up."""
    ann = await shop.newcomer()
    old = await to_payment_methods(ann)
    await ann.press_at(old)
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    executed = shop.owners.payments.executed
    [placed] = [key for key in executed if key[0] == PlaceOrder.topic]
    executed[placed] = 0, executed[placed][1]
    await ann.press_at(old)
    await ann.receives("Choose a plan")
    await ann.wait_for(lambda chat: any("out of date" in toast["text"] for toast in chat.toasts))


async def test_an_expired_invoice_is_replaced(shop: Shop) -> None:
    """R-21: the button of its order opens another one for the same order."""
    ann = await shop.newcomer()
    old = await to_payment_methods(ann)
    await ann.press_at(old)
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    payments = shop.owners.payments
    [first] = payments.invoices.values()
    payments.invoices[first.invoice] = first.model_copy(
        update={"expires_at": first.expires_at - LONG}
    )
    await ann.press_at(old)
    await until(lambda: len(payments.invoices) == 2)
    await ann.receives("within 29 minutes")
    assert len(shop.owners.orders) == 1


async def test_an_invoice_about_to_expire_is_replaced(shop: Shop) -> None:
    """R-21: no invoice is shown with less than a minute left to pay. A new offer replaces it."""
    ann = await shop.newcomer()
    shop.owners.payments.invoice_lives = timedelta(seconds=5)
    old = await to_payment_methods(ann)
    await ann.press_at(old)
    await ann.wait_for(lambda chat: any("expired" in toast["text"] for toast in chat.toasts))
    shop.owners.payments.invoice_lives = timedelta(minutes=30)
    await ann.wait_for(
        lambda chat: (fresh := chat.button("Stars")) is not None and fresh.data != old.data
    )
    await ann.press("Stars")
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def test_a_repeated_tap_counts_the_time_since(shop: Shop) -> None:
    """R-21, R-12: the stored answer says how many seconds were left at the first time.

    A tap is run again when Telegram did not answer, up to an hour later.
    """
    ann = await shop.newcomer()
    old = await to_payment_methods(ann)
    await ann.press_at(old)
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    await until(shop.is_quiescent)
    executed = shop.owners.payments.executed
    [opened] = [key for key in executed if key[0] == OpenInvoice.topic]
    digest, answer = executed[opened]
    assert isinstance(answer, OpenedInvoice)
    # An hour later, the answer is the same and its end has passed.
    passed = {"expires_at": answer.expires_at - LONG}
    executed[opened] = digest, answer.model_copy(update=passed)
    await shop.database.execute(RUN_AGAIN)
    await ann.wait_for(
        lambda chat: (fresh := chat.button("Stars")) is not None and fresh.data != old.data
    )
    assert len(shop.owners.received_of(OpenInvoice)) == 1
    assert shop.owners.arrivals_of(OpenInvoice) >= 2
    assert len(shop.owners.payments.invoices) == 1


async def test_a_tap_that_waited_too_long_orders_nothing(shop: Shop) -> None:
    """R-21: a wish of ten minutes ago is confirmed again, with the same order id."""
    ann = await shop.newcomer()
    offered = await to_payment_methods(ann)
    callback = {"id": "1", "from": user(ann.id), "chat_instance": "1", "data": offered.data}
    async with shop.database.transaction() as tx:
        await take_in(BOT, [{"update_id": 1, "callback_query": callback}], Bells(), tx)
        await tx.execute(
            "update updates set received_at = now() - interval '10 minutes' where update_id = 1"
        )
    again = await ann.button("Try again")
    assert (again.data, shop.owners.orders) == (offered.data, {})
    await ann.press("Try again")
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def test_the_payment_replaces_the_pay_button(shop: Shop) -> None:
    """N-19, R-47: the menu takes its place. Notifier alone says what the payment became."""
    ann = await shop.newcomer()
    await buy(ann)
    assert (await ann.pay()).paid
    await ann.receives("What would you like to do?")
    chat = await ann.chat()
    assert (len(chat.from_bot), chat.invoice_buttons()) == (1, [])


async def test_an_old_button_after_paying_promises_nothing(shop: Shop) -> None:
    """R-47: the money may be too little: payments says whether the order is paid."""
    ann = await shop.newcomer()
    old = await to_payment_methods(ann)
    await ann.press_at(old)
    assert (await ann.pay()).paid
    await ann.receives("What would you like to do?")
    await ann.press_at(old)
    await ann.receives("Your payment for this order has arrived")


async def test_a_payment_leaves_any_other_screen_alone(shop: Shop) -> None:
    """The payer went back to the plans before paying on the open pay sheet."""
    ann = await shop.newcomer()
    await buy(ann)
    sheet = await open_sheet(ann)
    await ann.press("Back")
    await ann.receives("Choose a plan")
    assert (await ann.pay_invoice(sheet)).paid
    await until(lambda: shop.has_events("bot.payment.reported", 1))
    await until(shop.is_quiescent)
    await ann.receives("Choose a plan")
    assert len((await ann.chat()).from_bot) == 1
