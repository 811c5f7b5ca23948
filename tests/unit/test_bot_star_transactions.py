"""What a transaction of Telegram's listing is, and whether the listing is the same."""

from typing import Any

import pytest

from bot_gateway.domain.star_transactions import NANOSTARS, Position, Transaction, read_transaction
from bot_gateway.domain.updates import report_from
from bot_gateway.reporting import event_of
from shared.contracts.message import derived_id
from tests.kit.bot import paid_update, refunded_update
from tests.kit.stars import incoming, outgoing, partner

ANN = derived_id("ann")


def event_from(raw: dict[str, Any], at: Any) -> Any:
    return event_of(report_from(raw), ANN, at, None)


def listed_event(raw: dict[str, Any], at: Any) -> Any:
    report = read_transaction(raw).report
    assert report is not None
    return event_of(report, ANN, at, None)


@pytest.mark.parametrize(
    ("update", "listed"),
    [
        (paid_update(5, "c", payload="told"), incoming("c", 5, payload="listed")),
        (refunded_update(5, "c", payload="told"), outgoing("c", 5)),
    ],
    ids=["payment", "refund"],
)
def test_update_and_listing_make_one_event(update: dict[str, Any], listed: dict[str, Any]) -> None:
    """R-60: same id and same digest, though payload and time are told differently."""
    at = report_from(update).paid_at
    one, other = event_from(update, at), listed_event(listed, at)
    assert (one.id, one.digest()) == (other.id, other.digest())
    assert one.model_dump() != other.model_dump()


def test_another_amount_is_another_digest() -> None:
    """M-22: the same charge with two amounts is an alarm."""
    at = report_from(paid_update(5, "c")).paid_at
    one, other = event_from(paid_update(5, "c"), at), listed_event(incoming("c", 5, stars=98), at)
    assert one.id == other.id
    assert one.digest() != other.digest()


def test_a_payment_has_the_fields_of_its_update() -> None:
    read = read_transaction(incoming("c", 5, stars=7, payload="p"))
    assert (read.key, read.kind, read.nanostars) == ("in:c", "payment", 7 * NANOSTARS)
    report = read.report
    assert report is not None
    assert (report.acquirer, report.charge, report.payer) == ("telegram_stars", "c", 5)
    assert (report.payload, report.currency, report.amount_minor) == ("p", "XTR", 7)
    assert not report.recurring
    assert not report.refunded


def test_a_subscription_is_recurring() -> None:
    report = read_transaction(incoming("c", subscription_period=2_592_000)).report
    assert report is not None
    assert report.recurring


def test_a_refund_repeats_the_charge() -> None:
    read = read_transaction(outgoing("c", 5))
    assert (read.key, read.kind, read.nanostars) == ("out:c", "refund", -99 * NANOSTARS)
    assert read.report is not None
    assert read.report.refunded


@pytest.mark.parametrize(
    ("by", "kind"),
    [
        ({"transaction_type": "paid_media_payment"}, "paid_media_payment"),
        ({"transaction_type": "gift_purchase"}, "gift_purchase"),
        ({"transaction_type": "premium_purchase"}, "premium_purchase"),
        ({"transaction_type": "business_account_transfer"}, "business_account_transfer"),
        ({"transaction_type": "invented_later"}, "unknown"),
        ({"type": "fragment"}, "fragment"),
        ({"type": "affiliate_program"}, "affiliate_program"),
        ({"type": "telegram_ads"}, "telegram_ads"),
        ({"type": "telegram_api"}, "telegram_api"),
        ({"type": "chat"}, "chat"),
        ({"type": "other"}, "other"),
        ({"type": "invented_later"}, "unknown"),
        ({"type": ["user"]}, "unknown"),
    ],
)
@pytest.mark.parametrize("side", ["source", "receiver"])
def test_other_kinds_are_no_payments(by: dict[str, Any], kind: str, side: str) -> None:
    """R-62: they count in the sum, and report nothing."""
    moved = {"id": "t", "amount": 5, "nanostar_amount": 3, "date": 1_790_000_000}
    read = read_transaction({**moved, side: partner(1, **by)})
    assert (read.kind, read.report) == (kind, None)
    assert read.nanostars == (5 * NANOSTARS + 3) * (1 if side == "source" else -1)


def without(raw: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key != name}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "a text",
        [],
        {},
        without(incoming("c"), "id"),
        without(incoming("c"), "amount"),
        without(incoming("c"), "date"),
        without(incoming("c"), "source"),
        incoming("c") | {"amount": 1.5},
        incoming("c") | {"amount": True},
        incoming("c") | {"amount": 2**63},
        incoming("c") | {"date": 10**30},
        incoming("nul\0charge"),
        incoming("x" * 300),
        incoming("c", user={}),
        incoming("c") | {"source": "a text"},
    ],
)
def test_what_cannot_be_read_says_why(raw: object) -> None:
    """R-61: it never raises, and it is found again at its place."""
    read = read_transaction(raw)
    assert (read.report, read.nanostars) == (None, 0)
    assert read.kind == "unreadable"
    assert read.problem
    assert read.key == read_transaction(raw).key
    assert "\0" not in read.key


def listed(*keys: str) -> list[Transaction]:
    return [Transaction(key, "payment", 0) for key in keys]


def test_a_place_is_found_again() -> None:
    """R-61: only where the last known transaction stands where it stood."""
    place = Position().after(listed("a", "b", "c"))
    assert place == Position(3, "c")
    assert [place.begin(100), place.begin(1)] == [0, 2]
    assert place.is_continued_by(listed("a", "b", "c", "d"), 0)
    assert place.is_continued_by(listed("c"), 2)
    assert not place.is_continued_by(listed("a", "b", "d", "c"), 0)
    assert not place.is_continued_by(listed("a", "b"), 0)
    assert not place.is_continued_by([], 2)
    assert Position().is_continued_by([], 0)
    assert place.after([]) == place
