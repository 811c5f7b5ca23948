"""Receipts for the tax office: full payments, advances, offsets and refunds, to the kopeck."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.domain.fiscal import (
    LONGEST_REGISTRATION_PAUSE_S,
    MOST_READS,
    Advance,
    Spent,
    is_email,
    offset,
    pause_of_registration_s,
    split_of_refund,
    vat_of_advance,
)
from payments.domain.provider import FiscalReceipt
from payments.providers.yookassa.messages import payment_body, receipt_body, refund_body
from shared.contracts.message import derived_id
from tests.kit.payments import NOW
from tests.kit.providers import asked_by

ANN, BOB = UUID(int=1), UUID(int=2)
OLD, NEW, OTHER = (UUID(int=n) for n in (10, 11, 12))
ORDERS = [UUID(int=n) for n in range(100, 110)]
TERMS = ("a@example.org", "VPN", "service", 11, 2)


def test_oldest_advance_is_used_first() -> None:
    advances = [Advance(OLD, ANN, 100_00), Advance(NEW, ANN, 500_00), Advance(OTHER, BOB, 900_00)]
    offsets, left = offset([Spent(ORDERS[0], ANN, 149_00, 451_00)], advances)
    [made] = offsets
    assert (made.order, made.advance, made.amount_minor) == (ORDERS[0], OLD, 149_00)
    assert left == {OLD: 0, NEW: 451_00}


def test_purchases_of_a_batch_share_an_advance() -> None:
    """The second one finds what the first one left, and no more."""
    spent = [Spent(order, ANN, 149_00, 0) for order in ORDERS[:2]]
    offsets, left = offset(spent, [Advance(OLD, ANN, 200_00)])
    assert [one.amount_minor for one in offsets] == [149_00, 51_00]
    assert left == {OLD: 0}


def test_money_without_a_receipt_needs_no_offset() -> None:
    """Stars in the wallet: no advance, and so no receipt of the purchase."""
    spent = [Spent(ORDERS[0], ANN, 149_00, 0)]
    assert offset(spent, [Advance(OTHER, BOB, 1)]) == ([], {})


def test_money_without_a_receipt_is_spent_first() -> None:
    """100 of the 149 were Stars: the advance of 500 pays 49, and 451 are left of both."""
    spent = [Spent(ORDERS[0], ANN, 149_00, 451_00)]
    [made], left = offset(spent, [Advance(OLD, ANN, 500_00)])
    assert (made.amount_minor, left) == (49_00, {OLD: 451_00})
    enough = [Spent(ORDERS[0], ANN, 149_00, 500_00)]
    assert offset(enough, [Advance(OLD, ANN, 500_00)]) == ([], {})


@given(
    rests=st.lists(st.integers(1, 1_000), max_size=5),
    wallets=st.lists(st.integers(1, 1_000), max_size=5),
    held=st.integers(0, 2_000),
)
def test_offsets_never_exceed_their_advances(
    rests: list[int], wallets: list[int], held: int
) -> None:
    """R-112: every kopeck of an advance is offset at most once, and none is invented."""
    advances = [Advance(UUID(int=n), ANN, rest) for n, rest in enumerate(rests, 1)]
    spent = [Spent(UUID(int=n), ANN, minor, held) for n, minor in enumerate(wallets, 1)]
    offsets, left = offset(spent, advances)
    rest_after = sum(left.get(one.id, one.rest_minor) for one in advances)
    used = sum(one.amount_minor for one in offsets)
    assert used == min(max(0, sum(rests) - held), sum(wallets)) == sum(rests) - rest_after
    wanted = {one.order: one.wallet_minor for one in spent}
    assert all(0 < one.amount_minor <= wanted[one.order] for one in offsets)
    assert [one.id for one in offsets] == [
        derived_id("offset receipt", one.order) for one in offsets
    ]


@pytest.mark.parametrize(
    ("amount", "rest", "items"), [(100, 100, (0, 100)), (100, 30, (70, 30)), (100, 0, (100, 0))]
)
def test_refund_returns_the_advance_first(amount: int, rest: int, items: tuple[int, int]) -> None:
    split = split_of_refund(amount, rest)
    assert (split.service_minor, split.advance_minor) == items


def test_advance_takes_the_calculated_rate() -> None:
    """22 % of a service are 22/122 of its advance. Without VAT there is none of either."""
    assert [vat_of_advance(code) for code in range(1, 13)] == [
        1,
        2,
        5,
        6,
        5,
        6,
        9,
        10,
        9,
        10,
        12,
        12,
    ]


def test_full_payment_is_one_service() -> None:
    receipt = FiscalReceipt(*TERMS, service_minor=149_00, advance_minor=0)
    body = payment_body(asked_by("sbp", NOW, receipt=receipt))["receipt"]
    assert body == {
        "customer": {"email": "a@example.org"},
        "items": [
            {
                "description": "VPN",
                "quantity": 1,
                "amount": {"value": "149.00", "currency": "RUB"},
                "vat_code": 11,
                "payment_subject": "service",
                "payment_mode": "full_payment",
                "measure": "piece",
            }
        ],
        "tax_system_code": 2,
    }


def test_an_advance_is_a_payment() -> None:
    """A refund that has both: two items, which are the amount exactly."""
    receipt = FiscalReceipt(*TERMS, service_minor=70, advance_minor=30)
    items = refund_body("p", 100, "RUB", receipt)["receipt"]["items"]
    told = [(one["payment_mode"], one["payment_subject"], one["vat_code"]) for one in items]
    assert told == [("full_payment", "service", 11), ("advance", "payment", 12)]
    assert [one["amount"]["value"] for one in items] == ["0.70", "0.30"]


def test_offset_is_settled_by_the_prepayment() -> None:
    body = receipt_body("p-1", FiscalReceipt(*TERMS, service_minor=149_00, advance_minor=0))
    assert (body["type"], body["payment_id"], body["send"]) == ("payment", "p-1", True)
    assert body["settlements"] == [
        {"type": "prepayment", "amount": {"value": "149.00", "currency": "RUB"}}
    ]
    assert [one["payment_mode"] for one in body["items"]] == ["full_payment"]


def test_items_must_be_the_amount() -> None:
    """R-110: a receipt of another sum is a mistake of ours, and is never sent."""
    receipt = FiscalReceipt(*TERMS, service_minor=1, advance_minor=0)
    with pytest.raises(AssertionError):
        payment_body(asked_by("sbp", NOW, receipt=receipt))


def test_no_receipt_where_none_is_asked() -> None:
    assert "receipt" not in payment_body(asked_by("sbp", NOW))
    assert "receipt" not in refund_body(str(uuid4()), 1, "RUB", None)


def test_registration_is_read_ever_more_rarely() -> None:
    pauses = [pause_of_registration_s(reads) for reads in range(MOST_READS)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_REGISTRATION_PAUSE_S


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("anna@example.com", True),
        ("Anna.B+vpn_1@mail.example-1.co.uk", True),
        ("a@xn--80aswg.xn--p1ai", True),
        ("", False),
        ("anna", False),
        ("anna@", False),
        ("@example.com", False),
        ("anna@example", False),
        ("anna@-a.com", False),
        ("anna@example..com", False),
        ("anna@example.com\n", False),
        ("anna b@example.com", False),
        ("<b>@example.com", False),
        ("анна@example.com", False),
        ("a@b@example.com", False),
        (f"{'a' * 65}@example.com", False),
        (f"a@{'b' * 63}.{'c' * 63}.{'d' * 63}.{'e' * 63}.com", False),
    ],
)
def test_an_email_has_its_form(text: str, is_one: bool) -> None:
    """R-147: the provider refuses a whole payment for a wrong one."""
    assert is_email(text) == is_one
