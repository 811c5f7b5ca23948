"""Pre-checkouts and reports: one charge per invoice, and one event per charge."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot_gateway.receiving import take_in
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.checkout_lane import DECIDE_WITHIN_S
from shared.contracts.payments import Checkout, CheckoutQuery
from tests.kit.bot import BOT, checkout_update, open_sheet, running
from tests.kit.bot_shop import Shop, buy, opened_shop
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox import Limits


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop, running(shop.settings):
        yield shop


async def test_repeated_reports_publish_one_event(shop: Shop) -> None:
    """M-02: ten repeats, as the same update and as new ones."""
    ann = await shop.newcomer()
    await buy(ann)
    paid = await ann.pay()
    assert paid.charge is not None
    for again in range(10):
        await shop.people.repeat(paid.charge, same_update=again % 2 == 0)
    await until(shop.is_quiescent)
    assert len(await shop.events("bot.payment.reported")) == 1
    assert await shop.database.fetchval("select count(*) from conflicts") == 0


async def test_nothing_is_charged_while_payments_is_silent(shop: Shop) -> None:
    """R-05: a charge that could not be booked is refused, long before Telegram gives up."""
    ann = await shop.newcomer()
    await buy(ann)
    shop.owners.silent.add(CheckoutQuery.topic)
    paid = await ann.pay()
    assert Limits().pre_checkout_s > 3 * DECIDE_WITHIN_S
    assert paid.charge is None
    assert paid.error is not None
    assert paid.error.startswith("We cannot take payments right now. Nothing was charged.")
    await until(lambda: shop.has_refused("charge", "away"))


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("invoice_expired", "This invoice has expired."),
        ("invoice_superseded", "There is a newer invoice for this order."),
        ("order_paid", "This order is already paid."),
        ("order_closed", "You paid a newer order, so this one is closed."),
        ("order_superseded", "You placed a newer order."),
        ("not_yours", "This invoice belongs to somebody else."),
    ],
)
async def test_a_refused_charge_names_the_reason(shop: Shop, reason: Any, sentence: str) -> None:
    """R-01, R-05: before the charge, and never after it."""
    ann = await shop.newcomer()
    await buy(ann)
    shop.owners.checkout = Checkout(ok=False, reason=reason)
    paid = await ann.pay()
    assert paid.error is not None
    assert paid.error.startswith(sentence)
    await until(lambda: shop.has_refused("charge", reason))


async def test_one_of_three_pay_sheets_is_charged(shop: Shop) -> None:
    """R-29: payments has booked nothing yet and would allow all of them."""
    ann = await shop.newcomer()
    await buy(ann)
    sheets = [await open_sheet(ann) for _ in range(3)]
    paid = await asyncio.gather(*(ann.pay_invoice(sheet) for sheet in sheets))
    assert [one.paid for one in paid].count(True) == 1
    assert all(
        one.error.startswith(("This order is being paid", "You have already paid"))
        for one in paid
        if one.error
    )
    await until(lambda: shop.has_events("bot.payment.reported", 1))
    await shop.database.execute(
        "update checkout_holds set approved_at = approved_at - interval '1 hour'"
    )
    late = await ann.pay_invoice(sheets[0])
    assert late.error is not None, "the charge was reported, however long payments needs"
    assert late.error.startswith("You have already paid this invoice.")


async def test_an_unused_approval_ends_after_a_minute(shop: Shop) -> None:
    """R-29: the payer closed the pay sheet, or Telegram died: they can pay a minute later."""
    ann = await shop.newcomer()
    await buy(ann)
    [placed] = shop.owners.payments.invoices.values()
    abandoned = checkout_update(ann.id, placed.payload, query="abandoned")
    async with shop.database.transaction() as tx:
        await take_in(BOT, [abandoned], Bells(), tx)
    await until(shop.is_quiescent)
    refused = await ann.pay()
    assert refused.error is not None
    assert refused.error.startswith("This order is being paid right now")
    await shop.database.execute(
        "update checkout_holds set approved_at = approved_at - interval '60 seconds'"
    )
    assert (await ann.pay()).paid
