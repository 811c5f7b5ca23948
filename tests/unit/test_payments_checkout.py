"""May this charge be taken? Seven refusals, and one approval."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from payments.domain.checkout import Charge, Offer, may_charge
from shared.contracts.message import Value
from shared.contracts.payments import OpenInvoice, PaymentQuery, PlaceOrder, PreCheckout

ALICE = uuid4()
OFFER = Offer(ALICE, "open", 99, "XTR", superseded=False, expired=False)
CHARGE = Charge(ALICE, "XTR", 99)


def test_matching_charge_of_newest_invoice_is_approved() -> None:
    """R-05: the only approval: an open order, its newest invoice, unexpired, as it was asked."""
    assert may_charge(CHARGE, OFFER) is None


def test_payload_without_an_invoice_is_refused() -> None:
    assert may_charge(CHARGE, None) == "payload_unknown"


@pytest.mark.parametrize("payer", [uuid4(), None], ids=["another person", "unknown person"])
def test_only_the_buyer_is_charged(payer: UUID | None) -> None:
    assert may_charge(replace(CHARGE, payer=payer), OFFER) == "not_yours"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("paid", "order_paid"),
        ("closed", "order_closed"),
        ("superseded", "order_superseded"),
        ("expired", "invoice_expired"),
    ],
)
def test_finished_order_is_refused(state: str, reason: str) -> None:
    assert may_charge(CHARGE, replace(OFFER, state=state)) == reason


def test_superseded_invoice_is_refused() -> None:
    assert may_charge(CHARGE, replace(OFFER, superseded=True)) == "invoice_superseded"


def test_expired_invoice_is_refused() -> None:
    assert may_charge(CHARGE, replace(OFFER, expired=True)) == "invoice_expired"


def test_another_currency_is_refused() -> None:
    """R-17: the same number in another currency is not the asked amount."""
    assert may_charge(replace(CHARGE, currency="RUB"), OFFER) == "currency_differs"


@pytest.mark.parametrize("amount_minor", [98, 100, 0, -99])
def test_another_amount_is_refused(amount_minor: int) -> None:
    """R-17: exactly the asked amount, neither less nor more."""
    assert may_charge(replace(CHARGE, amount_minor=amount_minor), OFFER) == "amount_differs"


def test_payer_is_checked_before_order_and_invoice() -> None:
    """A payer who is not the buyer learns nothing about the order's state."""
    wrong = replace(OFFER, state="paid", superseded=True, expired=True)
    assert may_charge(Charge(uuid4(), "RUB", 1), wrong) == "not_yours"
    assert may_charge(Charge(ALICE, "RUB", 1), wrong) == "order_paid"
    assert may_charge(Charge(ALICE, "RUB", 1), replace(wrong, state="open")) == "invoice_superseded"


@pytest.mark.parametrize(
    ("contract", "changed"),
    [
        (PlaceOrder, {"plan": ""}),
        (PlaceOrder, {"plan": "x" * 25}),
        (PlaceOrder, {"months": 0}),
        (PlaceOrder, {"months": 2**63}),
        (PlaceOrder, {"topup_minor": 50_000}),
        (PlaceOrder, {"plan": None, "months": None, "topup_minor": 9_999}),
        (PlaceOrder, {"plan": None, "months": None, "topup_minor": 10_000_001}),
        (PlaceOrder, {"plan": None}),
        (PlaceOrder, {"plan": None, "months": None}),
        (OpenInvoice, {"way": "cheque"}),
        (PreCheckout, {"payload": "x" * 257}),
        (PreCheckout, {"currency": "x" * 65}),
        (PreCheckout, {"amount_minor": 2**63}),
        (PaymentQuery, {"named": ""}),
        (PaymentQuery, {"named": "x" * 301}),
    ],
)
def test_request_beyond_its_bounds_is_malformed(
    contract: type[Value], changed: dict[str, object]
) -> None:
    """D-16: every text and number of a request has a bound, so none reaches a statement."""
    right: dict[str, object] = {
        "id": uuid4(),
        "actor": "person:1",
        "deadline_at": "2026-11-22T12:00:00Z",
        "person": uuid4(),
        "order": uuid4(),
        "plan": "basic",
        "months": 1,
        "way": "stars",
        "payer": None,
        "payload": "free",
        "currency": "XTR",
        "amount_minor": 99,
        "named": "charge",
    }
    contract.model_validate(right)
    with pytest.raises(ValidationError, match=next(reversed(changed))):
        contract.model_validate(right | changed)
