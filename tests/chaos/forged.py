"""Row 25: forged notices and updates. Nothing is booked that a provider has not taken."""

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp

from tests.chaos.load import Purchase
from tests.chaos.trial import Trial
from tests.kit.acquirers import Way
from turnpike_local.providers import webhook_of

SIGNATURE = "crypto-pay-api-signature"
OTHER_TOKEN = "100501:another"
OUR_NETWORK, FOREIGN_SENDER, GENUINE_SENDER = "127.0.0.0/8", "203.0.113.9", "77.75.153.10"
REFUSED = 401

RECEIPTS = "select charge from payments.receipts where charge = any($1::text[])"
STATES = "select state from payments.orders where id = any($1::uuid[]) and state = 'paid'"


class Forgery(NamedTuple):
    """A request, and the statuses that it may get."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    statuses: frozenset[int]


async def forged_notices(trial: Trial) -> None:
    """25 (R-08, R-09, R-120, M-22): signature, secret, sender, amount, currency, another's payload.

    A notice that nobody can tell from a true one is a hint: its payment is read back, and is not
    paid. One about a true payment tells another amount, currency and order, and the true ones are
    booked. The load goes on meanwhile.
    """
    shop = trial.shop
    unpaid = await _opened(trial, trial.size(30, 6))
    told = await _opened(trial, trial.size(30, 6))
    purchases = await trial.load.place_orders(trial.size(400, 100))
    await shop.start("payments+1", TURNPIKE_TRUSTED_PROXIES=OUR_NETWORK)
    await shop.start("bot", TURNPIKE_TELEGRAM_MODE="webhook")
    paying = asyncio.create_task(trial.pay([*told, *purchases]))
    forgeries = [
        *_of_yookassa(trial, unpaid, told),
        *_of_cryptobot(trial, unpaid),
        *_of_telegram(trial, unpaid),
    ]
    trial.random.shuffle(forgeries)
    answers = await _posted(forgeries)
    await paying
    await trial.expect_quiescent("the shop after the forgeries")
    booked = await shop.fetch(RECEIPTS, [one.reference for one in unpaid])
    trial.expect(f"nothing is booked of a forgery: {booked}", not booked)
    bought = await shop.fetch(STATES, [one.invoice.order for one in unpaid])
    trial.expect(f"no order is paid by a forgery: {bought}", not bought)
    await shop.stop("payments+1")
    del shop.services["payments+1"]
    await shop.start("bot")
    wrong = [(one.url, status) for one, status in answers if status not in one.statuses]
    trial.expect(f"each forgery is refused, or a hint: {wrong[:3]}", not wrong)
    statuses = dict(sorted(Counter(status for _, status in answers).items()))
    trial.faults.append(f"{len(forgeries)} forged notices and updates, answered {statuses}")


async def _opened(trial: Trial, count: int) -> list[Purchase]:
    """Open invoices, half of them at each provider."""
    ways: tuple[Way, ...] = ("sbp", "crypto")
    placed = [
        Purchase(buyer, await trial.load.place_order(buyer, way=ways[place % 2]), "right")
        for place, buyer in enumerate(trial.load.next_buyers(count))
    ]
    return await trial.load.opened(placed)


def _of_yookassa(
    trial: Trial, unpaid: Sequence[Purchase], told: Sequence[Purchase]
) -> list[Forgery]:
    """It signs nothing, so only a sender outside of its networks is refused."""
    plain = webhook_of("yookassa", trial.shop.services["payments"].url)
    behind_proxy = webhook_of("yookassa", trial.shop.services["payments+1"].url)
    named = [one for one in unpaid if one.acquirer == "yookassa"]
    forgeries = []
    for one in named:
        body = _payment(one.reference, one.invoice.payload, one.invoice.asked_minor)
        invented = _payment(str(uuid4()), one.invoice.payload, one.invoice.asked_minor)
        forgeries += [
            Forgery(plain, body, {}, frozenset({200})),
            Forgery(plain, invented, {}, frozenset({200})),
            Forgery(behind_proxy, body, {"X-Forwarded-For": FOREIGN_SENDER}, frozenset({REFUSED})),
            Forgery(behind_proxy, body, {"X-Forwarded-For": GENUINE_SENDER}, frozenset({200})),
        ]
    for one, other in zip((one for one in told if one.acquirer == "yookassa"), named, strict=False):
        body = _payment(one.reference, other.invoice.payload, 1, "USD")
        forgeries.append(Forgery(plain, body, {}, frozenset({200})))
    return forgeries


def _payment(reference: str, payload: str, amount_minor: int, currency: str = "RUB") -> bytes:
    amount = {"value": f"{amount_minor // 100}.{amount_minor % 100:02}", "currency": currency}
    payment = {
        "id": reference,
        "status": "succeeded",
        "paid": True,
        "amount": amount,
        "income_amount": amount,
        "metadata": {"payload": payload},
    }
    told = {"type": "notification", "event": "payment.succeeded", "object": payment}
    return json.dumps(told).encode()


def _of_cryptobot(trial: Trial, unpaid: Sequence[Purchase]) -> list[Forgery]:
    """Without our token nobody can sign: none, another's, or that of another body."""
    url = webhook_of("cryptobot", trial.shop.services["payments"].url)
    forgeries = []
    for one in (one for one in unpaid if one.acquirer == "cryptobot"):
        body = _invoice(one, one.invoice.asked_minor)
        signatures = (None, "0" * 64, _signed(body), _signed(_invoice(one, 1)))
        for signature in signatures:
            headers = {SIGNATURE: signature} if signature else {}
            forgeries.append(Forgery(url, body, headers, frozenset({REFUSED})))
    return forgeries


def _invoice(one: Purchase, amount_minor: int) -> bytes:
    invoice = {
        "invoice_id": int(one.reference),
        "status": "paid",
        "amount": f"{amount_minor // 100}.{amount_minor % 100:02}",
        "payload": one.invoice.payload,
    }
    return json.dumps({"update_type": "invoice_paid", "payload": invoice}).encode()


def _signed(body: bytes) -> str:
    key = hashlib.sha256(OTHER_TOKEN.encode()).digest()
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def _of_telegram(trial: Trial, unpaid: Sequence[Purchase]) -> list[Forgery]:
    """Updates about charges that Telegram never made, without the webhook's secret."""
    url = f"{trial.shop.services['bot'].url}/telegram"
    return [
        Forgery(url, _update(one, place), headers, frozenset({REFUSED}))
        for place, one in enumerate(unpaid)
        for headers in ({}, {"X-Telegram-Bot-Api-Secret-Token": "guessed"})
    ]


def _update(one: Purchase, place: int) -> bytes:
    chat: dict[str, Any] = {"id": one.buyer.chat, "type": "private", "first_name": "Somebody"}
    payment = {
        "currency": "XTR",
        "total_amount": 99,
        "invoice_payload": one.invoice.payload,
        "telegram_payment_charge_id": f"forged{uuid4().hex}",
        "provider_payment_charge_id": "",
    }
    message = {
        "message_id": 1,
        "date": 0,
        "chat": chat,
        "from": chat | {"is_bot": False},
        "successful_payment": payment,
    }
    return json.dumps({"update_id": 2_000_000_000 + place, "message": message}).encode()


async def _posted(forgeries: Sequence[Forgery]) -> list[tuple[Forgery, int]]:
    async with aiohttp.ClientSession() as session:

        async def post(one: Forgery) -> tuple[Forgery, int]:
            headers = {"Content-Type": "application/json", **one.headers}
            async with session.post(one.url, data=one.body, headers=headers) as answer:
                return one, answer.status

        return list(await asyncio.gather(*(post(one) for one in forgeries)))
