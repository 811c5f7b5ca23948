"""Stars move only after the bot's yes, once, and every report of them can be repeated."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import (
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LabeledPrice,
    PreCheckoutQuery,
    SuccessfulPayment,
    TransactionPartnerUser,
)
from aiohttp import web

from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import Payment, PersonClient

TOKEN = "4242:AAtest-token"
PRICE = [LabeledPrice(label="Basic", amount=100)]
TOO_OLD = "query is too old and response timeout expired or query ID is invalid"


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN, limits=Limits(chat_messages_burst=100)) as started:
        yield started


def bot_of(sandbox: Sandbox) -> Bot:
    return Bot(TOKEN, session=AiohttpSession(api=TelegramAPIServer.from_base(sandbox.url), timeout=20))


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    talking = bot_of(sandbox)
    yield talking
    await talking.session.close()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as asking:
        yield asking


@pytest.fixture
async def alice(bot: Bot, client: SandboxClient) -> PersonClient:
    person = await client.new_person("Alice", stars=250)
    await person.say("/start")
    await confirm_all(bot)
    return person


async def confirm_all(bot: Bot) -> None:
    pending = await bot.get_updates()
    if pending:
        await bot.get_updates(offset=pending[-1].update_id + 1)


async def offer(bot: Bot, person: PersonClient, payload: str = "order-1") -> str:
    """A message with a button that opens the pay sheet; answers the link."""
    link = await bot.create_invoice_link("Basic", "A month", payload, "XTR", PRICE)
    button = InlineKeyboardButton(text="Pay 100", url=link)
    await bot.send_message(person.id, "Basic", reply_markup=InlineKeyboardMarkup(inline_keyboard=[[button]]))
    return link


async def asked(bot: Bot) -> PreCheckoutQuery:
    """The pre-checkout query that comes next; it is confirmed."""
    (update,) = await bot.get_updates(timeout=5)
    await bot.get_updates(offset=update.update_id + 1)
    assert update.pre_checkout_query is not None
    return update.pre_checkout_query


async def report(bot: Bot) -> tuple[int, SuccessfulPayment]:
    (update,) = await bot.get_updates(timeout=5)
    await bot.get_updates(offset=update.update_id + 1)
    assert update.message is not None
    assert update.message.successful_payment is not None
    return update.update_id, update.message.successful_payment


async def buy(bot: Bot, person: PersonClient) -> Payment:
    paying = asyncio.create_task(person.pay())
    await bot.answer_pre_checkout_query((await asked(bot)).id, ok=True)
    return await paying


async def test_a_payment_asks_takes_reports_and_is_listed(bot: Bot, alice: PersonClient) -> None:
    await offer(bot, alice)
    paying = asyncio.create_task(alice.pay())
    query = await asked(bot)
    assert (query.from_user.id, query.currency, query.total_amount, query.invoice_payload) == (
        alice.id,
        "XTR",
        100,
        "order-1",
    )
    assert (await alice.chat()).stars == 250
    await bot.answer_pre_checkout_query(query.id, ok=True)
    paid = await paying
    _, told = await report(bot)
    assert told.telegram_payment_charge_id == paid.charge
    assert (told.currency, told.total_amount, told.invoice_payload) == ("XTR", 100, "order-1")
    assert told.provider_payment_charge_id
    assert (await alice.chat()).stars == 150
    (listed,) = (await bot.get_star_transactions()).transactions
    assert (listed.id, listed.amount, listed.receiver) == (paid.charge, 100, None)
    assert isinstance(listed.source, TransactionPartnerUser)
    assert (listed.source.user.id, listed.source.invoice_payload) == (alice.id, "order-1")


async def test_an_invoice_in_the_chat_is_paid_once_and_a_link_again_and_again(bot: Bot, alice: PersonClient) -> None:
    sent = await bot.send_invoice(alice.id, "Basic", "A month", "order-1", "XTR", PRICE)
    assert sent.invoice is not None
    assert sent.reply_markup is not None
    assert sent.reply_markup.inline_keyboard[0][0].pay is True
    assert (await buy(bot, alice)).paid
    await confirm_all(bot)
    assert (await alice.pay()).error == "This invoice is paid already."
    await offer(bot, alice)
    assert (await buy(bot, alice)).paid
    assert (await alice.chat()).stars == 50


async def test_a_no_of_the_bot_charges_nothing_and_is_shown(bot: Bot, alice: PersonClient) -> None:
    await offer(bot, alice)
    paying = asyncio.create_task(alice.pay())
    await bot.answer_pre_checkout_query((await asked(bot)).id, ok=False, error_message="Sold out, sorry.")
    assert (await paying).error == "Sold out, sorry."
    chat = await alice.chat()
    assert chat.stars == 250
    assert chat.toasts[-1]["text"] == "Sold out, sorry."
    assert (await bot.get_star_transactions()).transactions == []
    assert await bot.get_updates() == []


async def test_a_late_answer_to_a_pre_checkout_is_refused_and_charges_nothing(tmp_path: Path) -> None:
    limits = Limits(pre_checkout_s=0.3)
    async with Sandbox(tmp_path, TOKEN, limits=limits) as sandbox, SandboxClient(sandbox.url) as client:
        bot = bot_of(sandbox)
        alice = await client.new_person("Alice", stars=250)
        await alice.say("/start")
        await confirm_all(bot)
        await offer(bot, alice)
        paying = asyncio.create_task(alice.pay())
        query = await asked(bot)
        assert not (await paying).paid
        with pytest.raises(TelegramBadRequest, match=TOO_OLD):
            await bot.answer_pre_checkout_query(query.id, ok=True)
        chat = await alice.chat()
        assert chat.stars == 250
        assert "did not answer in time" in chat.toasts[-1]["text"]
        assert (await bot.get_star_transactions()).transactions == []
        await bot.session.close()


async def test_a_second_answer_to_a_pre_checkout_is_refused(bot: Bot, alice: PersonClient) -> None:
    await offer(bot, alice)
    paying = asyncio.create_task(alice.pay())
    query = await asked(bot)
    await bot.answer_pre_checkout_query(query.id, ok=True)
    assert (await paying).paid
    for ok in (True, False):
        with pytest.raises(TelegramBadRequest, match=TOO_OLD):
            await bot.answer_pre_checkout_query(query.id, ok=ok, error_message="changed my mind")
    assert (await alice.chat()).stars == 150


async def test_who_has_too_few_stars_does_not_reach_the_bot(bot: Bot, client: SandboxClient) -> None:
    poor = await client.new_person("Poor", stars=99)
    await poor.say("/start")
    await confirm_all(bot)
    await offer(bot, poor)
    assert (await poor.pay()).error == "Not enough Stars: 100 are needed, 99 are there."
    assert await bot.get_updates() == []


async def test_stars_spent_meanwhile_are_not_spent_twice(bot: Bot, alice: PersonClient) -> None:
    link = await bot.create_invoice_link("Plus", "A month", "p", "XTR", [LabeledPrice(label="Plus", amount=200)])
    slug = link.removeprefix("https://t.me/$")
    payments = [asyncio.create_task(alice.pay_invoice(slug)) for _ in range(2)]
    await asyncio.sleep(0.1)
    for update in await bot.get_updates():
        assert update.pre_checkout_query is not None
        await bot.answer_pre_checkout_query(update.pre_checkout_query.id, ok=True)
    results = [await payment for payment in payments]
    assert sorted(result.paid for result in results) == [False, True]
    assert (await alice.chat()).stars == 50


async def test_the_same_report_comes_again_also_behind_the_offset(
    bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, told = await report(bot)
    await client.repeat(charge, same_update=True)
    (again,) = await bot.get_updates(offset=update_id + 1)
    assert again.update_id == update_id
    assert again.message is not None
    assert again.message.successful_payment == told
    assert await bot.get_updates(offset=update_id + 1) == []


async def test_a_poll_whose_bot_died_does_not_swallow_the_repeat(
    sandbox: Sandbox, bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, _ = await report(bot)
    dying = bot_of(sandbox)
    poll = asyncio.create_task(dying.get_updates(offset=update_id + 1, timeout=10))
    await asyncio.sleep(0.1)
    poll.cancel()
    await dying.session.close()
    await client.repeat(charge, same_update=True)
    await asyncio.sleep(0.1)
    (again,) = await bot.get_updates(offset=update_id + 1)
    assert again.update_id == update_id


async def test_a_repeat_reaches_a_webhook_too(bot: Bot, alice: PersonClient, client: SandboxClient) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, _ = await report(bot)
    heard: asyncio.Queue[int] = asyncio.Queue()

    async def hook(request: web.Request) -> web.Response:
        heard.put_nowait((await request.json())["update_id"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await bot.set_webhook(f"http://127.0.0.1:{runner.addresses[0][1]}/hook")
        await client.repeat(charge, same_update=True)
        assert await asyncio.wait_for(heard.get(), 5) == update_id
        await client.repeat(charge, same_update=False)
        assert await asyncio.wait_for(heard.get(), 5) > update_id
    finally:
        await runner.cleanup()


async def test_a_payment_is_reported_by_a_new_update_with_the_same_charge(
    bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, told = await report(bot)
    await client.repeat(charge, same_update=False)
    again_id, again = await report(bot)
    assert again_id > update_id
    assert again == told
    assert len((await bot.get_star_transactions()).transactions) == 1


async def test_a_refund_gives_back_once_and_repeats_the_charge(bot: Bot, alice: PersonClient) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    await report(bot)
    assert await bot.refund_star_payment(alice.id, charge)
    with pytest.raises(TelegramBadRequest, match="CHARGE_ALREADY_REFUNDED"):
        await bot.refund_star_payment(alice.id, charge)
    paid, refunded = (await bot.get_star_transactions()).transactions
    assert paid.id == refunded.id == charge
    assert refunded.source is None
    assert isinstance(refunded.receiver, TransactionPartnerUser)
    assert (await alice.chat()).stars == 250
    (update,) = await bot.get_updates()
    assert update.message is not None
    assert update.message.refunded_payment is not None
    assert update.message.refunded_payment.telegram_payment_charge_id == charge


async def test_transactions_are_paged_in_their_order(bot: Bot, alice: PersonClient) -> None:
    charges = []
    for _ in range(2):
        await offer(bot, alice)
        charges.append((await buy(bot, alice)).charge)
        await report(bot)
    pages = [(await bot.get_star_transactions(offset=offset, limit=1)).transactions for offset in range(3)]
    assert [[one.id for one in page] for page in pages] == [[charges[0]], [charges[1]], []]


async def test_a_payment_survives_a_restart_with_its_report_waiting(tmp_path: Path) -> None:
    async with Sandbox(tmp_path, TOKEN) as sandbox:
        bot = bot_of(sandbox)
        async with SandboxClient(sandbox.url) as client:
            alice = await client.new_person("Alice", stars=250)
            await alice.say("/start")
            await confirm_all(bot)
            await offer(bot, alice)
            charge = (await buy(bot, alice)).charge
        await bot.session.close()
    async with Sandbox(tmp_path, TOKEN) as sandbox:
        bot = bot_of(sandbox)
        _, told = await report(bot)
        assert told.telegram_payment_charge_id == charge
        async with SandboxClient(sandbox.url) as client:
            (alice,) = await client.people()
            assert (await alice.chat()).stars == 150
            (listed,) = await client.payments()
            assert (listed["charge"], listed["payload"], listed["total_amount"]) == (charge, "order-1", 100)
        await bot.session.close()
