"""Crypto Pay's refusals, and what a call must look like, as functions of values."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from . import amounts
from .arguments import Arguments
from .currencies import ASSETS, FIAT_PLACES, FIATS
from .refusals import Refused, invalid, required

Json = dict[str, Any]

DESCRIPTION_CHARS = 1024
HIDDEN_MESSAGE_CHARS = 2048
COMMENT_CHARS = 1024
PAYLOAD_BYTES = 4096
URL_CHARS = 2048
SPEND_ID_CHARS = 64
EXPIRES_IN_MOST_S = 2_678_400
PAGE_MOST = 1000
PAGE = 100
PAID_BUTTONS = ("viewItem", "openChannel", "openBot", "callback")
_OFFSET_MOST = 10**9
_USER_ID_MOST = 2**52
_LINK = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class InvoiceDraft:
    """What createInvoice was asked for. `currency` is an asset, or a fiat currency if `is_fiat`."""

    is_fiat: bool
    currency: str
    amount: str
    accepted_assets: tuple[str, ...]
    description: str | None
    hidden_message: str | None
    payload: str | None
    paid_btn_name: str | None
    paid_btn_url: str | None
    allow_comments: bool
    allow_anonymous: bool
    expires_in_s: int | None


@dataclass(frozen=True)
class TransferDraft:
    """What transfer was asked for."""

    user_id: int
    asset: str
    amount: Decimal
    spend_id: str
    comment: str | None


@dataclass(frozen=True)
class Page:
    """A part of a list, newest first."""

    offset: int
    count: int


def invoice_draft(call: Arguments) -> InvoiceDraft:
    """Raises `Refused` with the name of the first parameter that is wrong."""
    is_fiat = (call.one_of("currency_type", ("crypto", "fiat")) or "crypto") == "fiat"
    currency, places = _fiat(call) if is_fiat else _asset_only(call)
    name, url = _paid_button(call)
    return InvoiceDraft(
        is_fiat=is_fiat,
        currency=currency,
        amount=amounts.written(_amount(call, places)),
        accepted_assets=_accepted(call) if is_fiat else (currency,),
        description=call.text("description", chars=DESCRIPTION_CHARS),
        hidden_message=call.text("hidden_message", chars=HIDDEN_MESSAGE_CHARS),
        payload=_payload(call),
        paid_btn_name=name,
        paid_btn_url=url,
        allow_comments=call.flag("allow_comments", default=True),
        allow_anonymous=call.flag("allow_anonymous", default=True),
        expires_in_s=call.integer("expires_in", 1, EXPIRES_IN_MOST_S),
    )


def transfer_draft(call: Arguments) -> TransferDraft:
    user_id = call.integer("user_id", 1, _USER_ID_MOST)
    if user_id is None:
        raise required("user_id")
    asset = _asset(call)
    spend_id = call.text("spend_id", chars=SPEND_ID_CHARS)
    if spend_id is None:
        raise required("spend_id")
    call.flag("disable_send_notification", default=False)  # Nobody is notified here.
    amount = _amount(call, ASSETS[asset].places)
    return TransferDraft(
        user_id, asset, amount, spend_id, call.text("comment", chars=COMMENT_CHARS)
    )


def page(call: Arguments) -> Page:
    offset = call.integer("offset", 0, _OFFSET_MOST)
    return Page(offset or 0, call.integer("count", 1, PAGE_MOST) or PAGE)


def check_usd(usd: Decimal, least: Decimal, most: Decimal) -> None:
    """Limits hold in USD, at the rate of the moment."""
    if usd < least:
        raise Refused(400, "AMOUNT_TOO_SMALL")
    if usd > most:
        raise Refused(400, "AMOUNT_TOO_BIG")


def _fiat(call: Arguments) -> tuple[str, int]:
    if call.has("asset"):
        raise invalid("asset")
    fiat = call.one_of("fiat", FIATS)
    if fiat is None:
        raise required("fiat")
    return fiat, FIAT_PLACES


def _asset_only(call: Arguments) -> tuple[str, int]:
    for name in ("fiat", "accepted_assets"):
        if call.has(name):
            raise invalid(name)
    asset = _asset(call)
    return asset, ASSETS[asset].places


def _asset(call: Arguments) -> str:
    asset = call.one_of("asset", ASSETS)
    if asset is None:
        raise required("asset")
    return asset


def _accepted(call: Arguments) -> tuple[str, ...]:
    accepted = call.listed("accepted_assets", most=len(ASSETS))
    if not set(accepted) <= set(ASSETS) or len(set(accepted)) < len(accepted):
        raise invalid("accepted_assets")
    return tuple(accepted) or tuple(ASSETS)


def _amount(call: Arguments, places: int) -> Decimal:
    """A number in JSON is refused: whoever makes it from a float loses digits before us."""
    given = call.string("amount")
    if given is None:
        raise required("amount")
    amount = amounts.parsed(given, places)
    if amount is None:
        raise invalid("amount")
    return amount


def _payload(call: Arguments) -> str | None:
    payload = call.text("payload", chars=PAYLOAD_BYTES)
    if payload is not None and len(payload.encode()) > PAYLOAD_BYTES:
        raise invalid("payload")
    return payload


def _paid_button(call: Arguments) -> tuple[str | None, str | None]:
    name = call.one_of("paid_btn_name", PAID_BUTTONS)
    url = call.text("paid_btn_url", chars=URL_CHARS)
    if name is not None and url is None:
        raise required("paid_btn_url")
    if url is not None and name is None:
        raise required("paid_btn_name")
    if url is not None and not _LINK.fullmatch(url):
        raise invalid("paid_btn_url")
    return name, url


InvoiceStatus = Literal["active", "paid", "expired"]
