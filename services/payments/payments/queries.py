"""Answers to queries: the catalogue, checkouts, balances, receipts, and payments for operators."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from uuid import UUID

from payments.commands.open_invoice import SHORTEST, answer_of, asked_for, asked_in, missing_of
from payments.domain.checkout import WITHOUT_KEYS, Charge, may_charge, refused_for
from payments.domain.confirmation import Order, Rate
from payments.domain.saved_methods import SavedMethod, may_save
from payments.store import (
    balances,
    catalogue,
    orders,
    payments,
    receipt_emails,
    reconciliations,
    saved_methods,
)
from shared.contracts.message import Refused
from shared.contracts.payload import read_payload
from shared.contracts.payments import (
    AskedByWay,
    Balance,
    BalanceLine,
    BalanceQuery,
    Checkout,
    CheckoutQuery,
    Checkouts,
    DifferenceRecord,
    EntryRecord,
    InvoiceQuery,
    InvoiceRecord,
    OpenedInvoice,
    OrderRecord,
    PaymentLine,
    PaymentLines,
    PaymentQuery,
    PaymentRecord,
    PaymentsQuery,
    Plan,
    Plans,
    PlansQuery,
    Price,
    ReceiptEmail,
    ReceiptEmailQuery,
    ReceiptLine,
    ReceiptRecord,
    Receipts,
    ReceiptsQuery,
    ReconciliationQuery,
    ReconciliationReport,
    Reconciliations,
    ReconciliationsQuery,
    RefundRecord,
    Rest,
    RestQuery,
    TransferRecord,
    TrialBalance,
    TrialBalanceLine,
    TrialBalanceQuery,
    WayToPay,
)
from shared.contracts.payments import SavedMethod as SavedShown
from shared.platform.db import Database, Row

ACQUIRERS = ("telegram_stars", "telegram_card", "yookassa", "cryptobot")
MAX_OF_ONE_ORDER = 100
MAX_OF_ONE_PERSON = 20
MAX_RUNS = 20
DIFFERENCES_PER_PAGE = 200
REWARDS_MATURE_AFTER = timedelta(days=21)
LINES_OF_PAGE = 10


async def answer_plans(
    query: PlansQuery,
    database: Database,
    *,
    providers: Collection[str] = (),
    telegram: Collection[str] = WITHOUT_KEYS,
    saves: Collection[str] = (),
) -> Plans:
    """`providers` are the outside providers that the shop has an account with.

    Those in `saves` may charge the methods that they saved. `telegram` are the acquirers whose
    money Telegram takes.
    """
    rows = await catalogue.plans(database)
    plans = [plan_from(list(group)) for _, group in groupby(rows, key=lambda row: row["plan"])]
    rates = await catalogue.rates_in_force(database)
    ways = [
        way_from(row, rates.get(row["currency"], Rate(1, 1)))
        for row in await catalogue.ways(database)
        if row["acquirer"] in {*telegram, *providers}
    ]
    known = await saved_methods.of_person(query.person, database) if query.person and saves else []
    named = [way.way for way in ways]
    return Plans(plans=tuple(plans), ways=tuple(ways), saved=chargeable(known, named, saves))


def chargeable(
    known: Collection[SavedMethod], ways: Collection[str], saves: Collection[str]
) -> tuple[SavedShown, ...]:
    """Those whose way is offered, and whose acquirer may charge them."""
    return tuple(
        shown_from(one)
        for one in known
        if one.way in ways and may_save(one.acquirer, one.way, saves)
    )


def shown_from(method: SavedMethod) -> SavedShown:
    return SavedShown(name=method.name, way=method.way, title=method.title)


def way_from(row: Row, rate: Rate) -> WayToPay:
    return WayToPay(
        way=row["way"],
        currency=row["currency"],
        least_minor=row["least_minor"],
        most_minor=row["most_minor"],
        kopecks=rate.kopecks,
        per_minor=rate.per_minor,
    )


def plan_from(rows: list[Row]) -> Plan:
    prices = tuple(
        Price(months=row["months"], price_minor=row["price_minor"], stars=row["stars"])
        for row in rows
    )
    first = rows[0]
    return Plan(
        plan=first["plan"],
        devices=first["devices"],
        traffic_bytes=first["traffic_bytes"],
        prices=prices,
    )


async def answer_checkout(query: CheckoutQuery, database: Database) -> Checkouts:
    """One statement for all charges. A payload of another form refuses only its own."""
    payloads = [read_payload(asked.payload) for asked in query.charges]
    named = [(payload.invoice, payload.order) for payload in payloads if payload]
    offers = await orders.offers(named, database)
    answers = []
    for asked, payload in zip(query.charges, payloads, strict=True):
        offer = offers.get((payload.invoice, payload.order)) if payload else None
        reason = may_charge(Charge(asked.payer, asked.currency, asked.amount_minor), offer)
        answers.append(Checkout(ok=reason is None, reason=reason))
    return Checkouts(answers=tuple(answers))


async def answer_invoice(
    query: InvoiceQuery, database: Database, *, saves: Collection[str] = ()
) -> OpenedInvoice | Refused:
    found = await orders.invoice_of(query.invoice, database)
    if found is None or found[0].person != query.person:
        return Refused(reason="not_yours")
    order, row = found
    may = row["saved_method"] is None and may_save(row["acquirer"], row["way"], saves)
    asked = asked_in(row, saves=row["saves_method"] if may else None)
    return answer_of(order, replace(asked, worth_minor=asked.worth_minor or order.price_minor), row)


async def answer_receipt_email(query: ReceiptEmailQuery, database: Database) -> ReceiptEmail:
    given = await receipt_emails.answer_of(query.person, database)
    return ReceiptEmail(email=given[0] if given else None)


async def answer_balance(
    query: BalanceQuery, database: Database, *, asks_email: bool = False
) -> Balance:
    held = await balances.balances_of(query.person, database)
    earned_minor = held.get("earned", 0)
    young_minor = await balances.young_rewards_of(query.person, REWARDS_MATURE_AFTER, database)
    rows, earlier, later = await page_of(query, database)
    return Balance(
        wallet_minor=held.get("wallet", 0),
        earned_minor=earned_minor,
        owed_minor=-held.get("owed", 0),
        withdrawable_minor=max(0, earned_minor - young_minor),
        lines=await lines_from(rows, database),
        earlier=rows[-1]["id"] if earlier else None,
        later=rows[0]["id"] if later else None,
        saved=tuple(
            shown_from(one) for one in await saved_methods.of_person(query.person, database)
        ),
        asks_email=asks_email,
    )


async def page_of(query: BalanceQuery, database: Database) -> tuple[list[Row], bool, bool]:
    """The movements of one page, and whether there are earlier and later ones.

    A page that would begin with the newest movement is the newest page, and so is full.
    """
    person, most = query.person, LINES_OF_PAGE + 1
    named = query.after or query.before
    place = await balances.transfer_of(person, named, database) if named else None
    if place and query.after:
        newer = await balances.movements_after(person, place, most, database)
        if len(newer) == most:
            return newer[1:], True, True
    elif place:
        older = await balances.movements_before(person, place, most, database)
        if older:
            return older[:LINES_OF_PAGE], len(older) == most, True
    newest = await balances.movements_of(person, most, database)
    return newest[:LINES_OF_PAGE], len(newest) == most, False


async def lines_from(rows: Collection[Row], database: Database) -> tuple[BalanceLine, ...]:
    """One per movement. The receipt of a top-up has a reason of its own."""
    receipts = [row["cause"] for row in rows if row["reason"] == "receipt"]
    topups = await balances.topped_up(receipts, database) if receipts else set()
    return tuple(
        BalanceLine(
            at=row["at"],
            reason="topup" if row["cause"] in topups else row["reason"],
            amount_minor=row["amount_minor"],
        )
        for row in rows
    )


async def answer_rest(
    query: RestQuery,
    database: Database,
    *,
    providers: Collection[str] = (),
    saves: Collection[str] = (),
    telegram: Collection[str] = WITHOUT_KEYS,
) -> Rest | Refused:
    """For the screen of the ways to pay: `OpenInvoice` decides anew, under the order's lock."""
    order, price_stars, too_old = await orders.seen(query.order, SHORTEST, database)
    if refusal := refused_for(query.person, order, too_old=too_old):
        return Refused(reason=refusal)
    assert order is not None, "an unknown order is refused"
    holdings = await orders.held(order.person, database)
    missing_minor = max(0, missing_of(order, holdings, from_balance=query.from_balance))
    rows = [
        row for row in await catalogue.ways(database) if row["acquirer"] in {*telegram, *providers}
    ]
    ways = asked_by(rows, missing_minor, order, price_stars) if missing_minor else ()
    known = await saved_methods.of_person(order.person, database) if ways and saves else []
    return Rest(
        order=order.id,
        what=order.what,
        plan=order.terms.plan if order.terms else None,
        months=order.terms.months if order.terms else None,
        price_minor=order.price_minor,
        missing_minor=missing_minor,
        balance_minor=holdings.wallet_minor + holdings.earned_minor,
        ways=ways,
        saved=chargeable(known, [one.way for one in ways], saves),
    )


def asked_by(
    ways: Collection[Row], missing_minor: int, order: Order, price_stars: int | None
) -> tuple[AskedByWay, ...]:
    """By the function that opens the invoice, so that a price that is shown is the one charged."""
    asked = [(way, asked_for(missing_minor, order, price_stars, way)) for way in ways]
    return tuple(
        AskedByWay(way=one.way, asked_minor=one.amount_minor, currency=one.currency)
        for way, one in asked
        if one is not None and one.amount_minor <= way["most_minor"]
    )


async def answer_receipts(query: ReceiptsQuery, database: Database) -> Receipts:
    rows = await balances.receipts_of(query.person, database)
    return Receipts(lines=tuple(ReceiptLine(**dict(row)) for row in rows))


async def answer_trial_balance(_: TrialBalanceQuery, database: Database) -> TrialBalance:
    lines = [
        TrialBalanceLine(
            account=row["kind"], currency=row["currency"], amount_minor=int(row["amount_minor"])
        )
        for row in await balances.trial_balance(database)
    ]
    return TrialBalance(lines=tuple(lines))


async def answer_payment(query: PaymentQuery, database: Database) -> PaymentRecord | Refused:
    """The order with all money that came for it, or money that came for no order."""
    ids = ids_named(query.named)
    named = await payments.orders_named(ids, database)
    receipts = await receipts_of(query.named, ids, named, database)
    named = named or [row["order_id"] for row in receipts if row["order_id"]]
    if named:
        receipts = await receipts_of(None, [], named[:1], database)
    elif not receipts:
        return Refused(reason="payment_unknown")
    order = await payments.order(named[0], database) if named else None
    invoices = await payments.invoices(named[0], MAX_OF_ONE_ORDER, database) if named else []
    returned = await payments.refunds(
        [row["receipt"] for row in receipts], named[:1], MAX_OF_ONE_ORDER, database
    )
    causes = causes_of(named[0] if named else None, receipts, returned)
    return PaymentRecord(
        order=OrderRecord(**dict(order)) if order else None,
        invoices=tuple(InvoiceRecord(**dict(row)) for row in invoices),
        receipts=tuple(ReceiptRecord(**dict(row)) for row in receipts),
        transfers=transfers_from(await payments.transfers(causes, database)),
        refunds=tuple(RefundRecord(**dict(row)) for row in returned),
    )


def causes_of(order: UUID | None, receipts: list[Row], refunds: list[Row]) -> list[str]:
    """The causes of all transfers of a payment."""
    causes = [f"order:{order}"] if order else []
    for row in receipts:
        causes += [f"{row['acquirer']}:{row['charge']}", f"reward:{row['receipt']}"]
    for row in refunds:
        refund = row["refund"]
        causes += [f"refund:{refund}", f"refund:{refund}:order:{order}", f"reversal:{refund}"]
    return causes


async def receipts_of(
    charge: str | None, ids: list[UUID], named: list[UUID], database: Database
) -> list[Row]:
    """`charge` is `<acquirer>:<charge>`, or a charge of any acquirer. None names no charge."""
    acquirer, colon, rest = (charge or "").partition(":")
    acquirers, charge = (
        ((acquirer,), rest) if colon and acquirer in ACQUIRERS else (ACQUIRERS, charge)
    )
    return await payments.receipts(ids, acquirers, charge, named, MAX_OF_ONE_ORDER, database)


def ids_named(named: str) -> list[UUID]:
    """The order and the invoice of a payload, or the one id that the text is."""
    if payload := read_payload(named):
        return [payload.order, payload.invoice]
    with suppress(ValueError):
        return [UUID(named)]
    return []


def transfers_from(rows: list[Row]) -> tuple[TransferRecord, ...]:
    """One record per transfer, from one row per entry."""
    transfers = []
    for _, group in groupby(rows, key=lambda row: row["transfer"]):
        of_one = list(group)
        entries = tuple(
            EntryRecord(**{name: row[name] for name in EntryRecord.model_fields}) for row in of_one
        )
        own = {name: of_one[0][name] for name in ("transfer", "cause", "reason", "person", "at")}
        transfers.append(TransferRecord(**own, entries=entries))
    return tuple(transfers)


async def answer_payments(query: PaymentsQuery, database: Database) -> PaymentLines:
    rows = await payments.payments_of(query.person, MAX_OF_ONE_PERSON, database)
    return PaymentLines(payments=tuple(PaymentLine(**dict(row)) for row in rows))


async def answer_reconciliations(
    query: ReconciliationsQuery, database: Database
) -> Reconciliations:
    return Reconciliations(runs=await reconciliations.runs(query.provider, MAX_RUNS, database))


async def answer_reconciliation(
    query: ReconciliationQuery, database: Database
) -> ReconciliationReport | Refused:
    run = await reconciliations.run(query.run, database)
    if run is None:
        return Refused(reason="run_unknown")
    most = DIFFERENCES_PER_PAGE
    rows = await reconciliations.differences(query.run, query.after, most + 1, database)
    found = tuple(DifferenceRecord(**dict(row)) for row in rows[:most])
    return ReconciliationReport(run=run, differences=found, more=len(rows) > most)
