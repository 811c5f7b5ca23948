"""May this charge be taken? Seven ways to say no, and one yes."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from payments.confirmation import Charge, Offer, may_charge

ALICE = uuid4()
OFFER = Offer(ALICE, "open", 99, "XTR", superseded=False, expired=False)
CHARGE = Charge(ALICE, "XTR", 99)


def test_the_open_newest_unexpired_invoice_of_that_person_as_it_was_asked_is_charged() -> None:
    """R-05: the one yes."""
    assert may_charge(CHARGE, OFFER) is None


def test_a_payload_without_an_invoice_is_refused() -> None:
    assert may_charge(CHARGE, None) == "payload_unknown"


@pytest.mark.parametrize("payer", [uuid4(), None], ids=["somebody else", "nobody known"])
def test_only_the_person_who_ordered_is_charged(payer: UUID | None) -> None:
    assert may_charge(replace(CHARGE, payer=payer), OFFER) == "not_yours"


@pytest.mark.parametrize("state", ["paid", "closed"])
def test_an_order_that_wants_nothing_any_more_is_refused(state: str) -> None:
    assert may_charge(CHARGE, replace(OFFER, state=state)) == "order_closed"


def test_an_invoice_with_a_newer_one_is_refused() -> None:
    assert may_charge(CHARGE, replace(OFFER, superseded=True)) == "invoice_superseded"


def test_an_expired_invoice_is_refused() -> None:
    assert may_charge(CHARGE, replace(OFFER, expired=True)) == "invoice_expired"


def test_another_currency_is_refused() -> None:
    """R-17: the same number in another currency is not what was asked."""
    assert may_charge(replace(CHARGE, currency="RUB"), OFFER) == "currency_differs"


@pytest.mark.parametrize("amount_minor", [98, 100, 0, -99])
def test_another_amount_is_refused(amount_minor: int) -> None:
    """R-17: exactly what was asked, neither less nor more."""
    assert may_charge(replace(CHARGE, amount_minor=amount_minor), OFFER) == "amount_differs"


def test_what_concerns_strangers_is_said_first_and_an_order_before_its_invoice() -> None:
    """Who is not the buyer learns nothing of the order's state."""
    wrong = replace(OFFER, state="paid", superseded=True, expired=True)
    assert may_charge(Charge(uuid4(), "RUB", 1), wrong) == "not_yours"
    assert may_charge(Charge(ALICE, "RUB", 1), wrong) == "order_closed"
    assert may_charge(Charge(ALICE, "RUB", 1), replace(wrong, state="open")) == "invoice_superseded"
