"""The sandbox beside the providers' stand-ins: their payments are purchases, with acts and faults.

No browser and no shop: the merchant is the test.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.cryptopay import created
from tests.kit.sandbox import call, offer, pay, started
from tests.kit.sides import PAYLOAD, TRACE, Town, a_town, ordered
from turnpike_local.cryptopay import CryptoPayClient
from turnpike_local.sandbox.client import SandboxError


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with a_town(tmp_path) as town:
        yield town


async def test_a_payment_at_yookassa_is_a_purchase(town: Town) -> None:
    """With its way, amount and state; the buyer is known once the link is in a chat."""
    ann = await started(town.people, "Ann")
    payment = await ordered(town)
    listed = {"way": "SBP", "amount": 14_900, "currency": "RUB", "provider": "YooKassa"}
    open_one = {**listed, "name": None, "state": "waiting", "charges": 0}
    assert await town.purchase() == open_one
    button = {"text": "Pay", "url": payment["confirmation"]["confirmation_url"]}
    keyboard = {"inline_keyboard": [[button]]}
    await call(town.sandbox, "sendMessage", chat_id=ann.id, text="Pay", reply_markup=keyboard)
    await town.cabinet.pay(payment["id"])
    paid = {**listed, "name": "Ann", "state": "paid", "charges": 1}
    assert await town.purchase() == paid


async def test_two_tries_are_one_purchase(town: Town) -> None:
    """The first one was refused. The paid one is shown, though its way is another."""
    refused = await ordered(town)
    await town.cabinet.decline(refused["id"])
    assert (await town.purchase())["state"] == "refused"
    invoice = await created(town.cryptopay, payload=PAYLOAD)
    assert (await town.purchase())["way"] == "crypto"
    async with CryptoPayClient(town.cryptopay.url) as owner:
        await owner.pay(invoice["invoice_id"], "TON")
    shown = await town.purchase()
    assert (shown["provider"], shown["state"], shown["amount"]) == ("Crypto Pay", "paid", 14_900)


async def test_money_is_given_back_by_a_button(town: Town) -> None:
    payment = await ordered(town)
    with pytest.raises(SandboxError, match="no such payment"):
        await town.people.give_back(TRACE)
    await town.cabinet.pay(payment["id"])
    await town.people.give_back(TRACE)
    assert (await town.purchase())["state"] == "refunded"
    assert (await town.merchant.payment(payment["id"]))["refunded_amount"]["value"] == "149.00"
    with pytest.raises(SandboxError):
        await town.people.give_back(TRACE)


async def test_a_bank_charges_back_by_a_button(town: Town) -> None:
    payment = await ordered(town)
    await town.cabinet.pay(payment["id"])
    await town.people.charge_back(TRACE)
    assert (await town.purchase())["state"] == "charged_back"
    [listed] = await town.cabinet.chargebacks()
    assert listed["payment_id"] == payment["id"]


async def test_stars_are_given_back_by_a_button(town: Town) -> None:
    ann = await started(town.people, "Ann")
    await offer(town.sandbox, TRACE, to=ann)
    await pay(town.sandbox, ann)
    with pytest.raises(SandboxError, match="no chargebacks"):
        await town.people.charge_back(TRACE)
    await town.people.give_back(TRACE)
    assert ((await town.purchase())["state"], (await ann.chat()).stars) == ("refunded", 10_000)


async def test_a_lost_answer_opens_the_payment(town: Town) -> None:
    await town.people.plan_provider_fault("YooKassa", "lost")
    with pytest.raises(aiohttp.ClientError):
        await ordered(town)
    assert (await town.purchase())["state"] == "waiting"


async def test_a_dropped_notice_is_never_sent(town: Town) -> None:
    payment = await ordered(town)
    await town.people.plan_provider_fault("YooKassa", "notice")
    await town.cabinet.pay(payment["id"])
    assert [one["state"] for one in await town.cabinet.notices()] == ["dropped"]


async def test_an_unknown_fault_is_refused(town: Town) -> None:
    with pytest.raises(SandboxError, match="one of lost, 500, notice"):
        await town.people.post("/sandbox/providers/YooKassa/faults", {"fault": "flood"})
    with pytest.raises(SandboxError, match="no such provider"):
        await town.people.plan_provider_fault("PayPal", "lost")
