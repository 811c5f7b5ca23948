"""Stars move once and only after the bot's approval. Every report of a payment can be repeated."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram import Bot
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

from tests.kit.sandbox import TOKEN, bot_of, started
from tests.kit.waiting import HANG_S, until
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import Payment, PersonClient

PRICE = [LabeledPrice(label="Basic", amount=100)]
TOO_OLD = "query is too old and response timeout expired or query ID is invalid"


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN, limits=Limits(chat_messages_burst=100)) as running:
        yield running


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    async with bot_of(sandbox) as calling:
        yield calling


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as acting:
        yield acting


@pytest.fixture
async def alice(bot: Bot, client: SandboxClient) -> PersonClient:
    person = await started(client, stars=250)
    await acknowledge_updates(bot)
    return person


async def acknowledge_updates(bot: Bot) -> None:
    pending = await bot.get_updates()
    if pending:
        await bot.get_updates(offset=pending[-1].update_id + 1)


async def offer(bot: Bot, person: PersonClient, payload: str = "order-1") -> str:
    """Send a message with a button that opens the pay sheet. Returns the link."""
    link = await bot.create_invoice_link("Basic", "A month", payload, "XTR", PRICE)
    button = InlineKeyboardButton(text="Pay 100", url=link)
    await bot.send_message(
        person.id, "Basic", reply_markup=InlineKeyboardMarkup(inline_keyboard=[[button]])
    )
    return link


async def next_checkout_query(bot: Bot) -> PreCheckoutQuery:
    """Take the next pre-checkout query and acknowledge its update, without answering it."""
    (update,) = await bot.get_updates(timeout=20)
    await bot.get_updates(offset=update.update_id + 1)
    assert update.pre_checkout_query is not None
    return update.pre_checkout_query


async def report(bot: Bot) -> tuple[int, SuccessfulPayment]:
    (update,) = await bot.get_updates(timeout=20)
    await bot.get_updates(offset=update.update_id + 1)
    assert update.message is not None
    assert update.message.successful_payment is not None
    return update.update_id, update.message.successful_payment


async def buy(bot: Bot, person: PersonClient) -> Payment:
    paying = asyncio.create_task(person.pay())
    await bot.answer_pre_checkout_query((await next_checkout_query(bot)).id, ok=True)
    return await paying


async def test_a_payment_is_approved_reported_and_listed(bot: Bot, alice: PersonClient) -> None:
    await offer(bot, alice)
    paying = asyncio.create_task(alice.pay())
    query = await next_checkout_query(bot)
    assert (query.from_user.id, query.currency, query.total_amount, query.invoice_payload) == (
        alice.id,
        "XTR",
        100,
        "order-1",
    )
    assert (await alice.chat()).stars == 250
    await bot.answer_pre_checkout_query(query.id, ok=True)
    paid = await paying
    _, reported = await report(bot)
    assert reported.telegram_payment_charge_id == paid.charge
    assert (reported.currency, reported.total_amount, reported.invoice_payload) == (
        "XTR",
        100,
        "order-1",
    )
    assert reported.provider_payment_charge_id
    assert (await alice.chat()).stars == 150
    (listed,) = (await bot.get_star_transactions()).transactions
    assert (listed.id, listed.amount, listed.receiver) == (paid.charge, 100, None)
    assert isinstance(listed.source, TransactionPartnerUser)
    assert (listed.source.user.id, listed.source.invoice_payload) == (alice.id, "order-1")


async def test_only_an_invoice_link_is_paid_twice(bot: Bot, alice: PersonClient) -> None:
    sent = await bot.send_invoice(alice.id, "Basic", "A month", "order-1", "XTR", PRICE)
    assert sent.invoice is not None
    assert sent.reply_markup is not None
    assert sent.reply_markup.inline_keyboard[0][0].pay is True
    assert (await buy(bot, alice)).paid
    await acknowledge_updates(bot)
    assert (await alice.pay()).error == "This invoice is paid already."
    await offer(bot, alice)
    assert (await buy(bot, alice)).paid
    assert (await alice.chat()).stars == 50


async def test_a_declined_checkout_charges_nothing(bot: Bot, alice: PersonClient) -> None:
    await offer(bot, alice)
    paying = asyncio.create_task(alice.pay())
    await bot.answer_pre_checkout_query(
        (await next_checkout_query(bot)).id, ok=False, error_message="Sold out, sorry."
    )
    assert (await paying).error == "Sold out, sorry."
    chat = await alice.chat()
    assert chat.stars == 250
    assert chat.toasts[-1]["text"] == "Sold out, sorry."
    assert (await bot.get_star_transactions()).transactions == []
    assert await bot.get_updates() == []


async def test_a_late_answer_to_pre_checkout_charges_nothing(
    tmp_path: Path,
) -> None:
    limits = Limits(pre_checkout_s=0.3)
    async with (
        Sandbox(tmp_path, TOKEN, limits=limits) as sandbox,
        SandboxClient(sandbox.url) as client,
        bot_of(sandbox) as bot,
    ):
        alice = await started(client, stars=250)
        await acknowledge_updates(bot)
        await offer(bot, alice)
        paying = asyncio.create_task(alice.pay())
        query = await next_checkout_query(bot)
        assert not (await paying).paid
        with pytest.raises(TelegramBadRequest, match=TOO_OLD):
            await bot.answer_pre_checkout_query(query.id, ok=True)
        chat = await alice.chat()
        assert chat.stars == 250
        assert "did not answer in time" in chat.toasts[-1]["text"]
        assert (await bot.get_star_transactions()).transactions == []


async def test_a_second_answer_to_pre_checkout_is_refused(bot: Bot, alice: PersonClient) -> None:
    await offer(bot, alice)
    paying = asyncio.create_task(alice.pay())
    query = await next_checkout_query(bot)
    await bot.answer_pre_checkout_query(query.id, ok=True)
    assert (await paying).paid
    for ok in (True, False):
        with pytest.raises(TelegramBadRequest, match=TOO_OLD):
            await bot.answer_pre_checkout_query(query.id, ok=ok, error_message="changed my mind")
    assert (await alice.chat()).stars == 150


async def test_too_few_stars_send_no_query(bot: Bot, client: SandboxClient) -> None:
    poor = await started(client, "Poor", stars=99)
    await acknowledge_updates(bot)
    await offer(bot, poor)
    assert (await poor.pay()).error == "Not enough Stars: 100 needed, 99 available."
    assert await bot.get_updates() == []


async def test_stars_are_not_spent_twice(bot: Bot, alice: PersonClient) -> None:
    link = await bot.create_invoice_link(
        "Plus", "A month", "p", "XTR", [LabeledPrice(label="Plus", amount=200)]
    )
    slug = link.removeprefix("https://t.me/$")
    payments = [asyncio.create_task(alice.pay_invoice(slug)) for _ in range(2)]

    async def both_are_asked() -> bool:
        return len(await bot.get_updates()) == 2

    await until(both_are_asked)
    for update in await bot.get_updates():
        assert update.pre_checkout_query is not None
        await bot.answer_pre_checkout_query(update.pre_checkout_query.id, ok=True)
    results = [await payment for payment in payments]
    assert sorted(result.paid for result in results) == [False, True]
    assert (await alice.chat()).stars == 50


async def test_a_repeated_report_ignores_the_offset(
    bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, reported = await report(bot)
    await client.repeat(charge, same_update=True)
    (again,) = await bot.get_updates(offset=update_id + 1)
    assert again.update_id == update_id
    assert again.message is not None
    assert again.message.successful_payment == reported
    assert await bot.get_updates(offset=update_id + 1) == []


async def test_the_poll_of_a_dead_bot_consumes_nothing(
    sandbox: Sandbox, bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, _ = await report(bot)
    async with bot_of(sandbox) as dying:
        poll = asyncio.create_task(dying.get_updates(offset=update_id + 1, timeout=50))
        await until(lambda: sandbox.is_polled)
        poll.cancel()
    await until(lambda: not sandbox.is_polled)
    await client.repeat(charge, same_update=True)
    (again,) = await bot.get_updates(offset=update_id + 1)
    assert again.update_id == update_id


async def test_a_repeated_report_reaches_a_webhook(
    bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, _ = await report(bot)
    received: asyncio.Queue[int] = asyncio.Queue()

    async def hook(request: web.Request) -> web.Response:
        received.put_nowait((await request.json())["update_id"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await bot.set_webhook(f"http://127.0.0.1:{runner.addresses[0][1]}/hook")
        await client.repeat(charge, same_update=True)
        assert await asyncio.wait_for(received.get(), HANG_S) == update_id
        await client.repeat(charge, same_update=False)
        assert await asyncio.wait_for(received.get(), HANG_S) > update_id
    finally:
        await runner.cleanup()


async def test_a_new_update_repeats_the_charge(
    bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    update_id, reported = await report(bot)
    await client.repeat(charge, same_update=False)
    again_id, again = await report(bot)
    assert again_id > update_id
    assert again == reported
    assert len((await bot.get_star_transactions()).transactions) == 1


async def test_a_refund_returns_the_stars_once(bot: Bot, alice: PersonClient) -> None:
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


async def test_transactions_are_paged_in_order(bot: Bot, alice: PersonClient) -> None:
    charges = []
    for _ in range(2):
        await offer(bot, alice)
        charges.append((await buy(bot, alice)).charge)
        await report(bot)
    pages = [
        (await bot.get_star_transactions(offset=offset, limit=1)).transactions
        for offset in range(3)
    ]
    assert [[one.id for one in page] for page in pages] == [[charges[0]], [charges[1]], []]


async def test_a_limit_of_the_listing_is_clamped(bot: Bot, alice: PersonClient) -> None:
    """Telegram takes the nearest limit from 1 to 100, and refuses none."""
    for _ in range(2):
        await offer(bot, alice)
        await buy(bot, alice)
        await report(bot)
    assert len((await bot.get_star_transactions(limit=101)).transactions) == 2
    assert len((await bot.get_star_transactions(limit=0)).transactions) == 1


async def test_the_balance_is_the_sum_of_the_listing(bot: Bot, alice: PersonClient) -> None:
    assert (await bot.get_my_star_balance()).amount == 0
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    assert (await bot.get_my_star_balance()).amount == 100
    await bot.refund_star_payment(alice.id, charge)
    assert (await bot.get_my_star_balance()).amount == 0


async def test_a_lost_report_is_only_listed(
    bot: Bot, alice: PersonClient, client: SandboxClient
) -> None:
    """The pre-checkout arrives, so the charge is taken; its report never comes, nor its refund's.

    Messages are not touched, and each lost report counts once.
    """
    await client.lose_reports(2)
    await offer(bot, alice)
    charge = (await buy(bot, alice)).charge
    assert charge is not None
    await bot.refund_star_payment(alice.id, charge)
    await alice.say("hello")
    (update,) = await bot.get_updates()
    assert update.message is not None
    assert update.message.text == "hello"
    assert [one.id for one in (await bot.get_star_transactions()).transactions] == [charge, charge]
    await acknowledge_updates(bot)
    await offer(bot, alice)
    await buy(bot, alice)
    await report(bot)


async def test_a_pending_report_survives_a_restart(tmp_path: Path) -> None:
    async with (
        Sandbox(tmp_path, TOKEN) as sandbox,
        bot_of(sandbox) as bot,
        SandboxClient(sandbox.url) as client,
    ):
        alice = await started(client, stars=250)
        await acknowledge_updates(bot)
        await offer(bot, alice)
        charge = (await buy(bot, alice)).charge
    async with Sandbox(tmp_path, TOKEN) as sandbox, bot_of(sandbox) as bot:
        _, reported = await report(bot)
        assert reported.telegram_payment_charge_id == charge
        async with SandboxClient(sandbox.url) as client:
            (alice,) = await client.people()
            assert (await alice.chat()).stars == 150
            (listed,) = await client.payments()
            assert (listed["charge"], listed["payload"], listed["total_amount"]) == (
                charge,
                "order-1",
                100,
            )
