"""Doors for questions and commands: what is sold, may it be charged, what is held, what became of it; an order."""

from contextlib import suppress
from itertools import groupby
from uuid import UUID

from payments.confirmation import Charge, Offer, ids_in, may_charge, payload_of
from payments.store import payment, placing, shown
from shared import telemetry
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused, derived_id
from shared.db import Database, Row, Tx
from shared.inspection import (
    AskPayment,
    AskPayments,
    EntrySeen,
    InvoiceSeen,
    OrderSeen,
    Payment,
    PaymentLine,
    PaymentLines,
    ReceiptSeen,
    TransferSeen,
)
from shared.questions import (
    AskBalance,
    AskBook,
    AskCheckout,
    AskPlans,
    AskReceipts,
    Balance,
    BalanceLine,
    Book,
    BookLine,
    Checkout,
    Plan,
    Plans,
    Price,
    ReceiptLine,
    Receipts,
)

ACQUIRERS = ("telegram_stars", "telegram_card")
MOST_OF_ONE_ORDER = 100
MOST_OF_ONE_PERSON = 20


async def answer_plans(_: AskPlans, database: Database) -> Plans:
    rows = await shown.plans(database)
    plans = [plan_from(list(group)) for _, group in groupby(rows, key=lambda row: row["plan"])]
    return Plans(plans=tuple(plans), ways=("stars",))


def plan_from(rows: list[Row]) -> Plan:
    prices = tuple(Price(months=row["months"], price_minor=row["price_minor"], stars=row["stars"]) for row in rows)
    first = rows[0]
    return Plan(plan=first["plan"], devices=first["devices"], traffic_bytes=first["traffic_bytes"], prices=prices)


async def place_order(command: PlaceOrder, tx: Tx) -> Invoice | Refused:
    """Freeze today's price and open an invoice for it. The order takes the command's id, and its story's trace."""
    price = await placing.price_of(command.plan, command.months, tx)
    if price is None:
        return Refused(reason="plan_unknown", detail=f"{command.plan} for {command.months} months is not on sale")
    order, invoice, trace = command.id, derived_id("invoice", command.id), telemetry.current_trace()
    await placing.insert_order(order, command.person, price, trace, tx)
    opened = await placing.insert_invoice(invoice, order, command.way, price["stars"], "XTR", tx)
    return Invoice(
        order=order,
        invoice=invoice,
        payload=payload_of(order, invoice, trace),
        plan=price["plan"],
        months=price["months"],
        price_minor=price["price_minor"],
        list_month_minor=price["list_month_minor"],
        asked_minor=price["stars"],
        currency="XTR",
        expires_at=opened["expires_at"],
        expires_in_s=opened["expires_in_s"],
    )


async def answer_checkout(question: AskCheckout, database: Database) -> Checkout:
    """Yes only for the open, unexpired, newest invoice of an open order of that person, at its amount and currency."""
    order, invoice = ids_in(question.payload)
    row = await shown.invoice_for_checkout(invoice, order, database) if order and invoice else None
    offer = Offer(**row) if row else None
    reason = may_charge(Charge(question.payer, question.currency, question.amount_minor), offer)
    return Checkout(ok=reason is None, reason=reason)


async def answer_balance(question: AskBalance, database: Database) -> Balance:
    held = await shown.balances_of(question.person, database)
    earned_minor = held.get("earned", 0)
    young_minor = await shown.young_rewards_of(question.person, database)
    lines = [
        BalanceLine(at=row["at"], reason=row["reason"], amount_minor=row["amount_minor"])
        for row in await shown.lines_of(question.person, database)
    ]
    return Balance(
        wallet_minor=held.get("wallet", 0),
        earned_minor=earned_minor,
        owed_minor=-held.get("owed", 0),
        withdrawable_minor=max(0, earned_minor - young_minor),
        lines=tuple(lines),
    )


async def answer_receipts(question: AskReceipts, database: Database) -> Receipts:
    rows = await shown.receipts_of(question.person, database)
    return Receipts(lines=tuple(ReceiptLine(**dict(row)) for row in rows))


async def answer_book(_: AskBook, database: Database) -> Book:
    lines = [
        BookLine(account=row["kind"], currency=row["currency"], amount_minor=int(row["amount_minor"]))
        for row in await shown.book_lines(database)
    ]
    return Book(lines=tuple(lines))


async def answer_payment(question: AskPayment, database: Database) -> Payment | Refused:
    """Whatever names it: the order with all that came for it, or money that came for none."""
    ids = ids_named(question.named)
    orders = await payment.orders_named(ids, database)
    receipts = await receipts_of(question.named, ids, orders, database)
    orders = orders or [row["order_id"] for row in receipts if row["order_id"]]
    if orders:
        receipts = await receipts_of("", [], orders[:1], database)
    elif not receipts:
        return Refused(reason="payment_unknown")
    order = await payment.order(orders[0], database) if orders else None
    invoices = await payment.invoices(orders[0], MOST_OF_ONE_ORDER, database) if orders else []
    causes = [f"order:{orders[0]}"] if orders else []
    for row in receipts:
        causes += [f"{row['acquirer']}:{row['charge']}", f"reward:{row['receipt']}"]
    return Payment(
        order=OrderSeen(**dict(order)) if order else None,
        invoices=tuple(InvoiceSeen(**dict(row)) for row in invoices),
        receipts=tuple(ReceiptSeen(**dict(row)) for row in receipts),
        transfers=transfers_from(await payment.transfers(causes, database)),
    )


async def receipts_of(charge: str, ids: list[UUID], orders: list[UUID], database: Database) -> list[Row]:
    acquirer, colon, rest = charge.partition(":")
    acquirers, charge = ((acquirer,), rest) if colon and acquirer in ACQUIRERS else (ACQUIRERS, charge)
    return await payment.receipts(ids, acquirers, charge, orders, MOST_OF_ONE_ORDER, database)


def ids_named(named: str) -> list[UUID]:
    """The ids in a payload, or the one that it is."""
    order, invoice = ids_in(named)
    if order and invoice:
        return [order, invoice]
    with suppress(ValueError):
        return [UUID(named)]
    return []


def transfers_from(rows: list[Row]) -> tuple[TransferSeen, ...]:
    transfers = []
    for _, group in groupby(rows, key=lambda row: row["transfer"]):
        entries = list(group)
        seen = tuple(EntrySeen(**{name: row[name] for name in EntrySeen.model_fields}) for row in entries)
        own = {name: entries[0][name] for name in ("transfer", "cause", "reason", "person", "at")}
        transfers.append(TransferSeen(**own, entries=seen))
    return tuple(transfers)


async def answer_payments(question: AskPayments, database: Database) -> PaymentLines:
    rows = await payment.payments_of(question.person, MOST_OF_ONE_PERSON, database)
    return PaymentLines(payments=tuple(PaymentLine(**dict(row)) for row in rows))
