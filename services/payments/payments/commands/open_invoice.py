"""Opens an invoice: asks for the money that an order lacks, in one way to pay."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import get_args

from payments.domain.checkout import WITHOUT_KEYS, refused_for
from payments.domain.confirmation import Order
from payments.domain.fiscal import Split, Terms, is_full_payment
from payments.domain.ledger import Holdings
from payments.domain.saved_methods import SavedMethod, may_save, reason_of_charge
from payments.store import catalogue, fiscal, invoice_jobs, orders, receipt_emails, saved_methods
from payments.store.orders import Asked
from shared.contracts.message import Refused, derived_id
from shared.contracts.money import stars_for
from shared.contracts.payload import write_payload
from shared.contracts.payments import InvoiceRefusedReason, OpenedInvoice, OpenInvoice, Way
from shared.platform.db import Row, Tx

INVOICE_LIVES_FOR = timedelta(minutes=30)
SHORTEST = timedelta(seconds=60)
"""An open invoice with less time left is replaced, and no order with less is asked for."""


NO_RECEIPTS: Mapping[str, Terms] = {}


async def open_invoice(
    command: OpenInvoice,
    tx: Tx,
    *,
    providers: Collection[str] = (),
    telegram: Collection[str] = WITHOUT_KEYS,
    ring: Callable[[], None] | None = None,
    receipts: Mapping[str, Terms] = NO_RECEIPTS,
    asks_email: bool = False,
    saves: Collection[str] = (),
) -> OpenedInvoice | Refused:
    """Open an invoice for the missing amount, or answer the present one that asks for it.

    Each invoice is charged once, so a part-paid order needs another. Two taps get one invoice.
    `providers` are the outside providers that the shop has an account with. An invoice of theirs
    is asked for by a job, and `ring` tells its worker. Those in `receipts` register a receipt for
    the tax office with each payment, and those in `saves` may save methods and charge them. For
    `telegram` bot-gateway makes the invoice. `asks_email`: a person is asked once where receipts
    go.
    """
    method = None
    if command.way not in get_args(Way):
        method = await saved_methods.named(command.person, command.way, tx)
        if method is None:
            return Refused(reason="method_unknown")
    way = await catalogue.way_of(method.way if method else command.way, tx)
    if way is None or way["acquirer"] not in {*telegram, *providers}:
        return Refused(reason="way_closed")
    if method is not None and not charges(method, way["acquirer"], saves):
        return Refused(reason="way_closed")
    order, price_stars, too_old = await orders.to_pay(command.order, SHORTEST, tx)
    if refusal := refused_for(command.person, order, too_old=too_old):
        return Refused(reason=refusal)
    assert order is not None, "an unknown order is refused"
    if await orders.being_booked(command.charged, command.order, tx):
        return Refused(reason="being_booked")
    holdings = await orders.held(order.person, tx)
    missing_minor = missing_of(order, holdings, from_balance=command.from_balance)
    if missing_minor <= 0:
        return Refused(reason="nothing_missing")
    asked = asked_for(missing_minor, order, price_stars, way)
    if asked is None:
        return Refused(reason="way_closed")
    if asked.amount_minor > way["most_minor"]:
        return Refused(reason="too_much")
    order = replace(order, from_balance=command.from_balance)
    if method is not None:
        asked = replace(asked, method=method.id)
        if charge := await orders.charge_under_way(order.id, tx):
            return answer_of(order, asked_in(charge), charge)
        if await orders.charged_elsewhere(order, tx):
            return Refused(reason="being_charged")
        if command.most_minor is not None and asked.amount_minor > command.most_minor:
            return Refused(reason="dearer")
    elif may_save(asked.acquirer, asked.way, saves):
        asked = replace(asked, saves=command.remember)
    terms = receipts.get(asked.acquirer)
    if terms and asks_email:
        given = await receipt_emails.answer_of(order.person, tx)
        if given is None:
            return Refused(reason="email_wanted")
        terms = terms._replace(email=given[0] or terms.email)
    await orders.reopen(order.id, tx, from_balance=command.from_balance)
    present = await orders.newest_invoice(order.id, tx)
    if present and is_the_same(present, asked):
        return answer_of(order, asked, present)
    invoice = derived_id("invoice", command.id)
    outside = asked.acquirer in providers
    state = "asking" if outside else "open"
    opened = await orders.insert_invoice(invoice, order.id, asked, state, INVOICE_LIVES_FOR, tx)
    if outside:
        await invoice_jobs.insert(invoice, asked.acquirer, tx)
        if terms:
            parts = items_of(order, asked.amount_minor)
            named = invoice, asked.acquirer, order.person, order.id
            await fiscal.ask(*named, parts, terms, tx)
        if method is not None:
            await saved_methods.used(method.id, tx)
        if ring is not None:
            tx.after_commit(ring)
    return answer_of(order, asked, opened)


def charges(method: SavedMethod, acquirer: str, saves: Collection[str]) -> bool:
    """Whether this method can be charged now: by the acquirer that saved it."""
    return method.acquirer == acquirer and may_save(acquirer, method.way, saves)


def asked_in(row: Row, *, saves: bool | None = None) -> Asked:
    """What an invoice asks for, by its row."""
    amounts = row["asked_minor"], row["asked_currency"], row["worth_minor"]
    return Asked(row["way"], row["acquirer"], *amounts, saves, row["saved_method"])


def items_of(order: Order, amount_minor: int) -> Split:
    """The price of an order is a service that is paid in full; all else is an advance."""
    whole = is_full_payment(order, amount_minor)
    return Split(amount_minor, 0) if whole else Split(0, amount_minor)


def missing_of(order: Order, holdings: Holdings, *, from_balance: bool) -> int:
    """In kopecks. A top-up lacks its amount until money for it came."""
    if order.what == "topup":
        return order.price_minor
    return replace(order, from_balance=from_balance).missing_from(holdings, order.received_minor)


def asked_for(missing_minor: int, order: Order, price_stars: int | None, way: Row) -> Asked | None:
    """At least the least amount of the way: money above the price stays in the wallet.

    None where the order has no price in Stars.
    """
    kind = way["way"], way["acquirer"]
    if way["currency"] == "RUB":
        amount_minor = max(missing_minor, way["least_minor"])
        return Asked(*kind, amount_minor, "RUB", amount_minor)
    if price_stars is None:
        return None
    amount_minor = stars_for(missing_minor, order.price_minor, price_stars)
    return Asked(*kind, amount_minor, way["currency"], missing_minor)


def is_the_same(present: Row, asked: Asked) -> bool:
    """Whether the present invoice asks for the same, is unpaid, and lives long enough."""
    return bool(
        present["state"] in ("asking", "open")
        and present["received_minor"] == 0
        and (present["way"], present["asked_minor"]) == (asked.way, asked.amount_minor)
        and present["worth_minor"] == asked.worth_minor
        and present["saved_method"] == asked.method
        and present["saves_method"] == (asked.saves is True)
        and present["expires_in_s"] >= SHORTEST.total_seconds()
    )


def answer_of(order: Order, asked: Asked, opened: Row) -> OpenedInvoice:
    """`opened` is the row of the invoice."""
    terms = order.terms
    return OpenedInvoice(
        order=order.id,
        invoice=opened["id"],
        what=order.what,
        plan=terms.plan if terms else None,
        months=terms.months if terms else None,
        list_month_minor=terms.list_month_minor if terms else None,
        price_minor=order.price_minor,
        payload=write_payload(order.id, opened["id"], order.trace),
        way=asked.way,
        asked_minor=asked.amount_minor,
        currency=asked.currency,
        worth_minor=asked.worth_minor,
        state=opened["state"],
        pay_url=opened["pay_url"],
        expires_at=opened["expires_at"],
        expires_in_s=opened["expires_in_s"],
        from_balance=order.from_balance,
        remembers=asked.saves,
        charges=asked.method is not None,
        refused=refused_charge(asked, opened),
    )


def refused_charge(asked: Asked, opened: Row) -> InvoiceRefusedReason | None:
    """Why the saved method was not charged. None while nobody knows, and for other invoices."""
    if asked.method is None or opened["state"] != "expired":
        return None
    return reason_of_charge(opened["reason"] or "refused")
