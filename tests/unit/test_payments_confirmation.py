"""Decisions about payments, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.domain.confirmation import (
    PAYABLE,
    Batch,
    Booking,
    Invoice,
    Order,
    OrderState,
    Rate,
    Receipt,
    confirm,
)
from payments.domain.ledger import Holdings, changes
from shared.contracts.message import NAMESPACE
from shared.contracts.payload import Payload, read_payload, write_payload
from shared.contracts.payments import PlanTerms

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TERMS = PlanTerms(
    plan="basic",
    months=1,
    devices=5,
    traffic_bytes=None,
    node_group="default",
    list_month_minor=14900,
)


def some(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


ALICE, BOB = some("alice"), some("bob")
ORDER = Order(some("order"), ALICE, 14900, 0, "open", TERMS, NOW, NOW + timedelta(days=30), None)
INVOICE = Invoice(some("invoice"), ORDER.id, 99, "XTR")
PAYLOAD = write_payload(ORDER.id, INVOICE.id, None)
RATES = {"XTR": Rate(150, 1)}


def stars(
    amount: int = 99, charge: str = "c1", *, payer: UUID | None = ALICE, payload: str = PAYLOAD
) -> Receipt:
    return Receipt("telegram_stars", charge, payer, "XTR", amount, payload, NOW)


def batch_of(
    *orders: Order, holdings: Holdings | None = None, rates: dict[str, Rate] | None = None
) -> Batch:
    held = {ALICE: holdings or Holdings(ALICE), BOB: Holdings(BOB)}
    for order in orders:
        if order.state in PAYABLE and order.received_minor:
            held[order.person] = held[order.person].reserving(order.id, order.received_minor)
    known = {order.id: order for order in orders}
    return Batch(NOW, RATES if rates is None else rates, known, {INVOICE.id: INVOICE}, held)


def booked(batch: Batch, *receipts: Receipt) -> list[Booking]:
    confirm(receipts, batch)
    return batch.bookings


def test_full_payment_buys_and_empties_the_wallet() -> None:
    batch = batch_of(ORDER)
    (booking,) = booked(batch, stars())
    assert (booking.outcome, booking.value_minor, booking.missing_minor) == ("bought", 14900, 0)
    assert batch.orders[ORDER.id].state == "paid"
    assert batch.holdings[ALICE].wallet_minor == 0
    assert [transfer.reason for transfer in batch.transfers] == ["receipt", "purchase"]


def test_stars_are_valued_by_the_invoice() -> None:
    """M-24: Stars are never counted as rubles: 99 Stars are 149 rubles here, not 99."""
    batch = batch_of(ORDER)
    booked(batch, stars())
    sums = {
        (entry.account.kind, entry.account.currency): entry.amount_minor
        for entry in batch.transfers[0].entries
    }
    assert sums == {
        ("clearing:telegram_stars", "XTR"): -99,
        ("exchange", "XTR"): 99,
        ("exchange", "RUB"): -14900,
        ("wallet", "RUB"): 14900,
    }


def test_too_little_stays_in_the_wallet() -> None:
    """M-21: one exact rule. 98 Stars do not pay a price of 99 and are not lost."""
    batch = batch_of(ORDER)
    (booking,) = booked(batch, stars(98))
    assert (booking.outcome, booking.because) == ("wallet", "too_little")
    assert booking.missing_minor == 14900 - booking.wallet_minor > 0
    assert batch.orders[ORDER.id].state == "open"


def test_two_parts_of_one_order_add_up() -> None:
    batch = batch_of(ORDER)
    first, second = booked(batch, stars(50, "c1"), stars(50, "c2"))
    assert sorted([first.outcome, second.outcome]) == ["bought", "wallet"]
    assert batch.orders[ORDER.id].state == "paid"
    assert batch.holdings[ALICE].wallet_minor == 100 * 14900 // 99 - 14900


def test_excess_stays_in_the_wallet() -> None:
    batch = batch_of(ORDER)
    (booking,) = booked(batch, stars(198))
    assert (booking.outcome, booking.wallet_minor, booking.over_minor) == ("bought", 14900, 14900)


def test_excess_that_settled_a_debt_is_not_reported() -> None:
    """N-17: a message names only money that the wallet holds."""
    batch = batch_of(ORDER, holdings=Holdings(ALICE, owed_minor=14000))
    (booking,) = booked(batch, stars(198))
    assert (booking.outcome, booking.wallet_minor, booking.over_minor) == ("bought", 900, 900)


def test_second_payment_of_an_order_buys_nothing() -> None:
    """R-01: the superseded invoice was still payable. Its money is booked but buys nothing."""
    batch = batch_of(ORDER)
    outcomes = [
        booking.outcome for booking in booked(batch, stars(charge="c1"), stars(charge="c2"))
    ]
    assert sorted(outcomes) == ["bought", "wallet"]
    assert batch.holdings[ALICE].wallet_minor == 14900
    assert [transfer.reason for transfer in batch.transfers].count("purchase") == 1


def test_late_payment_is_honoured_for_thirty_days() -> None:
    """R-28, R-02: an invoice of 30 minutes that is paid after 31 still buys."""
    batch = batch_of(ORDER)
    batch.now = NOW + timedelta(days=29)
    assert booked(batch, stars())[0].outcome == "bought"
    batch = batch_of(ORDER)
    batch.now = NOW + timedelta(days=31)
    assert booked(batch, stars())[0].because == "order_too_old"


def test_foreign_payment_goes_into_the_payers_wallet() -> None:
    batch = batch_of(ORDER)
    (booking,) = booked(batch, stars(payer=BOB))
    assert (booking.outcome, booking.because) == ("wallet", "not_yours")
    assert batch.holdings[BOB].wallet_minor == 14900
    assert batch.orders[ORDER.id].state == "open"


def test_money_with_an_unknown_payload_is_booked() -> None:
    for payload in ("", "purchase:1", "a.b.c", PAYLOAD + ".x", "." * 5):
        batch = batch_of(ORDER)
        (booking,) = booked(batch, stars(payload=payload))
        assert (booking.outcome, booking.because, booking.value_minor) == (
            "wallet",
            "no_order",
            99 * 150,
        )


def test_invoice_of_another_order_gives_no_ratio() -> None:
    """M-22, R-19: a payload that joins two orders is valued by the rate of the day."""
    batch = batch_of(ORDER)
    other = Invoice(some("other"), some("other order"), 1, "XTR")
    batch.invoices = {INVOICE.id: INVOICE, other.id: other}
    (booking,) = booked(batch, stars(99, payload=write_payload(ORDER.id, other.id, None)))
    assert booking.value_minor == 99 * 150


def test_order_never_pays_the_invoice_of_another() -> None:
    """I10: an invoice is open, superseded or paid with its own order."""
    batch = batch_of(ORDER)
    other = Invoice(some("other"), some("other order"), 1, "XTR")
    batch.invoices = {INVOICE.id: INVOICE, other.id: other}
    (booking,) = booked(batch, stars(100, payload=write_payload(ORDER.id, other.id, None)))
    assert (booking.outcome, booking.invoice) == ("bought", None)


def test_unknown_payer_or_currency_goes_to_suspense() -> None:
    for receipt, batch in (
        (stars(payer=None), batch_of(ORDER)),
        (stars(payload="?"), batch_of(ORDER, rates={})),
    ):
        (booking,) = booked(batch, receipt)
        assert (booking.outcome, booking.value_minor) == ("suspense", None)
        assert [entry.account.kind for entry in batch.transfers[0].entries][1] == "suspense"


def test_order_with_a_spent_part_stays_open() -> None:
    order = replace(ORDER, received_minor=7000)
    (booking,) = booked(batch_of(order, holdings=Holdings(ALICE, wallet_minor=0)), stars(53))
    assert (booking.outcome, booking.because) == ("wallet", "part_spent")


def test_purchase_closes_older_orders_only() -> None:
    older = replace(ORDER, id=some("older"), placed_at=NOW - timedelta(hours=1))
    newer = replace(ORDER, id=some("newer"), placed_at=NOW + timedelta(hours=1))
    batch = batch_of(older, ORDER, newer)
    booked(batch, stars())
    assert [batch.orders[order.id].state for order in (older, ORDER, newer)] == [
        "closed",
        "paid",
        "open",
    ]


@pytest.mark.parametrize(
    ("state", "because"),
    [("superseded", "paid"), ("expired", "paid"), ("closed", "order_closed")],
)
def test_late_money_buys_until_a_newer_is_paid(state: OrderState, because: str) -> None:
    """R-33: within 30 days. An order may be marked as expired while its money is booked."""
    batch = batch_of(replace(ORDER, state=state))
    (booking,) = booked(batch, stars())
    assert booking.because == because
    assert batch.orders[ORDER.id].state == ("paid" if because == "paid" else state)


def test_part_of_a_superseded_order_settles_no_debt() -> None:
    """R-33: the other part may still come."""
    batch = batch_of(replace(ORDER, state="superseded"), holdings=Holdings(ALICE, owed_minor=5000))
    booked(batch, stars(50))
    assert (batch.holdings[ALICE].owed_minor, batch.orders[ORDER.id].state) == (5000, "superseded")
    booked(batch, stars(50, "c2"))
    assert batch.orders[ORDER.id].state == "paid"


def test_debt_is_settled_by_unreserved_money_only() -> None:
    in_debt = Holdings(ALICE, owed_minor=5000)
    batch = batch_of(ORDER, holdings=in_debt)
    booked(batch, stars(50))
    assert batch.holdings[ALICE].owed_minor == 5000, "the part of an open order settles nothing"
    booked(batch, stars(99, "c2"))
    assert batch.orders[ORDER.id].state == "paid", "an order paid in full always buys"
    assert batch.holdings[ALICE].owed_minor == 0
    assert batch.holdings[ALICE].wallet_minor == 50 * 14900 // 99 - 5000


def test_payload_reads_back_and_fits_telegram() -> None:
    """Telegram allows 128 bytes."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    payload = write_payload(ORDER.id, INVOICE.id, trace)
    assert read_payload(payload) == Payload(ORDER.id, INVOICE.id, "b" * 16)
    assert len(payload.encode()) <= 128


receipts = st.lists(
    st.builds(
        lambda number, amount, payer, named: stars(
            amount, f"c{number}", payer=payer, payload=PAYLOAD if named else "free"
        ),
        st.integers(0, 10_000),
        st.integers(1, 300),
        st.sampled_from([ALICE, BOB, None]),
        st.booleans(),
    ),
    max_size=8,
    unique_by=lambda receipt: receipt.charge,
)


@given(receipts, st.integers(0, 20_000))
def test_any_receipts_balance_and_lose_nothing(arrived: list[Receipt], owed_minor: int) -> None:
    """M-20, R-07: integers only. All money is in a wallet, spent, settled or in suspense.

    No balance is negative.
    """
    batch = batch_of(ORDER, holdings=Holdings(ALICE, owed_minor=owed_minor))
    confirm(arrived, batch)
    assert len(batch.bookings) == len(arrived)
    valued = sum(booking.value_minor or 0 for booking in batch.bookings)
    spent = sum(ORDER.price_minor for booking in batch.bookings if booking.outcome == "bought")
    settled = owed_minor - batch.holdings[ALICE].owed_minor
    in_wallets = sum(held.wallet_minor for held in batch.holdings.values())
    assert in_wallets == valued - spent - settled
    assert all(held.wallet_minor >= 0 and held.owed_minor >= 0 for held in batch.holdings.values())
    assert spent in (0, ORDER.price_minor)
    assert (spent > 0) == (batch.orders[ORDER.id].state == "paid")
    moved = {(account.owner, account.kind): amount for account, amount in changes(batch.transfers)}
    assert moved.get((ALICE, "wallet"), 0) == batch.holdings[ALICE].wallet_minor


@given(receipts, st.integers(0, 8))
def test_a_batch_equals_the_fold_of_its_halves(arrived: list[Receipt], cut: int) -> None:
    """Any split of the same receipts in the same order leaves the same state."""
    ordered = sorted(arrived, key=lambda receipt: (receipt.paid_at, receipt.id))
    whole, parts = batch_of(ORDER), batch_of(ORDER)
    confirm(ordered, whole)
    confirm(ordered[:cut], parts)
    confirm(ordered[cut:], parts)
    assert (whole.holdings, whole.orders, whole.transfers) == (
        parts.holdings,
        parts.orders,
        parts.transfers,
    )


PRICES = {"basic": (14900, 99), "basic, three months": (39900, 269), "plus": (29900, 199)}


@pytest.mark.parametrize("price", PRICES)
def test_two_parts_never_lose_a_kopeck(price: str) -> None:
    """M-37: every split of the asked amount pays the order exactly."""
    price_minor, asked_minor = PRICES[price]
    order = replace(ORDER, price_minor=price_minor)
    invoice = replace(INVOICE, asked_minor=asked_minor)
    for part in range(1, asked_minor):
        batch = batch_of(order)
        batch.invoices = {invoice.id: invoice}
        first, second = booked(batch, stars(part, "c1"), stars(asked_minor - part, "c2"))
        assert sorted([first.outcome, second.outcome]) == ["bought", "wallet"]
        assert batch.holdings[ALICE].wallet_minor == 0


@given(
    st.integers(1, 10**7),
    st.lists(st.integers(1, 10**4), min_size=1, max_size=6),
)
def test_parts_are_worth_their_sum(price_minor: int, parts: list[int]) -> None:
    """M-37: in any number of parts, each in a batch of its own."""
    invoice = replace(INVOICE, asked_minor=sum(parts))
    batch = batch_of(replace(ORDER, price_minor=price_minor))
    batch.invoices = {invoice.id: invoice}
    for nth, part in enumerate(parts):
        confirm([stars(part, f"c{nth}")], batch)
    assert sum(booking.value_minor or 0 for booking in batch.bookings) == price_minor
    assert batch.bookings[-1].outcome == "bought"


def test_foreign_money_is_no_part() -> None:
    """M-37: money that another person pays by the invoice is valued alone."""
    batch = batch_of(ORDER)
    for nth, (payer, part) in enumerate([(ALICE, 50), (BOB, 10), (ALICE, 49)]):
        confirm([stars(part, f"c{nth}", payer=payer)], batch)
    assert [booking.value_minor for booking in batch.bookings] == [7525, 1505, 7375]
    assert batch.orders[ORDER.id].state == "paid"
