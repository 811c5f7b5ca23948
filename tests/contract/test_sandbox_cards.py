"""Cards in Telegram: the sandbox refuses as Telegram does, and the acquirer lists each payment."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import LabeledPrice

from tests.kit.sandbox import bot_of, pay, started
from tests.kit.sides import PAYLOAD, TRACE, Town, a_town
from turnpike_local.providers import PROVIDER_TOKEN
from turnpike_local.sandbox.client import SandboxError
from turnpike_local.yookassa import Shop


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with a_town(tmp_path) as town:
        yield town


@pytest.fixture
async def bot(town: Town) -> AsyncIterator[Bot]:
    async with bot_of(town.sandbox) as calling:
        yield calling


def invoice(amount_minor: int = 14_900, **changes: object) -> dict[str, Any]:
    return {
        "title": "VPN Basic",
        "description": "A month",
        "payload": PAYLOAD,
        "currency": "RUB",
        "prices": [LabeledPrice(label="VPN Basic", amount=amount_minor)],
        "provider_token": PROVIDER_TOKEN,
        **changes,
    }


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (invoice(provider_token="381764678:TEST:1"), "PAYMENT_PROVIDER_INVALID"),
        (invoice(provider_token=""), "PAYMENT_PROVIDER_INVALID"),
        (invoice(currency="USD"), "CURRENCY_INVALID"),
        (invoice(currency="XTR"), "STARS_INVOICE_INVALID"),
        (invoice(6_399), "CURRENCY_TOTAL_AMOUNT_INVALID"),
        (invoice(64_000_001), "CURRENCY_TOTAL_AMOUNT_INVALID"),
    ],
)
async def test_a_wrong_card_invoice_is_refused(
    town: Town, bot: Bot, wanted: dict[str, Any], reason: str
) -> None:
    """R-137: a token that BotFather never gave, another currency, an amount beyond the limits."""
    ann = await started(town.people, "Ann")
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.create_invoice_link(**wanted)
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.send_invoice(ann.id, **wanted)


@pytest.mark.parametrize("amount_minor", [6_400, 64_000_000])
async def test_the_limits_themselves_are_taken(bot: Bot, amount_minor: int) -> None:
    assert await bot.create_invoice_link(**invoice(amount_minor))


async def test_a_paid_card_is_listed_at_its_acquirer(town: Town, bot: Bot) -> None:
    """R-138: under the id that the report names, without the payload, and with its fee."""
    ann = await started(town.people, "Ann")
    await bot.send_invoice(ann.id, **invoice())
    assert await pay(town.sandbox, ann)
    reported = (await reports(bot))[-1]
    assert (reported.currency, reported.total_amount) == ("RUB", 14_900)
    assert reported.invoice_payload == PAYLOAD
    status, listed = await town.merchant.get("payments")
    [payment] = listed["items"]
    assert (status, payment["id"]) == (200, reported.provider_payment_charge_id)
    assert (payment["status"], payment["amount"]["value"]) == ("succeeded", "149.00")
    assert payment["income_amount"]["value"] < "149.00"
    assert payment["metadata"] == {}
    assert (await ann.chat()).stars == 10_000


async def test_a_refused_card_charges_nothing(town: Town, bot: Bot) -> None:
    ann = await started(town.people, "Ann")
    await bot.send_invoice(ann.id, **invoice())
    assert await pay(town.sandbox, ann, ok=False) is None
    assert (await town.merchant.get("payments"))[1]["items"] == []


async def test_a_shop_with_receipts_takes_no_card(tmp_path: Path) -> None:
    """R-141: the acquirer refuses a payment without its receipt. The payer sees why."""
    async with (
        a_town(tmp_path, Shop(fiscalization="yoo_receipt")) as town,
        bot_of(town.sandbox) as bot,
    ):
        ann = await started(town.people, "Ann")
        await bot.send_invoice(ann.id, **invoice())
        assert await pay(town.sandbox, ann) is None
        assert "Receipt is missing" in (await ann.chat()).toasts[-1]["text"]
        assert (await town.merchant.get("payments"))[1]["items"] == []


async def test_only_the_acquirer_returns_a_card(town: Town, bot: Bot) -> None:
    """R-140: Telegram's call for Stars refuses the charge; the cabinet returns it, once."""
    ann = await started(town.people, "Ann")
    await bot.send_invoice(ann.id, **invoice())
    charge = await pay(town.sandbox, ann)
    with pytest.raises(TelegramBadRequest, match="CHARGE_ID_INVALID"):
        await bot.refund_star_payment(ann.id, str(charge))
    shown = {"way": "card in Telegram", "provider": "YooKassa", "state": "paid", "charges": 1}
    assert (await town.purchase()).items() >= shown.items()
    await town.people.give_back(TRACE)
    assert (await town.purchase())["state"] == "refunded"
    with pytest.raises(SandboxError):
        await town.people.give_back(TRACE)


async def reports(bot: Bot) -> list[Any]:
    """The payments that Telegram reports, taken from its updates."""
    updates = await bot.get_updates(timeout=0)
    return [one.message.successful_payment for one in updates if one.message]
