"""The methods of the API: what each takes, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass

from . import rules, shapes
from .arguments import Arguments
from .currencies import ASSETS, FIATS
from .provider import Provider
from .records import Invoice
from .refusals import Refused, required
from .rules import Json

_PAGE = frozenset({"offset", "count"})
_ID_MOST = 10**15


@dataclass(frozen=True)
class Method:
    takes: frozenset[str]
    run: Callable[[Provider, Arguments], object]


def create_invoice(provider: Provider, call: Arguments) -> Json:
    return _shown(provider, provider.create_invoice(rules.invoice_draft(call)))


def get_invoices(provider: Provider, call: Arguments) -> Json:
    """Newest first. There is no filter by date and none for expired invoices."""
    found = provider.state.invoices(
        rules.page(call),
        provider.now_ms,
        asset=call.one_of("asset", ASSETS),
        fiat=call.one_of("fiat", FIATS),
        ids=call.ids("invoice_ids", most=rules.PAGE_MOST),
        status=call.one_of("status", ("active", "paid")),
    )
    return {"items": [_shown(provider, invoice) for invoice in found]}


def delete_invoice(provider: Provider, call: Arguments) -> bool:
    """A paid invoice is not found: it cannot be deleted."""
    invoice_id = call.integer("invoice_id", 1, _ID_MOST)
    if invoice_id is None:
        raise required("invoice_id")
    if not provider.state.remove_unpaid(invoice_id):
        raise Refused(400, "INVOICE_NOT_FOUND")
    return True


def transfer(provider: Provider, call: Arguments) -> Json:
    return shapes.transfer(provider.transfer(rules.transfer_draft(call)), with_spend_id=False)


def get_transfers(provider: Provider, call: Arguments) -> Json:
    found = provider.state.transfers(
        rules.page(call),
        asset=call.one_of("asset", ASSETS),
        ids=call.ids("transfer_ids", most=rules.PAGE_MOST),
        spend_id=call.text("spend_id", chars=rules.SPEND_ID_CHARS),
    )
    return {"items": [shapes.transfer(one, with_spend_id=True) for one in found]}


def get_balance(provider: Provider, _: Arguments) -> list[Json]:
    return shapes.balances(provider.state.balances())


def get_exchange_rates(provider: Provider, _: Arguments) -> list[Json]:
    return shapes.exchange_rates(provider.state.rates())


def get_currencies(_: Provider, __: Arguments) -> list[Json]:
    return shapes.currencies()


def _shown(provider: Provider, invoice: Invoice) -> Json:
    return shapes.invoice(invoice, provider.pay_url(invoice), provider.now_ms)


def _method(run: Callable[[Provider, Arguments], object], *takes: str) -> Method:
    return Method(frozenset(takes), run)


METHODS = {
    "createInvoice": _method(
        create_invoice,
        *("currency_type", "asset", "fiat", "accepted_assets", "amount", "description"),
        *("hidden_message", "paid_btn_name", "paid_btn_url", "payload", "allow_comments"),
        *("allow_anonymous", "expires_in"),
    ),
    "getInvoices": _method(get_invoices, "asset", "fiat", "invoice_ids", "status", *_PAGE),
    "deleteInvoice": _method(delete_invoice, "invoice_id"),
    "transfer": _method(
        transfer,
        *("user_id", "asset", "amount", "spend_id", "comment", "disable_send_notification"),
    ),
    "getTransfers": _method(get_transfers, "asset", "transfer_ids", "spend_id", *_PAGE),
    "getBalance": _method(get_balance),
    "getExchangeRates": _method(get_exchange_rates),
    "getCurrencies": _method(get_currencies),
}
