"""The objects of the API, as JSON. A field without a value is left out."""

from decimal import Decimal

from turnpike_local.standin.clock import iso

from .amounts import rounded, written
from .currencies import ASSETS, FIAT_PLACES, FIATS, Fiat
from .records import Invoice, Payment, Rate, Transfer
from .rules import Json

BOT_USERNAME = "CryptoTestnetBot"


def app(token: str) -> Json:
    return {
        "app_id": int(token.partition(":")[0]),
        "name": "Turnpike",
        "payment_processing_bot_username": BOT_USERNAME,
    }


def invoice(one: Invoice, pay_url: str, now_ms: int) -> Json:
    """The deprecated `pay_url`, `fee` and `usd_rate` are left out: nobody may rely on them."""
    draft = one.draft
    fields: Json = {
        "invoice_id": one.invoice_id,
        "hash": one.hash,
        "currency_type": "fiat" if draft.is_fiat else "crypto",
        "fiat" if draft.is_fiat else "asset": draft.currency,
        "amount": draft.amount,
        "accepted_assets": list(draft.accepted_assets) if draft.is_fiat else None,
        **{f"{kind}_invoice_url": pay_url for kind in ("bot", "mini_app", "web_app")},
        "description": draft.description,
        "status": one.status(now_ms),
        "created_at": iso(one.created_at_ms),
        "allow_comments": draft.allow_comments,
        "allow_anonymous": draft.allow_anonymous,
        "expiration_date": None if one.expires_at_ms is None else iso(one.expires_at_ms),
        "hidden_message": draft.hidden_message,
        "payload": draft.payload,
        "paid_btn_name": draft.paid_btn_name,
        "paid_btn_url": draft.paid_btn_url,
    }
    if one.payment is not None:
        fields |= _payment(one.payment)
    return {name: field for name, field in fields.items() if field is not None}


def _payment(payment: Payment) -> Json:
    fields: Json = {
        "fee_asset": payment.asset,
        "fee_amount": payment.fee_amount,
        "fee_in_usd": payment.fee_in_usd,
        "paid_usd_rate": payment.usd_rate,
        "paid_at": iso(payment.paid_at_ms),
        "paid_anonymously": payment.anonymously,
        "comment": payment.comment,
    }
    if payment.fiat_rate is None:
        return fields
    return fields | {
        "paid_asset": payment.asset,
        "paid_amount": payment.amount,
        "paid_fiat_rate": payment.fiat_rate,
    }


def transfer(one: Transfer, *, with_spend_id: bool) -> Json:
    """The answer of `transfer` has no `spend_id`; only getTransfers tells it."""
    return {
        "transfer_id": one.transfer_id,
        **({"spend_id": one.spend_id} if with_spend_id else {}),
        "user_id": one.user_id,
        "asset": one.asset,
        "amount": written(one.amount),
        "status": "completed",
        "completed_at": iso(one.completed_at_ms),
        **({"comment": one.comment} if one.comment is not None else {}),
    }


def balances(available: dict[str, Decimal]) -> list[Json]:
    return [
        {
            "currency_code": code,
            "available": written(available.get(code, Decimal(0))),
            "onhold": "0",
        }
        for code in ASSETS
    ]


def exchange_rates(rates: dict[str, Rate]) -> list[Json]:
    return [
        {
            "is_valid": rates[code].is_valid,
            "is_crypto": True,
            "is_fiat": False,
            "source": code,
            "target": fiat.code,
            "rate": written(in_fiat(rates[code], fiat)),
        }
        for code in ASSETS
        for fiat in FIATS.values()
    ]


def in_fiat(rate: Rate, fiat: Fiat) -> Decimal:
    return rounded(rate.usd * fiat.per_usd)


def currencies() -> list[Json]:
    assets = [
        {
            "is_blockchain": asset.is_blockchain,
            "is_stablecoin": asset.is_stablecoin,
            "is_fiat": False,
            "name": asset.name,
            "code": asset.code,
            "url": asset.url,
            "decimals": asset.decimals,
        }
        for asset in ASSETS.values()
    ]
    fiats = [
        {
            "is_blockchain": False,
            "is_stablecoin": False,
            "is_fiat": True,
            "name": fiat.name,
            "code": fiat.code,
            "decimals": FIAT_PLACES,
        }
        for fiat in FIATS.values()
    ]
    return [*assets, *fiats]
