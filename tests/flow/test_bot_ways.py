"""The ways to pay: several providers, the balance, and what is missing in it."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from bot_gateway.chats.buttons import PayOrder, PayRest
from shared.contracts.payments import OpenInvoice, PayFromBalance, PlaceOrder
from tests.kit.bot import running
from tests.kit.bot_payments import CARD, RUBLES, SBP, STARS, TELEGRAM
from tests.kit.bot_shop import Shop, is_toasted, opened_shop, sees, to_ways
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until


@pytest.fixture
async def ground(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> AsyncIterator[Shop]:
    """Everything but bot-gateway itself."""
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        yield shop


@pytest.fixture
async def shop(ground: Shop) -> AsyncIterator[Shop]:
    async with running(ground.settings):
        yield ground


# Several ways


@pytest.mark.parametrize(
    ("way", "label", "shown"),
    [
        ("stars", "Stars", "99 ⭐"),
        ("sbp", "SBP", "149 ₽"),
        ("card", "Card", "149 ₽"),
        ("crypto", "Crypto", "149 ₽"),
    ],
)
async def test_each_way_asks_for_the_price_it_showed(
    shop: Shop, way: str, label: str, shown: str
) -> None:
    """R-81: the button names the amount of its invoice, in the currency that is charged."""
    shop.owners.payments.ways = (STARS, *RUBLES)
    ann = await shop.newcomer()
    await to_ways(ann)
    assert (await ann.button(label)).text.replace("\u00a0", " ").endswith(f"· {shown}")
    await ann.press(label)
    await sees(ann, f"Pay {shown}")
    assert (await ann.button("Pay")).url is not None
    [asked] = shop.owners.received_of(OpenInvoice)
    assert asked.way == way


async def test_one_way_needs_no_more_taps(shop: Shop) -> None:
    """R-81: the shop without a provider has one button, in Stars, and no word of others."""
    ann = await shop.newcomer()
    await to_ways(ann)
    await sees(ann, "Telegram Stars · 99 ⭐", "← Back")
    await ann.press("Stars")
    await sees(ann, "Pay 99 ⭐")


async def test_a_shop_without_ways_says_so(shop: Shop) -> None:
    """R-85: the plans can be read, and the way back is there."""
    shop.owners.payments.ways = ()
    ann = await shop.newcomer()
    await ann.press("Buy")
    await ann.press("Basic")
    await ann.press("1 month")
    await ann.receives("We cannot take payments right now")
    await sees(ann, "← Back")


async def test_a_closed_way_leads_to_the_others(shop: Shop) -> None:
    """R-85: it was closed after the screen was drawn. The order stays, and keeps its price."""
    payments = shop.owners.payments
    payments.ways = (STARS, SBP)
    ann = await shop.newcomer()
    await to_ways(ann)
    payments.ways = (STARS,)
    await ann.press("SBP")
    await is_toasted(ann, "You cannot pay that way right now")
    await sees(ann, "Telegram Stars · 99 ⭐", "← Back")
    await ann.press("Stars")
    await ann.button("Pay")
    assert len(payments.orders) == 1
    assert await shop.refusals() == [("order", "way_closed")]


async def test_a_bot_without_its_token_shows_no_card(shop: Shop) -> None:
    """R-137: payments offers cards in Telegram, and this bot cannot make their invoice.

    Neither for a price, nor for a top-up, nor for the rest; and an old button opens nothing.
    """
    payments = shop.owners.payments
    payments.ways = (TELEGRAM, STARS, SBP)
    ann = await shop.newcomer()
    await to_ways(ann)
    await sees(ann, "Telegram Stars · 99 ⭐", "SBP · 149 ₽", "← Back")
    payments.ways = (TELEGRAM, STARS)
    await ann.press("SBP")
    await sees(ann, "Telegram Stars · 99 ⭐", "← Back")
    [order] = payments.orders
    screen = (await ann.chat()).from_bot[-1]
    await ann.press_data(
        screen.id, PayOrder(order=order, way="telegram", from_balance=False).pack()
    )
    await until(shop.is_quiescent)
    assert await shop.refusals() == [("order", "way_closed")] * 2
    assert not payments.invoices


async def test_a_refused_provider_token_leads_to_others(ground: Shop) -> None:
    """R-137: BotFather has forgotten it. Telegram refuses the invoice; nobody is left alone."""
    payments = ground.owners.payments
    payments.ways = (STARS, TELEGRAM)
    token = SecretStr("381764678:TEST:1")
    async with running(ground.settings.model_copy(update={"provider_token": token})):
        ann = await ground.newcomer()
        await to_ways(ann)
        await ann.press("Card in Telegram")
        await is_toasted(ann, "You cannot pay that way right now")
        await ann.press("Stars")
        await sees(ann, "Pay 99 ⭐")


async def test_too_much_for_a_way_leads_to_others(shop: Shop) -> None:
    """R-85: the limit of the way changed after the screen was drawn."""
    payments = shop.owners.payments
    payments.ways = (STARS, CARD)
    ann = await shop.newcomer()
    await to_ways(ann)
    payments.ways = (STARS, CARD.model_copy(update={"most_minor": 10_000}))
    await ann.press("Card")
    await is_toasted(ann, "too large for this way to pay")
    await sees(ann, "Telegram Stars · 99 ⭐", "← Back")


async def test_an_invoice_in_preparation_can_be_looked_at(shop: Shop) -> None:
    """R-85: the provider is slow. The screen says so, and looks again for the same invoice."""
    payments = shop.owners.payments
    payments.ways, payments.providers_answer = RUBLES, False
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("SBP")
    await ann.receives("Your invoice is being prepared")
    await ann.press("Check again")
    payments.providers_answer = True
    await ann.press("Check again")
    assert (await ann.button("Pay")).url is not None
    assert len(payments.invoices) == 1


# The balance


async def test_the_balance_pays_for_an_order(shop: Shop) -> None:
    """The menu takes the place of the ways; notifier alone reports the purchase."""
    payments = shop.owners.payments
    payments.wallet_minor, payments.earned_minor = 10_000, 6_000
    ann = await shop.newcomer()
    await to_ways(ann)
    await sees(ann, "Telegram Stars · 99 ⭐", "Pay 149 ₽ from the balance", "← Back")
    await ann.press("from the balance")
    await ann.receives("What would you like to do?")
    await is_toasted(ann, "Paid from the balance.")
    assert payments.balance_minor == 1_100
    assert len((await ann.chat()).from_bot) == 1


async def test_ten_taps_on_the_balance_buy_once(shop: Shop) -> None:
    """M-04: the ids of the order and of the purchase come from the one drawn with the screen."""
    shop.owners.payments.wallet_minor = 200_000
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("from the balance", times=10)
    await until(shop.is_quiescent)
    assert shop.owners.arrivals_of(PayFromBalance) >= 10
    assert len(shop.owners.orders) == 1
    assert shop.owners.payments.wallet_minor == 200_000 - 14_900


async def test_two_purchases_from_the_balance_are_two(shop: Shop) -> None:
    """M-05: a screen that is drawn again offers another order."""
    shop.owners.payments.wallet_minor = 200_000
    ann = await shop.newcomer()
    for _ in range(2):
        await to_ways(ann)
        await ann.press("from the balance")
        await ann.receives("What would you like to do?")
    assert len(shop.owners.orders) == 2
    assert shop.owners.payments.wallet_minor == 200_000 - 2 * 14_900


async def test_a_spent_balance_asks_for_the_rest(shop: Shop) -> None:
    """R-85: the screen was drawn while the balance was enough."""
    payments = shop.owners.payments
    payments.ways, payments.wallet_minor = (STARS, *RUBLES), 20_000
    ann = await shop.newcomer()
    await to_ways(ann)
    payments.wallet_minor = 10_000
    await ann.press("from the balance")
    await is_toasted(ann, "no longer covers this")
    shown = await ann.receives("The rest comes from your balance")
    assert "Still missing: 49 ₽" in shown.text.replace("\u00a0", " ")
    assert len(payments.orders) == 1


async def test_the_missing_part_is_topped_up(shop: Shop) -> None:
    """R-81: each way asks for what is missing, and a way's least amount is said before."""
    payments = shop.owners.payments
    payments.ways, payments.wallet_minor = (STARS, *RUBLES), 10_000
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("Pay 49")
    shown = await ann.receives("The rest comes from your balance")
    text = shown.text.replace("\u00a0", " ")
    assert "By card you pay at least 64 ₽. Anything above the price stays in your wallet." in text
    await sees(ann, "Telegram Stars · 33 ⭐", "SBP · 49 ₽", "Card · 64 ₽", "Crypto · 49 ₽")
    await ann.press("Card")
    await sees(ann, "Pay 64 ₽")
    [asked] = shop.owners.received_of(OpenInvoice)
    assert (asked.way, asked.from_balance) == ("card", True)


async def test_a_balance_that_grew_meanwhile_can_pay(shop: Shop) -> None:
    """R-85: a reward came after the screen was drawn: nothing is missing any more."""
    payments = shop.owners.payments
    payments.wallet_minor = 10_000
    ann = await shop.newcomer()
    await to_ways(ann)
    payments.earned_minor = 4_900
    await ann.press("Pay 33")
    await ann.receives("Your balance covers this order")
    await sees(ann, "Pay 149 ₽ from the balance", "← Back")
    await ann.press("from the balance")
    await is_toasted(ann, "Paid from the balance.")
    assert payments.balance_minor == 0


async def test_no_missing_part_is_asked_for_in_vain(shop: Shop) -> None:
    """R-85: the balance grew while the ways of the missing part were shown."""
    payments = shop.owners.payments
    payments.ways, payments.wallet_minor = (STARS, SBP), 10_000
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("Pay 49")
    await ann.receives("The rest comes from your balance")
    payments.wallet_minor = 20_000
    await ann.press("SBP")
    await is_toasted(ann, "Your balance covers this order now.")
    await sees(ann, "Pay 149 ₽ from the balance", "← Back")
    assert not payments.invoices


async def test_one_way_asks_for_the_part_directly(shop: Shop) -> None:
    """R-81: in Stars, as its button said; there is nothing to choose."""
    shop.owners.payments.wallet_minor = 10_000
    ann = await shop.newcomer()
    await to_ways(ann)
    await sees(ann, "Telegram Stars · 99 ⭐", "Pay 33 ⭐ more, the rest from the balance")
    await ann.press("Pay 33")
    shown = await ann.receives("The rest comes from your balance")
    assert "Still missing: 33 ⭐" in shown.text.replace("\u00a0", " ")
    await sees(ann, "Pay 33 ⭐")


async def test_a_silent_balance_delays_no_purchase(shop: Shop) -> None:
    """P-01: payments answers the plans and not the balance. Stars are offered all the same."""
    shop.owners.payments.wallet_minor = 20_000
    shop.owners.silent.add("payments.balance")
    ann = await shop.newcomer()
    await to_ways(ann)
    await sees(ann, "Telegram Stars · 99 ⭐", "← Back")


async def test_a_restart_between_taps_pays_once(ground: Shop) -> None:
    """W-09, M-04: between any two taps, and with a tap that waits for the new process."""
    payments = ground.owners.payments
    payments.ways, payments.wallet_minor = (STARS, *RUBLES), 10_000
    async with running(ground.settings):
        ann = await ground.newcomer()
        await ann.button("Buy")
    for name in ("Buy", "Basic", "1 month", "Pay 49", "SBP"):
        await ann.press(name)  # bot-gateway does not run now; Telegram keeps the tap.
        async with running(ground.settings):
            await until(ground.is_quiescent)
    await sees(ann, "Pay 49 ₽")
    assert len(payments.orders) == len(payments.invoices) == 1
    assert len(ground.owners.received_of(PlaceOrder)) == 1


# The rest of an order


async def test_the_rest_offers_all_ways_and_the_balance(shop: Shop) -> None:
    """R-55: the button of notifier's message. The balance can pay the whole price too."""
    payments = shop.owners.payments
    payments.ways = (STARS, SBP)
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("Stars")
    await ann.button("Pay")
    [order] = payments.orders
    payments.received_minor[order], payments.wallet_minor = 10_000, 20_000
    screen = (await ann.chat()).last
    assert screen is not None
    await ann.press_data(screen.id, PayRest(order=order).pack())
    await ann.receives("Still missing: 49")
    await sees(ann, "Telegram Stars · 33 ⭐", "SBP · 49 ₽", "Pay 149 ₽ from the balance", "← Back")
    await ann.press("SBP")
    await sees(ann, "Pay 49 ₽")
    await ann.press("Back")
    await ann.receives("Choose a plan")


@pytest.mark.parametrize("way", ["stars", "balance"])
async def test_a_foreign_order_is_not_paid(shop: Shop, way: str) -> None:
    """S-08: a forged button with the id of somebody else's order."""
    ann = await shop.newcomer()
    menu = await ann.receives("What would you like to do?")
    forged = f"order:{uuid4().hex}:{way}:0:"
    assert PayOrder.unpack(forged).way == way
    await ann.press_data(menu.id, forged)
    await ann.receives("Choose a plan")
    await is_toasted(ann, "out of date")
    await until(lambda: shop.has_refused("order", "not_yours"))
