"""How a listed payment differs from its receipt, as pure values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from payments.app import build
from payments.domain.provider import (
    Failure,
    Payment,
    Refusal,
    SlowDown,
    Sum,
    Unavailable,
    Unknown,
    Unreadable,
)
from payments.domain.reconciliation import (
    LONGEST_PAUSE_S,
    MAX_SENTENCE_CHARACTERS,
    Difference,
    counted,
    difference_of,
    held_difference,
    held_here,
    named,
    pause_s,
    sentence_of,
    unlisted,
    unreadable,
    window_of,
)
from payments.settings import Settings
from payments.workers.reconciling import MAX_MISSING_THERE, MAX_PAGES
from shared.contracts.message import MAX_CHARGE_CHARACTERS
from shared.contracts.payload import write_payload
from shared.contracts.payments import ReconciliationCounts

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OURS = write_payload(UUID(int=1), UUID(int=2), None)
PAID = Payment("2f1d", "succeeded", "RUB", 14_900, OURS, created_at=NOON)
RUBLES = Sum("RUB", 14_900)


@pytest.mark.parametrize(
    ("payload", "booked", "kind"),
    [
        (OURS, RUBLES, None),
        (None, RUBLES, None),
        (OURS, Sum("RUB", 14_899), "amount"),
        (OURS, Sum("XTR", 14_900), "currency"),
        (OURS, None, "missing_here"),
        ("order 7", None, "foreign"),
        (OURS + "0", None, "foreign"),
        (None, None, "foreign"),
    ],
)
def test_each_difference_has_its_kind(
    payload: str | None, booked: Sum | None, kind: str | None
) -> None:
    """R-95, R-97: a booked payment is compared, with any payload."""
    found = difference_of(replace(PAID, payload=payload), booked)
    assert (found and found.kind) == kind
    assert found is None or found.done == ("booked" if kind == "missing_here" else "reported")
    assert found is None or (found.theirs, found.ours) == (RUBLES, booked)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (PAID, None),
        (None, "missing_there"),
        (replace(PAID, state="pending"), "missing_there"),
        (replace(PAID, state="canceled"), "missing_there"),
        (replace(PAID, amount_minor=1), "amount"),
        (Unreadable("2f1d", "more_digits", "Three digits."), "unreadable"),
    ],
)
def test_an_unlisted_receipt_is_read_back(
    told: Payment | Unreadable | None, kind: str | None
) -> None:
    """R-96: a listing may be a moment behind."""
    found = unlisted("2f1d", RUBLES, {"2f1d": told} if told else {"another": PAID})
    assert (found and found.kind) == kind


def test_a_window_ends_when_payments_have_settled() -> None:
    """R-99: the last day, unless another window is named."""
    assert window_of(None, None, NOON) == (NOON - DAY, NOON)
    assert window_of(None, NOON + DAY, NOON) == (NOON - DAY, NOON)
    assert window_of(None, NOON - DAY, NOON) == (NOON - 2 * DAY, NOON - DAY)
    assert window_of(NOON - 3 * DAY, NOON - DAY, NOON) == (NOON - 3 * DAY, NOON - DAY)


def test_pauses_grow_to_a_bound() -> None:
    """R-99: and are at least what the provider asks for."""
    away = Unavailable("no connection")
    pauses = [pause_s(away, failures) for failures in (0, 1, 2, 100)]
    assert pauses == [5.0, 10.0, 20.0, LONGEST_PAUSE_S]
    assert pause_s(SlowDown(60.0), 0) == 60.0
    assert pause_s(SlowDown(1e9), 0) == LONGEST_PAUSE_S
    assert pause_s(Unknown("cut off", retry_after_s=7.0), 0) == 7.0


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (Refusal("401", "Wrong keys."), "refused, 401: Wrong keys."),
        (SlowDown(1.0), "too many calls"),
        (Unavailable("no connection"), "no connection"),
        (Unknown("x" * 1_000), "x" * MAX_SENTENCE_CHARACTERS),
    ],
)
def test_a_failure_is_a_sentence(failure: Failure, sentence: str) -> None:
    assert sentence_of(failure) == sentence


def test_references_fit_their_rows() -> None:
    """R-98: a provider may answer anything."""
    assert named("2f1d") == "2f1d"
    assert named("a\x00b") == "'a\\x00b'"
    assert len(named("ы\n" * 1_000)) == MAX_CHARGE_CHARACTERS
    odd = unreadable(Unreadable("a\nb", "malformed", "y" * 1_000))
    assert (odd.charge, len(odd.sentence or "")) == ("'a\\nb'", MAX_SENTENCE_CHARACTERS)


def test_counts_are_sums() -> None:
    found = [Difference("amount", "a", "a"), Difference("amount", "b", "b")]
    counts = counted(ReconciliationCounts(listed=5, amount=1, foreign=2), 7, found)
    assert counts == ReconciliationCounts(listed=12, amount=3, foreign=2)


def test_bounds_leave_room_for_a_month() -> None:
    """R-99: a million payments of a month, a hundred to a page."""
    assert MAX_PAGES * 100 >= 1_000_000
    assert MAX_MISSING_THERE < 10_000


def test_a_provider_with_its_keys_is_reconciled() -> None:
    """R-16: on by default; a shop without keys asks nobody."""
    keys = {"yookassa_shop_id": "1", "yookassa_secret_key": "k", "cryptobot_token": "1:a"}
    needed = {"TURNPIKE_PAYMENTS_DSN": "postgresql://u@h/d", "nats_url": "nats://h"}
    wanted = {"reconcile_yookassa", "reconcile_cryptobot", "measure_reconciliations"}
    for given, names in ((needed, set()), (needed | keys, wanted)):
        loops = {name for name, _ in build(Settings.model_validate(given))._loops}
        assert {name for name in loops if "reconcil" in name} == names


@pytest.mark.parametrize(
    ("cleared", "listed", "booked", "held"),
    [
        ({"RUB": -14_900, "USDT": -5}, {}, {}, {"RUB": 14_900, "USDT": 5}),
        ({"RUB": -14_900}, {"new": RUBLES}, {}, {"RUB": 29_800}),
        ({"RUB": -29_800}, {"new": RUBLES}, {"new": RUBLES}, {"RUB": 29_800}),
        ({"RUB": -29_800}, {}, {"newer": RUBLES}, {"RUB": 14_900}),
        ({}, {"new": Sum("TON", 7)}, {}, {"TON": 7}),
    ],
)
def test_money_on_its_way_is_expected(
    cleared: dict[str, int],
    listed: dict[str, Sum],
    booked: dict[str, Sum],
    held: dict[str, int],
) -> None:
    """R-118: a payment that is only listed is there already; one that is only booked is not yet."""
    assert held_here(cleared, listed, booked) == held


def test_equal_balances_do_not_differ() -> None:
    """R-118: I11."""
    assert held_difference("RUB", 0, 0) is None
    different = held_difference("RUB", 5, 7)
    assert different is not None
    assert (different.kind, different.theirs, different.ours, different.done) == (
        "balance",
        Sum("RUB", 5),
        Sum("RUB", 7),
        "reported",
    )
