"""Doors for questions and commands: what is sold, may it be charged, what is held, and placing an order."""

from itertools import groupby

from payments import store
from payments.confirmation import Charge, Offer, ids_in, may_charge, payload_of
from shared import telemetry
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused, derived_id
from shared.db import Database, Row, Tx
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


async def answer_plans(_: AskPlans, database: Database) -> Plans:
    rows = await store.plans(database)
    plans = [plan_from(list(group)) for _, group in groupby(rows, key=lambda row: row["plan"])]
    return Plans(plans=tuple(plans), ways=("stars",))


def plan_from(rows: list[Row]) -> Plan:
    prices = tuple(Price(months=row["months"], price_minor=row["price_minor"], stars=row["stars"]) for row in rows)
    first = rows[0]
    return Plan(plan=first["plan"], devices=first["devices"], traffic_bytes=first["traffic_bytes"], prices=prices)


async def place_order(command: PlaceOrder, tx: Tx) -> Invoice | Refused:
    """Freeze today's price and open an invoice for it. The order takes the command's id, and its story's trace."""
    price = await store.price_of(command.plan, command.months, tx)
    if price is None:
        return Refused(reason="plan_unknown", detail=f"{command.plan} for {command.months} months is not on sale")
    order, invoice, trace = command.id, derived_id("invoice", command.id), telemetry.current_trace()
    await store.insert_order(order, command.person, price, trace, tx)
    opened = await store.insert_invoice(invoice, order, command.way, price["stars"], "XTR", tx)
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
    row = await store.invoice_for_checkout(invoice, order, database) if order and invoice else None
    offer = Offer(**row) if row else None
    reason = may_charge(Charge(question.payer, question.currency, question.amount_minor), offer)
    return Checkout(ok=reason is None, reason=reason)


async def answer_balance(question: AskBalance, database: Database) -> Balance:
    held = await store.balances_of(question.person, database)
    earned_minor = held.get("earned", 0)
    young_minor = await store.young_rewards_of(question.person, database)
    lines = [
        BalanceLine(at=row["at"], reason=row["reason"], amount_minor=row["amount_minor"])
        for row in await store.lines_of(question.person, database)
    ]
    return Balance(
        wallet_minor=held.get("wallet", 0),
        earned_minor=earned_minor,
        owed_minor=-held.get("owed", 0),
        withdrawable_minor=max(0, earned_minor - young_minor),
        lines=tuple(lines),
    )


async def answer_receipts(question: AskReceipts, database: Database) -> Receipts:
    rows = await store.receipts_of(question.person, database)
    return Receipts(lines=tuple(ReceiptLine(**dict(row)) for row in rows))


async def answer_book(_: AskBook, database: Database) -> Book:
    lines = [
        BookLine(account=row["kind"], currency=row["currency"], amount_minor=int(row["amount_minor"]))
        for row in await store.book_lines(database)
    ]
    return Book(lines=tuple(lines))
