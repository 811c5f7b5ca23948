"""What a payment becomes, decided without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from payments.confirmation import Book, Booking, Invoice, Order, Rate, Receipt, confirm, ids_in, payload_of
from payments.ledger import Holdings, changes
from shared.contract import NAMESPACE
from shared.facts import Terms

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TERMS = Terms(plan="basic", months=1, devices=5, traffic_bytes=None, node_group="default", list_month_minor=14900)


def some(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


ALICE, BOB = some("alice"), some("bob")
ORDER = Order(some("order"), ALICE, 14900, 0, "open", TERMS, NOW, NOW + timedelta(days=30), None)
INVOICE = Invoice(some("invoice"), ORDER.id, 99, "XTR")
PAYLOAD = payload_of(ORDER.id, INVOICE.id, None)
RATES = {"XTR": Rate(150, 1)}


def stars(amount: int = 99, charge: str = "c1", *, payer: UUID | None = ALICE, payload: str = PAYLOAD) -> Receipt:
    return Receipt("telegram_stars", charge, payer, "XTR", amount, payload, NOW)


def book_of(*orders: Order, holdings: Holdings | None = None, rates: dict[str, Rate] | None = None) -> Book:
    held = {ALICE: holdings or Holdings(ALICE), BOB: Holdings(BOB)}
    for order in orders:
        if order.state == "open" and order.received_minor:
            held[order.person] = held[order.person].waits_for(order.id, order.received_minor)
    known = {order.id: order for order in orders}
    return Book(NOW, RATES if rates is None else rates, known, {INVOICE.id: INVOICE}, held)


def booked(book: Book, *receipts: Receipt) -> list[Booking]:
    confirm(receipts, book)
    return book.bookings


def test_a_full_payment_buys_and_leaves_nothing_in_the_wallet() -> None:
    book = book_of(ORDER)
    (booking,) = booked(book, stars())
    assert (booking.outcome, booking.value_minor, booking.missing_minor) == ("bought", 14900, 0)
    assert book.orders[ORDER.id].state == "paid"
    assert book.holdings[ALICE].wallet_minor == 0
    assert [transfer.reason for transfer in book.transfers] == ["receipt", "purchase"]


def test_stars_become_rubles_by_the_invoice_and_are_never_counted_as_rubles() -> None:
    """M-24: 99 Stars are 149 rubles here, not 99."""
    book = book_of(ORDER)
    booked(book, stars())
    sums = {(entry.account.kind, entry.account.currency): entry.amount_minor for entry in book.transfers[0].entries}
    assert sums == {
        ("clearing:telegram_stars", "XTR"): -99,
        ("exchange", "XTR"): 99,
        ("exchange", "RUB"): -14900,
        ("wallet", "RUB"): 14900,
    }


def test_too_little_stays_in_the_wallet_and_the_order_stays_open() -> None:
    """M-21: one exact rule; 98 Stars do not buy what costs 99, and are not lost."""
    book = book_of(ORDER)
    (booking,) = booked(book, stars(98))
    assert (booking.outcome, booking.because) == ("wallet", "too_little")
    assert booking.missing_minor == 14900 - booking.wallet_minor > 0
    assert book.orders[ORDER.id].state == "open"


def test_two_parts_of_one_order_add_up() -> None:
    book = book_of(ORDER)
    first, second = booked(book, stars(50, "c1"), stars(50, "c2"))
    assert sorted([first.outcome, second.outcome]) == ["bought", "wallet"]
    assert book.orders[ORDER.id].state == "paid"
    assert book.holdings[ALICE].wallet_minor == (50 * 14900 // 99) * 2 - 14900


def test_too_much_buys_and_the_rest_stays() -> None:
    book = book_of(ORDER)
    (booking,) = booked(book, stars(198))
    assert (booking.outcome, booking.wallet_minor, booking.over_minor) == ("bought", 14900, 14900)


def test_what_came_beyond_the_price_and_paid_a_debt_is_not_left_over() -> None:
    """N-17: a message names only what the wallet really holds."""
    book = book_of(ORDER, holdings=Holdings(ALICE, owed_minor=14000))
    (booking,) = booked(book, stars(198))
    assert (booking.outcome, booking.wallet_minor, booking.over_minor) == ("bought", 900, 900)


def test_a_second_payment_of_a_paid_order_stays_in_the_wallet() -> None:
    """R-01: the superseded invoice was still payable; its money is booked and buys nothing twice."""
    book = book_of(ORDER)
    outcomes = [booking.outcome for booking in booked(book, stars(charge="c1"), stars(charge="c2"))]
    assert sorted(outcomes) == ["bought", "wallet"]
    assert book.holdings[ALICE].wallet_minor == 14900
    assert [transfer.reason for transfer in book.transfers].count("purchase") == 1


def test_a_late_payment_is_honoured_for_thirty_days() -> None:
    """R-28, R-02: an invoice of 30 minutes, paid after 31, buys all the same."""
    book = book_of(ORDER)
    book.now = NOW + timedelta(days=29)
    assert booked(book, stars())[0].outcome == "bought"
    book = book_of(ORDER)
    book.now = NOW + timedelta(days=31)
    assert booked(book, stars())[0].because == "order_too_old"


def test_a_payment_by_somebody_else_goes_into_the_payers_wallet() -> None:
    book = book_of(ORDER)
    (booking,) = booked(book, stars(payer=BOB))
    assert (booking.outcome, booking.because) == ("wallet", "not_yours")
    assert book.holdings[BOB].wallet_minor == 14900
    assert book.orders[ORDER.id].state == "open"


def test_a_payload_that_is_not_ours_is_money_all_the_same() -> None:
    for payload in ("", "purchase:1", "a.b.c", PAYLOAD + ".x", "." * 5):
        book = book_of(ORDER)
        (booking,) = booked(book, stars(payload=payload))
        assert (booking.outcome, booking.because, booking.value_minor) == ("wallet", "no_order", 99 * 150)


def test_an_invoice_of_another_order_lends_no_ratio() -> None:
    """M-22: what the payload puts together is worth what the rate of the day says."""
    book = book_of(ORDER)
    other = Invoice(some("other"), some("other order"), 1, "XTR")
    book.invoices = {INVOICE.id: INVOICE, other.id: other}
    (booking,) = booked(book, stars(99, payload=payload_of(ORDER.id, other.id, None)))
    assert booking.value_minor == 99 * 150


def test_an_invoice_of_another_order_is_not_paid_by_this_one() -> None:
    """I10: it is open, closed or paid with its own order."""
    book = book_of(ORDER)
    other = Invoice(some("other"), some("other order"), 1, "XTR")
    book.invoices = {INVOICE.id: INVOICE, other.id: other}
    (booking,) = booked(book, stars(100, payload=payload_of(ORDER.id, other.id, None)))
    assert (booking.outcome, booking.invoice) == ("bought", None)


def test_an_unknown_payer_or_currency_rests_in_suspense() -> None:
    for receipt, book in ((stars(payer=None), book_of(ORDER)), (stars(payload="?"), book_of(ORDER, rates={}))):
        (booking,) = booked(book, receipt)
        assert (booking.outcome, booking.value_minor) == ("suspense", None)
        assert [entry.account.kind for entry in book.transfers[0].entries][1] == "suspense"


def test_an_order_whose_earlier_part_was_spent_stays_open() -> None:
    order = replace(ORDER, received_minor=7000)
    (booking,) = booked(book_of(order, holdings=Holdings(ALICE, wallet_minor=0)), stars(53))
    assert (booking.outcome, booking.because) == ("wallet", "part_spent")


def test_paying_one_order_closes_the_older_ones_and_leaves_the_newer() -> None:
    older = replace(ORDER, id=some("older"), placed_at=NOW - timedelta(hours=1))
    newer = replace(ORDER, id=some("newer"), placed_at=NOW + timedelta(hours=1))
    book = book_of(older, ORDER, newer)
    booked(book, stars())
    assert [book.orders[order.id].state for order in (older, ORDER, newer)] == ["closed", "paid", "open"]


def test_a_debt_is_settled_by_what_no_open_order_waits_for() -> None:
    in_debt = Holdings(ALICE, owed_minor=5000)
    book = book_of(ORDER, holdings=in_debt)
    booked(book, stars(50))
    assert book.holdings[ALICE].owed_minor == 5000, "a part of an open order settles nothing"
    booked(book, stars(99, "c2"))
    assert book.orders[ORDER.id].state == "paid", "an order paid in full always buys"
    assert book.holdings[ALICE].owed_minor == 0
    assert book.holdings[ALICE].wallet_minor == 50 * 14900 // 99 - 5000


def test_ids_survive_the_payload_and_it_fits_telegrams_limit() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    payload = payload_of(ORDER.id, INVOICE.id, trace)
    assert ids_in(payload) == (ORDER.id, INVOICE.id)
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
def test_whatever_arrives_the_book_balances_and_nothing_is_lost(arrived: list[Receipt], owed_minor: int) -> None:
    """M-20, R-07: integers only; what came in is in a wallet, spent, settled or in suspense, and never negative."""
    book = book_of(ORDER, holdings=Holdings(ALICE, owed_minor=owed_minor))
    confirm(arrived, book)
    assert len(book.bookings) == len(arrived)
    valued = sum(booking.value_minor or 0 for booking in book.bookings)
    spent = sum(ORDER.price_minor for booking in book.bookings if booking.outcome == "bought")
    settled = owed_minor - book.holdings[ALICE].owed_minor
    in_wallets = sum(held.wallet_minor for held in book.holdings.values())
    assert in_wallets == valued - spent - settled
    assert all(held.wallet_minor >= 0 and held.owed_minor >= 0 for held in book.holdings.values())
    assert spent in (0, ORDER.price_minor)
    assert (spent > 0) == (book.orders[ORDER.id].state == "paid")
    moved = {(account.owner, account.kind): amount for account, amount in changes(book.transfers)}
    assert moved.get((ALICE, "wallet"), 0) == book.holdings[ALICE].wallet_minor


@given(receipts, st.integers(0, 8))
def test_a_batch_is_a_fold_of_its_halves(arrived: list[Receipt], cut: int) -> None:
    """Any split of the same receipts in the same order leaves the same book."""
    ordered = sorted(arrived, key=lambda receipt: (receipt.paid_at, receipt.id))
    whole, parts = book_of(ORDER), book_of(ORDER)
    confirm(ordered, whole)
    confirm(ordered[:cut], parts)
    confirm(ordered[cut:], parts)
    assert (whole.holdings, whole.orders, whole.transfers) == (parts.holdings, parts.orders, parts.transfers)
