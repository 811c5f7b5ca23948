"""The messages that events cause, without a database."""

from datetime import UTC, datetime
from typing import get_args
from uuid import UUID, uuid4

import pytest

from notifier.domain import messages
from notifier.domain.messages import Kind
from notifier.domain.wording import words
from shared.contracts.payments import Bought, PaymentConfirmed, PlanTerms, Received
from shared.contracts.referrals import RewardEarned

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def confirmed(*, bought: bool, received: bool = True, missing_minor: int = 0) -> PaymentConfirmed:
    terms = PlanTerms(
        plan="basic",
        months=1,
        devices=5,
        traffic_bytes=None,
        node_group="default",
        list_month_minor=14900,
    )
    return PaymentConfirmed.caused_by(
        "telegram:charge",
        about=uuid4(),
        at=NOW,
        received=Received(receipt=uuid4(), acquirer="telegram", charge="charge", value_minor=14900)
        if received
        else None,
        bought=Bought(order=uuid4(), what="subscription", terms=terms, price_minor=14900)
        if bought
        else None,
        booked_at=NOW,
        wallet_minor=0 if bought else 14900,
        missing_minor=missing_minor,
    )


def test_a_purchase_message_is_caused_by_its_order() -> None:
    """Whichever charge paid the order."""
    event = confirmed(bought=True)
    [message] = messages.of_payment(event)
    assert event.bought is not None
    assert message.kind == "paid_issuing"
    assert message.cause == str(event.bought.order)
    assert message.thread == event.bought.order


@pytest.mark.parametrize(("missing_minor", "kind"), [(0, "topped_up"), (500, "missing")])
def test_a_receipt_message_is_caused_by_its_receipt(missing_minor: int, kind: Kind) -> None:
    """N-08: success is not announced before it is there."""
    event = confirmed(bought=False, missing_minor=missing_minor)
    [message] = messages.of_payment(event)
    assert event.received is not None
    assert message.kind == kind
    assert message.cause == str(event.received.receipt)
    assert message.thread is None


def test_a_confirmation_without_money_has_no_message() -> None:
    assert messages.of_payment(confirmed(bought=False, received=False)) == []


def test_the_receipt_names_what_is_left_over() -> None:
    """N-17, R-50: the wallet grew, and the person reads why in the message of the order."""
    event = confirmed(bought=True).model_copy(update={"over_minor": 5000, "wallet_minor": 7000})
    issuing, left = messages.of_payment(event)
    assert (issuing.kind, left.kind) == ("paid_issuing", "left_over")
    assert issuing.thread == left.thread
    assert left.follows == "access_ready"
    text = words("paid_issuing", issuing.details, "en").text
    assert "50\u00a0₽ is left over" in text
    assert "70\u00a0₽" in text


def test_every_reason_of_a_payment_has_words() -> None:
    """N-17: money that bought nothing is explained, and no two reasons have the same words."""
    reasons = get_args(get_args(PaymentConfirmed.model_fields["reason"].annotation)[0])
    texts = set()
    for reason in (*reasons, None):
        event = confirmed(bought=False).model_copy(update={"reason": reason})
        [message] = messages.of_payment(event)
        kind: Kind = "missing" if reason in ("too_little", "part_spent") else message.kind
        texts.add(words(kind, message.details, "en").text)
    assert len(texts) == len(reasons) + 1


def test_a_purchase_from_the_balance_says_so() -> None:
    """R-83: its price, and what is left; also by an edit, where the key came first."""
    event = confirmed(bought=True, received=False).model_copy(update={"wallet_minor": 5100})
    issuing, left = messages.of_payment(event)
    assert (issuing.kind, left.kind, left.follows) == ("paid_issuing", "left_over", "access_ready")
    assert issuing.details == left.details == {"balance_minor": 14900, "wallet_minor": 5100}


def test_a_restored_purchase_says_so_once() -> None:
    """R-146: its message, or an edit of the key's."""
    event = confirmed(bought=True, received=False)
    assert event.bought is not None
    again = event.bought.model_copy(update={"restores": uuid4()})
    issuing, left = messages.of_payment(event.model_copy(update={"bought": again}))
    assert (issuing.kind, left.kind, left.follows) == ("paid_issuing", "left_over", "access_ready")
    assert issuing.details["restored"] == left.details["restored"] is True


def test_a_topup_is_named_by_its_value() -> None:
    """R-83: in rubles, whatever it was paid with."""
    event = confirmed(bought=False).model_copy(update={"reason": "topped_up"})
    [message] = messages.of_payment(event)
    assert message.kind == "topped_up"
    text = words("topped_up", message.details, "en").text.replace("\u00a0", " ")
    assert text.startswith("💰 <b>Balance topped up: 149 ₽</b>")


def test_one_cause_gives_two_people_two_messages() -> None:
    buyer, partner = uuid4(), uuid4()

    def about(person: UUID, kind: Kind) -> messages.Message:
        return messages.Message(person, "receipt", kind, NOW)

    assert about(buyer, "topped_up").id != about(partner, "reward_earned").id


def test_a_reward_of_zero_has_no_message() -> None:
    event = RewardEarned.caused_by(
        "receipt",
        about=uuid4(),
        at=NOW,
        receipt=uuid4(),
        invitee=uuid4(),
        percent=10,
        value_minor=5,
        reward_minor=0,
        paying=1,
        next_level_at=25,
        next_percent=25,
    )
    assert messages.of_reward(event) is None


def test_details_contain_no_name_and_no_key() -> None:
    """S-14."""
    [message] = messages.of_payment(confirmed(bought=True))
    assert all(isinstance(value, int) for value in message.details.values())
