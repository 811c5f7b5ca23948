"""The decision about a refund, as values: what it takes back, and what it undoes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from payments.domain.ledger import Holdings
from payments.domain.provider import Sum
from payments.domain.refunds import Payment, Purchase, Refund, RefundBatch, book

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
PERSON, OWN = UUID(int=1), UUID(int=2)
AMOUNTS = st.integers(min_value=0, max_value=500)


def refund(amount_minor: int, *, nth: int = 0, currency: str = "RUB") -> Refund:
    return Refund("card", "charge", str(nth), PERSON, currency, amount_minor, NOON)


def batch_of(
    payment: Payment,
    *,
    wallet: int = 0,
    earned: int = 0,
    owed: int = 0,
    own: Purchase | None = None,
    since: Sequence[Purchase] = (),
) -> RefundBatch:
    purchases = {one.order: one for one in (own, *since) if one is not None}
    spent_since = {payment.receipt: [one.order for one in since]}
    holdings = {PERSON: Holdings(PERSON, wallet, earned, owed)}
    return RefundBatch(NOON, {payment.receipt: payment}, holdings, purchases, {}, spent_since)


def payment(
    amount_minor: int = 300, value_minor: int | None = 300, gross: Sum | None = None
) -> Payment:
    """`gross` is what came, where that was not the amount."""
    receipt, came = refund(1).receipt, gross or Sum("RUB", amount_minor)
    return Payment(receipt, PERSON, "RUB", amount_minor, value_minor, OWN, came)


def purchase(number: int, wallet: int, earned: int = 0, undone: int = 0) -> Purchase:
    return Purchase(UUID(int=number), wallet, earned, undone, "basic", 1)


PURCHASES = st.lists(st.tuples(AMOUNTS, AMOUNTS).filter(any), max_size=5)


@given(
    amounts=st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=6),
    held=st.tuples(AMOUNTS, AMOUNTS, AMOUNTS),
    own=st.none() | st.tuples(AMOUNTS, AMOUNTS).filter(any),
    since=PURCHASES,
    value_minor=st.integers(min_value=0, max_value=700),
)
def test_no_refund_makes_or_loses_money(
    amounts: list[int],
    held: tuple[int, int, int],
    own: tuple[int, int] | None,
    since: list[tuple[int, int]],
    value_minor: int,
) -> None:
    """R-64, R-65: nothing is negative, and no more is returned or undone than there was."""
    newer = [purchase(number, *parts) for number, parts in enumerate(since, start=3)]
    wallet, earned, owed = held
    mine = purchase(2, *own) if own else None
    batch = batch_of(
        payment(300, value_minor), wallet=wallet, earned=earned, owed=owed, own=mine, since=newer
    )
    book([refund(amount, nth=nth) for nth, amount in enumerate(amounts)], batch)
    after, paid = batch.holdings[PERSON], batch.payments[refund(1).receipt]
    assert min(after.wallet_minor, after.earned_minor, after.owed_minor) >= 0
    assert paid.returned_minor == min(300, sum(amounts))
    taken = sum(one.value_minor for one in batch.bookings)
    assert taken == value_minor * paid.returned_minor // 300
    undone = sum(one.minor for booking in batch.bookings for one in booking.undone)
    assert undone == sum(one.undone_minor for one in batch.purchases.values())
    assert all(0 <= one.undone_minor <= one.price_minor for one in batch.purchases.values())
    change = after.wallet_minor + after.earned_minor - after.owed_minor - (wallet + earned - owed)
    assert change == undone - taken
    if mine and paid.is_returned:
        assert batch.purchases[mine.order].left_minor == 0
    if sum(one.owed_minor for one in batch.bookings):
        assert not any(one.left_minor for one in batch.purchases.values())


@given(
    parts=st.tuples(AMOUNTS, AMOUNTS).filter(any),
    shares=st.lists(st.integers(min_value=1, max_value=100), min_size=1, max_size=8),
)
def test_undone_parts_return_to_their_accounts(parts: tuple[int, int], shares: list[int]) -> None:
    """R-65: however the order is undone, each account gets back exactly what it paid."""
    wallet, earned = parts
    price = wallet + earned
    own = purchase(2, wallet, earned)
    batch = batch_of(payment(price, price), own=own)
    book([refund(share, nth=nth) for nth, share in enumerate([*shares, price])], batch)
    sums = {"wallet": 0, "earned": 0}
    for transfer in batch.transfers:
        for account, amount_minor in transfer.entries:
            if transfer.reason == "purchase_undone" and account.owner:
                sums[account.kind] += amount_minor
    assert sums == {"wallet": wallet, "earned": earned}
    after = batch.holdings[PERSON]
    assert (after.wallet_minor, after.earned_minor, after.owed_minor) == (0, 0, 0)


def test_a_whole_refund_undoes_a_whole_order() -> None:
    """R-67: although the wallet holds enough."""
    batch = batch_of(payment(), wallet=1000, own=purchase(2, 250))
    book([refund(300)], batch)
    [booking] = batch.bookings
    assert [one.minor for one in booking.undone] == [250]
    assert batch.holdings[PERSON].wallet_minor == 950


def test_a_partial_refund_takes_the_wallet_first() -> None:
    """R-67: the order loses only what the wallet lacks."""
    batch = batch_of(payment(), wallet=60, own=purchase(2, 250))
    book([refund(100)], batch)
    [booking] = batch.bookings
    assert [one.minor for one in booking.undone] == [40]
    assert batch.holdings[PERSON].wallet_minor == 0


def test_no_more_orders_are_undone_than_needed() -> None:
    """R-65: the newest comes first, and what is left over stays in the wallet."""
    since = [purchase(number, 200) for number in (5, 4, 3)]
    batch = batch_of(payment(), since=since)
    book([refund(300)], batch)
    [booking] = batch.bookings
    assert [one.purchase.order.int for one in booking.undone] == [5, 4]
    assert (batch.holdings[PERSON].wallet_minor, booking.owed_minor) == (100, 0)


def test_left_over_money_settles_an_older_debt() -> None:
    """R-65: the undone order returned more than the refund takes."""
    batch = batch_of(payment(), owed=80, since=[purchase(3, 400)])
    book([refund(300)], batch)
    after = batch.holdings[PERSON]
    assert (after.wallet_minor, after.owed_minor) == (20, 0)


def test_another_currency_books_nothing() -> None:
    """R-64: Stars cannot be returned of rubles."""
    batch = batch_of(payment(), wallet=300)
    book([refund(300, currency="XTR")], batch)
    [booking] = batch.bookings
    assert (booking.amount_minor, booking.is_whole, batch.transfers) == (0, False, [])


def test_foreign_money_goes_back_through_the_exchange() -> None:
    """R-64: each part is worth the difference that it makes, so that nothing is lost."""
    stars = Payment(refund(1).receipt, PERSON, "XTR", 3, 500, None, Sum("XTR", 3))
    batch = batch_of(stars, wallet=500)
    book([refund(1, nth=nth, currency="XTR") for nth in range(3)], batch)
    assert [one.value_minor for one in batch.bookings] == [166, 167, 167]
    kinds = {account.kind for transfer in batch.transfers for account, _ in transfer.entries}
    assert kinds == {"wallet", "exchange", "clearing:card"}


@given(
    gross=st.integers(min_value=1, max_value=5000),
    shares=st.lists(st.integers(min_value=1, max_value=299), max_size=6),
)
def test_another_asset_goes_back_in_parts(gross: int, shares: list[int]) -> None:
    """R-64: all of what came, however many refunds return it, and nothing in another asset."""
    batch = batch_of(payment(gross=Sum("USDT", gross)), wallet=300)
    book([refund(share, nth=nth) for nth, share in enumerate([*shares, 300])], batch)
    cleared: dict[str, int] = {}
    for transfer in batch.transfers:
        for account, amount_minor in transfer.entries:
            if account.kind == "clearing:card":
                cleared[account.currency] = cleared.get(account.currency, 0) + amount_minor
    assert cleared == {"USDT": gross}
    assert batch.holdings[PERSON].wallet_minor == 0
