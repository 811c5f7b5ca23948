"""What a person lives through in the chat: bot-gateway whole, a real database and broker, Telegram's stand-in."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer

from bot_gateway.app import build
from bot_gateway.buttons import Pay
from bot_gateway.chats.buy import STILL_WORTH_SHOWING
from bot_gateway.lanes import Bells
from bot_gateway.people import OFFER_VERSION
from bot_gateway.receiving import take_in
from bot_gateway.settings import Settings
from shared.bus import Bus
from shared.commands import PlaceOrder
from shared.contract import Refused
from shared.db import Database
from shared.questions import (
    Access,
    AskAudit,
    AskCheckout,
    AskOutlook,
    AskReceipts,
    AskRecipient,
    Checkout,
    Key,
    Outlook,
)
from tests.kit.bot import (
    BOT,
    LINK,
    TOKEN,
    UNHURRIED,
    Owners,
    checkout_update,
    message_update,
    open_sheet,
    opened,
    running,
    settings,
    until,
    user,
)
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient
from turnpike_local.services import Program


@dataclass
class Shop:
    people: SandboxClient
    owners: Owners
    database: Database
    place: FreshDatabase
    settings: Settings

    async def newcomer(self, name: str = "Ann", **about: Any) -> PersonClient:
        """Somebody who pressed /start and accepted the offer."""
        person = await self.people.new_person(name, **about)
        await person.say("/start")
        await person.press("accept" if about.get("language", "en") == "en" else "Принять")
        return person

    async def facts(self, topic: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch("select body::text as body from facts where topic = $1 order by seq", topic)
        return [json.loads(row["body"]) for row in rows]

    async def refused(self) -> list[tuple[str, str]]:
        rows = await self.database.fetch("select what, reason from refusals order by id")
        return [(row["what"], row["reason"]) for row in rows]


@pytest.fixture
async def ground(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """Everything but bot-gateway itself."""
    place, owners = await fresh_database("bot"), Owners(nats_url)
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        opened(place.dsn("bot_app")) as database,
        SandboxClient(sandbox.url) as people,
    ):
        await owners.open()
        yield Shop(people, owners, database, place, settings(place.dsn("bot_app"), nats_url, sandbox.url))
        await owners.close()


@pytest.fixture
async def shop(ground: Shop) -> AsyncIterator[Shop]:
    async with running(ground.settings):
        yield ground


async def test_the_first_start_of_a_life_is_told_once_with_its_inviter(shop: Shop) -> None:
    """D-04, S-11: the code is resolved where it is owned; what was typed rides along."""
    ann = await shop.newcomer("Ann")
    await ann.press("Invite")
    link = (await ann.hears("You get 10% of what they pay")).code[0]
    payload = link.partition("start=")[2]
    bob = await shop.people.new_person("Bob")
    for _ in range(3):
        await bob.say(f"/start {payload}")
    await until(lambda: _are(shop, "bot.person.started", 2))
    eve = await shop.people.new_person("Eve")
    await eve.say("/start r_nobodyscode")
    await until(lambda: _are(shop, "bot.person.started", 3))
    first, second, third = await shop.facts("bot.person.started")
    assert (first["code"], first["invited_by"]) == (None, None)
    assert (second["code"], second["invited_by"]) == (payload, first["about"])
    assert (third["code"], third["invited_by"]) == ("r_nobodyscode", None)
    assert second["cause"] == second["about"]


async def _are(shop: Shop, topic: str, wanted: int) -> bool:
    return len(await shop.facts(topic)) == wanted


async def test_start_works_while_every_other_service_is_down(shop: Shop) -> None:
    await shop.owners.close()
    ann = await shop.newcomer()
    await ann.hears("What would you like to do?")


async def test_the_offer_is_accepted_with_its_version_and_time_before_anything_is_sold(shop: Shop) -> None:
    ann = await shop.people.new_person("Ann")
    await ann.say("/start")
    welcome = await ann.hears("Welcome to Turnpike")
    await ann.press_data(welcome.id, "go:buy")
    await ann.wait_for(lambda chat: any("accept the terms" in toast["text"] for toast in chat.toasts))
    assert shop.owners.heard == []
    await ann.press("accept")
    await ann.hears("What would you like to do?")
    row = await shop.database.fetchrow("select offer_version, offer_accepted_at from people")
    assert row is not None
    assert row["offer_version"] == OFFER_VERSION
    assert row["offer_accepted_at"] is not None


async def test_the_language_follows_telegram_and_then_the_button(shop: Shop) -> None:
    anna = await shop.newcomer("Анна", language="ru")
    await anna.hears("Что будем делать?")
    await anna.press("Язык")
    await anna.press("English")
    await anna.hears("What would you like to do?")
    [changed] = await shop.facts("bot.person.changed")
    assert (changed["language"], changed["reachable"]) == ("en", True)


async def test_a_purchase_ends_in_a_reported_payment_and_one_message_was_edited(shop: Shop) -> None:
    """R-05: plan, period, way, invoice, in one message; payments is asked before the charge, and hears of it after."""
    ann = await shop.newcomer()
    await buy(ann)
    paid = await ann.pay()
    assert paid.charge is not None
    await until(lambda: _are(shop, "bot.payment.reported", 1))
    [reported] = await shop.facts("bot.payment.reported")
    [order] = shop.owners.orders.values()
    assert (reported["charge"], reported["acquirer"], reported["amount_minor"]) == (paid.charge, "telegram_stars", 99)
    assert reported["payer"] == str(order.person)
    assert reported["payload"].startswith(order.id.hex)
    [asked] = shop.owners.heard_of(AskCheckout)
    assert (asked.payer, asked.payload, asked.currency, asked.amount_minor) == (
        order.person,
        reported["payload"],
        "XTR",
        99,
    )
    chat = await ann.chat()
    assert len(chat.from_bot) == 1, "the chat fills up"


async def buy(person: PersonClient) -> None:
    await person.press("Buy")
    await choose(person)


async def choose(person: PersonClient) -> None:
    await person.press("Basic")
    await person.press("1 month")
    await person.press("Stars")
    await person.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def test_the_offer_and_the_order_say_what_the_present_access_becomes(shop: Shop) -> None:
    """N-18: asked of the service that will decide it, with the price that the order freezes."""
    ann = await shop.newcomer()
    ends_at = datetime(2027, 3, 1, 12, tzinfo=UTC)
    shop.owners.outlook = Outlook(effect="converts", plan="plus", converted_hours=30, ends_at=ends_at)
    await buy(ann)
    order = await ann.hears("Your order is ready")
    assert "You have Plus now" in order.text
    assert "becomes 1 day 6 hours of Basic" in order.text
    assert "until 1 March 2027, 12:00 UTC" in order.text
    before, after = shop.owners.heard_of(AskOutlook)
    assert before == after
    assert (before.plan, before.months, before.list_month_minor) == ("basic", 1, 14900)


async def test_nobody_is_kept_from_paying_because_vpn_does_not_answer(shop: Shop) -> None:
    """N-18, P-01: then the rule is said in words."""
    ann = await shop.newcomer()
    shop.owners.silent.add(AskOutlook.topic)
    await buy(ann)
    assert "Another plan replaces it" in (await ann.hears("Your order is ready")).text
    assert (await ann.pay()).paid


async def test_a_double_tap_on_the_way_is_one_order(shop: Shop) -> None:
    """M-04: the order's id was drawn with the screen, so two taps, and ten, are one order with one payload."""
    ann = await shop.newcomer()
    await ann.press("Buy")
    await ann.press("Basic")
    await ann.press("1 month")
    await ann.press("Stars", times=10)
    await until(lambda: _heard(shop, PlaceOrder, 10))
    assert len(shop.owners.orders) == 1
    assert {order.actor for order in shop.owners.orders.values()} == {
        f"person:{order.person}" for order in shop.owners.orders.values()
    }


async def test_two_deliberate_purchases_are_two_orders(shop: Shop) -> None:
    """M-05: a screen that is drawn anew offers another order."""
    ann = await shop.newcomer()
    await buy(ann)
    await ann.press("Back")
    await choose(ann)
    await until(lambda: _heard(shop, PlaceOrder, 2))
    assert len(shop.owners.orders) == 2


async def _heard(shop: Shop, kind: Any, wanted: int) -> bool:
    return len(shop.owners.heard_of(kind)) == wanted


async def test_the_very_report_ten_times_and_as_new_updates_is_one_fact(shop: Shop) -> None:
    """M-02: however often Telegram says it."""
    ann = await shop.newcomer()
    await buy(ann)
    paid = await ann.pay()
    assert paid.charge is not None
    for again in range(10):
        await shop.people.repeat(paid.charge, same_update=again % 2 == 0)
    await until(lambda: _all_is_done(shop))
    assert len(await shop.facts("bot.payment.reported")) == 1
    assert await shop.database.fetchval("select count(*) from contradictions") == 0


async def _all_is_done(shop: Shop) -> bool:
    waiting: bool = await shop.database.fetchval("select exists (select from updates where state = 'waiting')")
    return not waiting and (await shop.people.health())["pending_updates"] == 0


async def test_payments_away_is_a_kind_no_within_three_seconds_and_no_charge(shop: Shop) -> None:
    """R-05: a charge that could not be booked is not taken."""
    ann = await shop.newcomer()
    await buy(ann)
    shop.owners.silent.add(AskCheckout.topic)
    began = asyncio.get_running_loop().time()
    paid = await ann.pay()
    assert asyncio.get_running_loop().time() - began < 3
    assert paid.charge is None
    assert paid.error is not None
    assert paid.error.startswith("We cannot take payments right now. Nothing was charged.")
    await until(lambda: _refused(shop, "charge", "away"))


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("invoice_expired", "This invoice has expired."),
        ("invoice_superseded", "There is a newer invoice for this order."),
        ("order_closed", "This order is already paid or closed."),
        ("not_yours", "This invoice belongs to somebody else."),
    ],
)
async def test_a_refused_charge_says_why(shop: Shop, reason: Any, sentence: str) -> None:
    """R-01, R-05: before the charge, by name, and never after it."""
    ann = await shop.newcomer()
    await buy(ann)
    shop.owners.checkout = Checkout(ok=False, reason=reason)
    paid = await ann.pay()
    assert paid.error is not None
    assert paid.error.startswith(sentence)
    await until(lambda: _refused(shop, "charge", reason))


async def test_of_three_pay_sheets_of_one_invoice_one_is_charged(shop: Shop) -> None:
    """R-29: payments has booked nothing yet and says yes to each; the others are refused before any money moves."""
    ann = await shop.newcomer()
    await buy(ann)
    sheets = [await open_sheet(ann) for _ in range(3)]
    paid = await asyncio.gather(*(ann.pay_invoice(sheet) for sheet in sheets))
    assert [one.paid for one in paid].count(True) == 1
    assert all(
        one.error.startswith(("This order is being paid", "This order is already paid")) for one in paid if one.error
    )
    await until(lambda: _are(shop, "bot.payment.reported", 1))
    await shop.database.execute("update yeses set said_at = said_at - interval '1 hour'")
    late = await ann.pay_invoice(sheets[0])
    assert late.error is not None, "the charge was reported, however long payments needs"
    assert late.error.startswith("This order is already paid or closed.")


async def test_a_yes_that_no_charge_follows_keeps_its_invoice_for_a_minute_only(shop: Shop) -> None:
    """R-29: somebody who closed the pay sheet, or whose Telegram died, pays a minute later."""
    ann = await shop.newcomer()
    await buy(ann)
    [placed] = shop.owners.invoices.values()
    async with shop.database.transaction() as tx:
        await take_in(BOT, [checkout_update(ann.id, placed.payload, query="nobody-waits")], Bells(), tx)
    await until(lambda: _all_is_done(shop))
    refused = await ann.pay()
    assert refused.error is not None
    assert refused.error.startswith("This order is being paid right now")
    await shop.database.execute("update yeses set said_at = said_at - interval '60 seconds'")
    assert (await ann.pay()).paid


async def _refused(shop: Shop, what: str, reason: str) -> bool:
    return (what, reason) in await shop.refused()


async def test_a_service_that_is_away_is_said_kindly_and_the_same_button_goes_on(shop: Shop) -> None:
    """P-01: nothing is lost; "try again" is the very act that did not work."""
    ann = await shop.newcomer()
    await ann.press("Buy")
    await ann.press("Basic")
    await ann.press("1 month")
    offered = (await ann.button("Stars")).data
    shop.owners.silent.add(PlaceOrder.topic)
    await ann.press("Stars")
    again = await ann.button("Try again")
    assert again.data == offered
    shop.owners.silent.clear()
    await ann.press("Try again")
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    assert len(shop.owners.orders) == 1


@pytest.mark.parametrize(
    "data", ["plan", "go:nowhere", "pay:basic:1:stars:x", "pay:basic:99999:stars:x", "plan:'; drop", "x" * 64]
)
async def test_a_stale_or_forged_button_gets_one_sentence_and_the_present_screen(shop: Shop, data: str) -> None:
    """S-08: nothing is done, and a row says so."""
    ann = await shop.newcomer()
    menu = await ann.hears("What would you like to do?")
    await ann.press_data(menu.id, data)
    await ann.wait_for(
        lambda chat: any("out of date" in toast["text"] or "no longer sold" in toast["text"] for toast in chat.toasts)
    )
    await until(lambda: _one_is_refused(shop))
    assert shop.owners.orders == {}
    assert len((await ann.chat()).from_bot) == 1


async def _one_is_refused(shop: Shop) -> bool:
    return len(await shop.refused()) == 1


async def test_another_persons_order_cannot_be_tapped(shop: Shop) -> None:
    """S-08: the id of an order is no right to it."""
    ann, eve = await shop.newcomer("Ann"), await shop.newcomer("Eve")
    await buy(ann)
    [order] = shop.owners.orders.values()
    forged = Pay.drawn(order.id, plan="basic", months=1, way="stars").pack()
    menu = await eve.hears("What would you like to do?")
    await eve.press_data(menu.id, forged)
    await eve.hears("Choose a plan")
    await until(lambda: _refused(shop, "order", "id_reused"))
    assert not (await eve.chat()).invoice_buttons()


async def test_an_invoice_that_ran_out_is_replaced_by_a_new_offer(shop: Shop) -> None:
    """R-21: an old button does not lead to an invoice that would be refused."""
    ann = await shop.newcomer()
    shop.owners.invoice_lives = timedelta(seconds=5)
    await ann.press("Buy")
    await ann.press("Basic")
    await ann.press("1 month")
    old = await ann.button("Stars")
    await ann.press_at(old)
    await ann.wait_for(lambda chat: any("expired" in toast["text"] for toast in chat.toasts))
    shop.owners.invoice_lives = timedelta(minutes=30)
    await ann.wait_for(lambda chat: (fresh := chat.button("Stars")) is not None and fresh.data != old.data)
    await ann.press("Stars")
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def test_an_old_button_is_answered_with_a_new_offer_when_its_invoice_has_run_out_since(shop: Shop) -> None:
    """R-21, R-12: a repeat gets the stored answer, whose seconds were those of the first time."""
    ann = await shop.newcomer()
    shop.owners.invoice_lives = STILL_WORTH_SHOWING + timedelta(seconds=3)
    await ann.press("Buy")
    await ann.press("Basic")
    await ann.press("1 month")
    old = await ann.button("Stars")
    await ann.press_at(old)
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
    await asyncio.sleep(3)
    await ann.press_at(old)
    await ann.wait_for(lambda chat: (fresh := chat.button("Stars")) is not None and fresh.data != old.data)
    assert len(shop.owners.orders) == 1


async def test_a_tap_that_waited_too_long_places_no_order_and_may_be_repeated(shop: Shop) -> None:
    """R-21: what somebody wanted ten minutes ago is asked for again, with the very same order."""
    ann = await shop.newcomer()
    await ann.press("Buy")
    await ann.press("Basic")
    await ann.press("1 month")
    offered = await ann.button("Stars")
    callback = {"id": "1", "from": user(ann.id), "chat_instance": "1", "data": offered.data}
    async with shop.database.transaction() as tx:
        await take_in(BOT, [{"update_id": 1, "callback_query": callback}], Bells(), tx)
        await tx.execute("update updates set received_at = now() - interval '10 minutes' where update_id = 1")
    again = await ann.button("Try again")
    assert (again.data, shop.owners.orders) == (offered.data, {})
    await ann.press("Try again")
    await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def test_a_restart_between_two_taps_changes_nothing(ground: Shop) -> None:
    """W-09: what the purchase needs to know is in the button and in the database."""
    async with running(ground.settings):
        ann = await ground.newcomer()
        await ann.press("Buy")
        await ann.press("Basic")
        await ann.button("1 month")
    await ann.press("1 month")  # Nobody is there now; Telegram keeps the tap.
    async with running(ground.settings):
        await ann.press("Stars")
        await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def test_two_replicas_serve_one_bot(ground: Shop) -> None:
    """W-07, W-09: one polls, both work; nobody is answered twice."""
    async with running(ground.settings), running(settings_like(ground)):
        people = await asyncio.gather(*(ground.newcomer(f"Ann {number}") for number in range(5)))
        await asyncio.gather(*(buy(person) for person in people))
        chats = [await person.chat() for person in people]
    assert [len(chat.from_bot) for chat in chats] == [1] * 5
    assert len(ground.owners.orders) == 5


def settings_like(ground: Shop) -> Settings:
    configured = ground.settings
    return settings(
        configured.dsn.get_secret_value(), configured.nats_url.get_secret_value(), configured.telegram_api_url
    )


async def test_the_key_is_shown_as_text_and_as_a_picture_that_can_be_taken_away(shop: Shop) -> None:
    ann = await shop.newcomer()
    ends_at = datetime.now(UTC) + timedelta(days=29, hours=12)
    shop.owners.access = Access(state="up", plan="basic", devices=5, ends_at=ends_at)
    shop.owners.key = Key(link=LINK, ends_at=ends_at)
    await ann.press("My access")
    await ann.hears("30 days left")
    await ann.press("Key")
    assert (await ann.hears("Tap to copy it")).code == [LINK]
    await ann.press("QR")
    chat = await ann.wait_for(lambda chat: chat.last is not None and chat.last.photo is not None, what="a picture")
    assert chat.last is not None
    assert chat.last.photo is not None
    assert (await shop.people.file(chat.last.photo)).startswith(b"\x89PNG")
    await ann.press("Delete this picture")
    await ann.wait_for(lambda chat: all(message.photo is None for message in chat.messages))


async def test_the_button_under_a_receipt_leaves_the_receipt_alone_and_the_chat_does_not_fill_up(shop: Shop) -> None:
    """N-08, N-19: notifier's message with the key stays; the one screen of the chat is below it, however often."""
    ann = await shop.newcomer()
    await ann.hears("What would you like to do?")
    receipt = await notifiers(shop, ann, "Your key")
    for _ in range(3):
        await ann.press_data(receipt, "go:access")
        below = await ann.hears("You have no access yet")
        await until(lambda: _all_is_done(shop))
        assert [message.id for message in (await ann.chat()).from_bot] == [receipt, below.id]
    await ann.press("Back")
    assert (await ann.hears("What would you like to do?")).id == below.id


async def notifiers(shop: Shop, person: PersonClient, text: str) -> int:
    """A message of the other voice of this bot; answers its id."""
    api = TelegramAPIServer.from_base(shop.settings.telegram_api_url)
    async with Bot(TOKEN, session=AiohttpSession(api=api)) as voice:
        return (await voice.send_message(person.id, text)).message_id


async def test_a_chat_has_one_screen_however_often_somebody_starts(shop: Shop) -> None:
    """N-19: the screen comes below what was typed, and the old one goes."""
    ann = await shop.newcomer()
    for typed in ("/start", "hello", "/terms", "/start"):
        await ann.say(typed)
        await until(lambda: _all_is_done(shop))
        assert len((await ann.chat()).from_bot) == 1
    await ann.hears("What would you like to do?")


async def test_a_screen_that_telegram_will_not_delete_stays_and_the_next_one_is_shown(shop: Shop) -> None:
    ann = await shop.newcomer()
    await shop.people.stumble("500", method="deleteMessage")
    await ann.say("/start")
    await until(lambda: _all_is_done(shop))
    assert len((await ann.chat()).from_bot) == 2


async def test_the_pay_button_goes_with_the_payment(shop: Shop) -> None:
    """N-19: the order's screen says that the money came, and offers what is next."""
    ann = await shop.newcomer()
    await buy(ann)
    assert (await ann.pay()).paid
    text = (await ann.hears("Payment received")).text.replace("\u00a0", " ")
    assert "Payment received: 99 ⭐" in text
    chat = await ann.chat()
    assert (len(chat.from_bot), chat.invoice_buttons()) == (1, [])
    await ann.press("Menu")
    await ann.hears("What would you like to do?")


async def test_who_left_the_order_for_another_screen_is_not_disturbed_by_its_payment(shop: Shop) -> None:
    ann = await shop.newcomer()
    await buy(ann)
    sheet = await open_sheet(ann)
    await ann.press("Back")
    await ann.hears("Choose a plan")
    assert (await ann.pay_invoice(sheet)).paid
    await until(lambda: _are(shop, "bot.payment.reported", 1))
    await until(lambda: _all_is_done(shop))
    await ann.hears("Choose a plan")
    assert len((await ann.chat()).from_bot) == 1


async def test_the_terms_lead_back_to_where_one_came_from(shop: Shop) -> None:
    """N-19: before the offer is accepted and after; both texts are read in place."""
    ann = await shop.people.new_person("Ann")
    await ann.say("/start")
    await ann.press("Terms")
    await ann.hears("It is for you alone")
    await ann.press("Privacy")
    await ann.hears("The VPN servers know you")
    await ann.press("Back")
    await ann.hears("Welcome to Turnpike")
    await ann.press("Terms")
    await ann.press("accept")
    await ann.hears("What would you like to do?")
    await ann.say("/terms")
    await ann.press("Back")
    await until(lambda: _all_is_done(shop))
    await ann.hears("What would you like to do?")
    assert len((await ann.chat()).from_bot) == 1


async def test_without_a_key_there_is_a_sentence_and_the_present_state(shop: Shop) -> None:
    ann = await shop.newcomer()
    shop.owners.access = Access(state="issuing")
    shop.owners.key = Refused(reason="issuing")
    menu = await ann.hears("What would you like to do?")
    await ann.press_data(menu.id, "go:key")
    await ann.hears("being issued")


async def test_the_balance_says_what_is_held_owed_and_why(shop: Shop) -> None:
    ann = await shop.newcomer()
    await ann.press("Balance")
    text = (await ann.hears("Balance:")).text.replace("\u00a0", " ")
    assert "Balance: 64.90 ₽" in text
    assert "Owed: 7 ₽" in text
    assert "+14.90 ₽  share of a friend’s payment" in text


@pytest.mark.parametrize("typed", ["/support", "/paysupport"])
async def test_whoever_asks_about_a_payment_is_answered_also_before_the_offer_and_while_payments_is_down(
    shop: Shop, typed: str
) -> None:
    """R-30: Telegram wants /paysupport of a bot that takes Stars."""
    ann = await shop.people.new_person("Ann")
    await ann.say("/start")
    await ann.hears("Welcome to Turnpike")
    await ann.say(typed)
    assert (await ann.hears("Your last payments")).code == ["stxpaid"]
    shop.owners.silent.add(AskReceipts.topic)
    await ann.say(typed)
    await ann.hears("Your payments cannot be shown right now")
    await ann.press("Back")
    await ann.hears("Welcome to Turnpike")


async def test_a_name_full_of_markup_breaks_nothing(shop: Shop) -> None:
    """N-10: whatever people call themselves."""
    odd = await shop.newcomer("<b>&lt;Ann</i> \u202e{ $x }")
    await odd.press("Invite")
    await odd.hears("You get 10% of what they pay")


async def test_whoever_blocks_us_is_unreachable_until_he_lets_us_in_again(shop: Shop) -> None:
    """N-15: and everybody who listens hears of it, once each time."""
    ann = await shop.newcomer()
    await ann.hears("What would you like to do?")
    await ann.block()
    await until(lambda: _are(shop, "bot.person.changed", 1))
    await ann.unblock()
    await until(lambda: _are(shop, "bot.person.changed", 2))
    assert [fact["reachable"] for fact in await shop.facts("bot.person.changed")] == [False, True]


async def test_whoever_speaks_to_us_is_reachable_whatever_we_knew(shop: Shop) -> None:
    """N-15: the update about the unblocking may be lost; a tap says the same."""
    ann = await shop.newcomer()
    await ann.hears("What would you like to do?")
    await shop.database.execute("update people set reachable = false")
    await ann.press("Balance")
    await ann.hears("Balance:")
    [changed] = await shop.facts("bot.person.changed")
    assert changed["reachable"] is True


async def test_a_flood_of_one_person_is_answered_with_a_sentence_and_hinders_nobody(shop: Shop) -> None:
    """S-09, W-22: twenty at once, then one a second; the bucket is shared by replicas."""
    eve, ann = await shop.newcomer("Eve"), await shop.newcomer("Ann")
    menu = await eve.hears("What would you like to do?")
    await asyncio.gather(*(eve.press_data(menu.id, "go:language") for _ in range(40)))
    await eve.wait_for(lambda chat: any("Not so fast" in toast["text"] for toast in chat.toasts))
    await ann.press("Balance")
    await ann.hears("Balance:")


async def test_telegram_away_and_impatient_loses_no_answer(shop: Shop) -> None:
    """W-06: 500s and a 429 in the middle of a screen; it is shown in the end."""
    ann = await shop.newcomer()
    await ann.button("Buy")
    await shop.people.stumble("500", calls=2, method="editMessageText")
    await shop.people.stumble("429", calls=1, method="editMessageText", retry_after_s=1)
    await ann.press("Buy")
    await ann.hears("Choose a plan", timeout_s=15)


async def test_others_may_ask_where_a_person_is_written_to(shop: Shop) -> None:
    ann = await shop.newcomer("Anna", language="ru")
    [started] = await shop.facts("bot.person.started")
    asker = Bus(shop.settings.nats_url.get_secret_value(), name="asker")
    await asker.open()
    recipient = await asker.ask(AskRecipient(person=started["about"]))
    assert not isinstance(recipient, Refused)
    assert (recipient.chat_id, recipient.language, recipient.reachable) == (ann.id, "ru", True)
    nobody = await asker.ask(AskRecipient(person=started["id"]))
    assert nobody == Refused(reason="person_unknown")
    audit = await asker.ask(AskAudit.of("bot")())
    await asker.close()
    assert not isinstance(audit, Refused)
    assert {finding.truth: finding.violations for finding in audit.findings} == {
        finding.truth: 0 for finding in audit.findings
    }
    assert audit.counts["people"] == audit.counts["people_told"] == 1


async def test_it_starts_the_same_way_when_database_and_telegram_are_down_at_boot(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-06: one start path; what is away at boot is waited for, and then everything runs."""
    place, port = await fresh_database("bot"), free_port()
    configured = settings(place.dsn("bot_app"), nats_url, f"http://127.0.0.1:{port}")
    async with opened(place.dsn("postgres").replace(place.name, "postgres")) as admin:
        await admin.execute(f'alter database "{place.name}" allow_connections false')
        service = build(configured)
        refused = asyncio.Event()
        attempt = service.database.open

        async def attempted() -> None:
            try:
                await attempt()
            except asyncpg.PostgresError:
                refused.set()
                raise

        monkeypatch.setattr(service.database, "open", attempted)  # Its attempts are watched, and still made.
        life = asyncio.create_task(service.run())
        async with asyncio.timeout(15):
            await refused.wait()
        assert not service.health.opened
        await admin.execute(f'alter database "{place.name}" allow_connections true')
    async with Sandbox(tmp_path, TOKEN, port=port, limits=UNHURRIED) as sandbox, SandboxClient(sandbox.url) as people:
        ann = await people.new_person("Ann")
        await ann.say("/start")
        await ann.hears("Welcome to Turnpike", timeout_s=15)
        service.stopping.set()
        assert await life == 0


async def test_what_nobody_can_read_is_set_aside_and_what_nobody_knows_is_passed(shop: Shop) -> None:
    """P-10: an update of a kind of next year, and one that is broken, in the chat of somebody who goes on."""
    ann = await shop.newcomer()
    strange: list[dict[str, Any]] = [
        {"update_id": 1, "kind_of_next_year": {}},
        message_update(ann.id, update_id=2, text="hello", entities="broken"),
        message_update(ann.id, update_id=3, text="hello"),
    ]
    strange[2]["message"]["chat"] = {"id": -5, "type": "group", "title": "All"}
    async with shop.database.transaction() as tx:
        await take_in(BOT, strange, Bells(), tx)
    await until(lambda: _all_is_done(shop))
    rows = await shop.database.fetch("select update_id, state from updates where update_id < 4 order by update_id")
    assert [tuple(row) for row in rows] == [(1, "done"), (2, "failed"), (3, "done")]
    await ann.press("Balance")
    await ann.hears("Balance:")


async def test_a_killed_process_is_another_one_later_and_nobody_notices(ground: Shop, tmp_path: Path) -> None:
    """R-15, W-05: `python -m bot_gateway` with its variables alone; kill -9 in the middle of a purchase."""
    configured, port = ground.settings, free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "TURNPIKE_BOT_DSN": configured.dsn.get_secret_value(),
        "TURNPIKE_NATS_URL": configured.nats_url.get_secret_value(),
        "TURNPIKE_HTTP_PORT": str(port),
        "TURNPIKE_BOT_TOKEN": TOKEN,
        "TURNPIKE_TELEGRAM_API_URL": configured.telegram_api_url,
    }
    log = tmp_path / "bot_gateway.log"
    process = Program("bot_gateway", environment=environment, port=port, ready_path="/readyz", log=log)
    await process.start()
    ann = await ground.newcomer()
    await ann.press("Buy")
    await ann.button("Basic")
    process.kill()
    await ann.press("Basic")
    await process.start()
    await ann.press("1 month", timeout_s=20)
    await ann.press("Stars")
    paid = await ann.pay()
    await until(lambda: _are(ground, "bot.payment.reported", 1))
    await process.stop()
    assert paid.paid
    assert TOKEN not in log.read_text()
