"""Messages of Crypto Pay's API 1.5: requests from values, values from answers. Pure.

Sources: help.send.tg, article 10279948, and answers that public clients have recorded.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from payments.domain.provider import (
    Asked,
    Balances,
    Failure,
    Finding,
    Forged,
    Hint,
    Ignored,
    Malformed,
    Notice,
    Opened,
    Payment,
    Refusal,
    SlowDown,
    State,
    Sum,
    Unknown,
    Unreadable,
)
from payments.providers.caller import Answer, json_object
from payments.providers.reading import (
    CannotReadError,
    Json,
    apart,
    clean,
    moment_of,
    optional_moment_of,
    own_text,
    readable,
    sum_of,
    text_of,
)
from shared.contracts.money import decimal_of

# Those of both networks. A name that one of them does not know would refuse every invoice.
ACCEPTED_ASSETS = "USDT,TON,BTC,ETH,LTC,BNB,TRX,USDC"
STATES: dict[str, State] = {"active": "pending", "paid": "succeeded", "expired": "canceled"}
LIFETIME_S = 24 * 3600
"""The longest life of our invoices. Listings look so far back for what was paid late."""
DESCRIPTION_CHARACTERS = 1024
PAGE = 1000
PAUSE_S = 10.0  # Crypto Pay tells none.
SIGNATURE = "crypto-pay-api-signature"
TEST_BOT = "CryptoTestnetBot"


# Requests


def invoice_body(asked: Asked) -> Json:
    """A price in fiat: the payer chooses the asset, at the rate of the moment."""
    return {
        "currency_type": "fiat",
        "fiat": asked.currency,
        "amount": decimal_of(asked.amount_minor, asked.currency),
        "accepted_assets": ACCEPTED_ASSETS,
        "description": asked.description[:DESCRIPTION_CHARACTERS],
        "payload": asked.payload,
        "paid_btn_name": "callback",
        "paid_btn_url": asked.return_url,
        "allow_comments": False,
        "expires_in": max(1, min(asked.expires_in_s, LIFETIME_S)),
    }


# Answers


def result_by(answer: Answer) -> object | Failure:
    """The result of a call that was done, or what its refusal means.

    The names of errors are not documented, except UNAUTHORIZED: only the status is decided by.
    """
    match answer.body:
        case {"ok": True, "result": done}:
            result: object = done
            return result
        case {"ok": False, "error": {"code": int(code), "name": str(name)}}:
            return _refused(code, clean(name))
        case _ if answer.status == 429:
            return SlowDown(PAUSE_S)
        case _:
            return Unknown(f"HTTP {answer.status} without an answer of Crypto Pay")


def _refused(code: int, name: str) -> Failure:
    if code == 429:
        return SlowDown(PAUSE_S)
    if 400 <= code < 500:
        return Refusal(name or str(code), f"Crypto Pay refuses: {name or code}.")
    return Unknown(f"{code} {name}")


def opened_by(invoice: object) -> Opened | Failure:
    opened = readable(opened_from, invoice, "")
    if isinstance(opened, Unreadable):
        return Unknown(f"malformed answer: {opened.sentence}")
    return opened


def opened_from(invoice: Json) -> Opened:
    url = None
    if _state_of(invoice) == "pending":
        url = text_of(invoice, "bot_invoice_url")
        if not url.startswith(("https://", "http://")):
            raise CannotReadError("malformed", "Its link is no URL.")
    return Opened(reference_of(invoice), url, optional_moment_of(invoice, "expiration_date"))


def items_of(result: object) -> list[tuple[object, str]] | Unknown:
    """The invoices of a list, each with the text that names it if it cannot be read."""
    items = result.get("items") if isinstance(result, dict) else None
    if not isinstance(items, list):
        return Unknown("malformed answer: a list without items")
    return [(one, _name_of(one)) for one in items]


def _name_of(one: object) -> str:
    number = one.get("invoice_id") if isinstance(one, dict) else None
    return str(number) if isinstance(number, int) else "unnamed"


def reference_of(invoice: Json) -> str:
    number = invoice.get("invoice_id")
    if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
        raise CannotReadError("malformed", "Its invoice_id is no number.")
    return str(number)


def payload_of(invoice: object) -> str | None:
    return own_text(invoice.get("payload")) if isinstance(invoice, dict) else None


def payment_from(invoice: Json) -> Payment:
    """The price is in the invoice's currency, the arrival in the asset that the payer chose."""
    state = _state_of(invoice)
    priced = _price_of(invoice)
    arrived, fee = _arrival_of(invoice, priced) if state == "succeeded" else (None, None)
    return Payment(
        reference=reference_of(invoice),
        state=state,
        currency=priced.currency,
        amount_minor=priced.amount_minor,
        payload=payload_of(invoice),
        created_at=moment_of(invoice, "created_at"),
        way="crypto",
        paid_at=moment_of(invoice, "paid_at") if state == "succeeded" else None,
        arrived=arrived,
        fee=fee,
        cancel_reason="expired" if state == "canceled" else None,
    )


def _state_of(invoice: Json) -> State:
    state = STATES.get(text_of(invoice, "status"))
    if state is None:
        raise CannotReadError("malformed", "Its status is unknown.")
    return state


def _price_of(invoice: Json) -> Sum:
    is_fiat = invoice.get("currency_type") == "fiat"
    return sum_of(invoice.get("amount"), invoice.get("fiat" if is_fiat else "asset"))


def _arrival_of(invoice: Json, priced: Sum) -> tuple[Sum | None, Sum | None]:
    """The sum that the app got, and the fee. Neither is told of a payment that was swapped."""
    if invoice.get("is_swapped"):
        return None, None
    if invoice.get("paid_amount") is not None:
        paid = sum_of(invoice.get("paid_amount"), invoice.get("paid_asset"))
    elif invoice.get("currency_type") == "crypto":
        paid = priced
    else:
        raise CannotReadError("malformed", "It is paid, and its paid_amount is missing.")
    if invoice.get("fee_amount") is None:
        return None, None
    fee = sum_of(invoice.get("fee_amount"), invoice.get("fee_asset"))
    if fee.currency != paid.currency or fee.amount_minor > paid.amount_minor:
        raise CannotReadError("malformed", "Its fee is more than was paid, or in another asset.")
    return Sum(paid.currency, paid.amount_minor - fee.amount_minor), fee


def is_oldest_first(invoices: Sequence[object]) -> bool:
    """Whether a page is in the wrong order for a walk that ends at the window's edge.

    The order is not documented. It was seen to be newest first.
    """
    if len(invoices) < 2:
        return False
    first, last = invoices[0], invoices[-1]
    return all(_at(first, name) < _at(last, name) for name in ("created_at", "paid_at"))


def _at(invoice: object, name: str) -> str:
    """A time as text, which sorts as it is written. Both times of an unpaid invoice are one."""
    if not isinstance(invoice, dict):
        return ""
    return str(invoice.get(name) or invoice.get("created_at") or "")


def made_before(invoice: object, at: datetime) -> bool:
    """Whether it was surely made before this time."""
    made = readable(lambda fields: moment_of(fields, "created_at"), invoice, "")
    return isinstance(made, datetime) and made < at


def balances_from(result: object) -> Balances | Unknown:
    """Of each asset what is available and on hold. A dust of more digits than ours is unreadable.

    An asset that we do not know counts only where there is any of it.
    """
    if not isinstance(result, list):
        return Unknown("malformed answer: a balance that is no list")
    held = [readable(_held_of, one, _asset_of(one)) for one in result if not _is_nothing(one)]
    sums, unreadable = apart(held)
    return Balances(tuple(sums), tuple(unreadable))


def _held_of(one: Json) -> Sum:
    available = sum_of(one.get("available"), one.get("currency_code"))
    on_hold = sum_of(one.get("onhold"), available.currency)
    return Sum(available.currency, available.amount_minor + on_hold.amount_minor)


def _asset_of(one: object) -> str:
    code = one.get("currency_code") if isinstance(one, dict) else None
    return clean(code) if isinstance(code, str) and code else "unnamed"


def _is_nothing(one: object) -> bool:
    parts = (one.get("available"), one.get("onhold")) if isinstance(one, dict) else ()
    return bool(parts) and all(re.fullmatch(r"0+(\.0*)?", str(part)) for part in parts)


# Notices


def is_signed(headers: Mapping[str, str], body: bytes, token: str) -> bool:
    """HMAC-SHA256 of the raw body, by the SHA-256 of the token. Compared in constant time."""
    given = next((value for name, value in headers.items() if name.lower() == SIGNATURE), "")
    key = hashlib.sha256(token.encode()).digest()
    wanted = hmac.new(key, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), given.lower().encode())


def notice_from(body: bytes, headers: Mapping[str, str], token: str) -> Notice:
    if not is_signed(headers, body, token):
        return Forged("its signature is not by our token")
    match json_object(body):
        case {"update_type": "invoice_paid", "payload": dict(invoice)}:
            reference = readable(reference_of, invoice, "")
            return Hint(reference) if isinstance(reference, str) else Malformed(reference.sentence)
        case {"update_type": str(kind)} if kind != "invoice_paid":
            return Ignored(clean(kind))
        case _:
            return Malformed("no update of Crypto Pay")


# The start


def findings_from(me: object | Failure) -> tuple[Finding, ...]:
    """Findings about the app, for an operator. One that blocks means that nobody can pay."""
    if isinstance(me, Refusal):
        return (Finding(f"Crypto Pay refuses TURNPIKE_CRYPTOBOT_TOKEN: {me.code}.", blocks=True),)
    if not isinstance(me, dict):
        return (Finding("Crypto Pay did not answer at the start.", blocks=False),)
    if me.get("payment_processing_bot_username") == TEST_BOT:
        return (Finding("The app of Crypto Pay is in the test network.", blocks=False),)
    return ()
