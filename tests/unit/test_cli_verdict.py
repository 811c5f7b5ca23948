"""The outcome of a payment in one sentence, where nothing is stuck."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from shared.contracts.notifier import Deliveries
from shared.contracts.payments import RefundRecord
from tests.kit.payment_history import AT, RECEIPT, completed, delivery
from turnpike_cli.verdict import verdict


def test_a_completed_payment_is_one_sentence() -> None:
    assert verdict(completed()) == (
        "paid with 99 XTR, rewarded 14.90 RUB (10 %), access until 2026-12-25 19:00, message sent."
    )


def test_a_key_with_the_rest_was_sent() -> None:
    """R-50: the message with the rest superseded that of the key, and says all that it did."""
    sent = Deliveries(deliveries=(delivery("access_ready", "superseded"), delivery("left_over")))
    assert verdict(replace(completed(), deliveries=sent)).endswith(", message sent.")


@pytest.mark.parametrize(
    ("order", "receipt", "sentence"),
    [
        (
            {"state": "open", "honoured": True},
            None,
            "not paid: the order is open, and money that arrives until 2026-12-25 19:00 buys.",
        ),
        ({"state": "open"}, None, "not paid: since 2026-12-25 19:00 the order is too old to buy."),
        (
            {"state": "superseded", "honoured": True},
            None,
            "not paid: a newer order replaced it, but money that arrives until 2026-12-25 19:00 "
            "buys.",
        ),
        (
            {"state": "expired"},
            None,
            "not paid: since 2026-12-25 19:00 the order is too old to buy.",
        ),
        ({"state": "closed"}, None, "not paid, and closed: a newer order was paid."),
        (
            {"state": "closed"},
            {"outcome": "wallet", "because": "order_closed"},
            "99 XTR arrived and 149.00 RUB went to the wallet (order_closed), rewarded",
        ),
        (
            {"state": "open", "received_minor": 100},
            {"outcome": "wallet", "because": "too_little", "value_minor": 100},
            "99 XTR arrived and 1.00 RUB went to the wallet (too_little, 148.00 RUB missing), "
            "rewarded",
        ),
    ],
)
def test_the_outcome_of_the_money_is_named(
    order: dict[str, object], receipt: dict[str, object] | None, sentence: str
) -> None:
    history = completed()
    assert history.payment
    assert history.order
    receipts = tuple(one.model_copy(update=receipt) for one in history.receipts if receipt)
    changes = {"order": history.order.model_copy(update=order), "receipts": receipts}
    history = replace(
        history, payment=history.payment.model_copy(update=changes), grant=None, deliveries=None
    )
    assert verdict(history).startswith(sentence)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ({"outcome": "no_partner", "partner": None}, "no reward (no_partner)"),
        ({"outcome": "below_a_kopeck", "reward_minor": 0}, "no reward (below_a_kopeck)"),
        (None, "the reward waits for the payer's /start"),
    ],
)
def test_a_missing_reward_has_a_reason(reward: dict[str, object] | None, words: str) -> None:
    history = completed()
    assert history.rewards
    decided = tuple(one.model_copy(update=reward) for one in history.rewards.rewards if reward)
    changes = {"rewards": decided, "waits_since": None if reward else AT}
    history = replace(history, rewards=history.rewards.model_copy(update=changes))
    assert words in verdict(history)


def returned(**changes: object) -> RefundRecord:
    known: dict[str, object] = {
        "refund": uuid4(),
        "receipt": RECEIPT,
        "currency": "XTR",
        "amount_minor": 99,
        "refunded_at": AT,
        "state": "booked",
        "booked_minor": 99,
        "value_minor": 14900,
        "owed_minor": 0,
        "event": None,
    }
    return RefundRecord.model_validate(known | changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "paid with 99 XTR, 99 XTR returned, rewarded"),
        ({"owed_minor": 500}, "paid with 99 XTR, 99 XTR returned (5.00 RUB owed), rewarded"),
        ({"receipt": UUID(int=9)}, "paid with 99 XTR, undone by the refund of another payment,"),
        (
            {"state": "waiting", "booked_minor": None, "value_minor": None, "owed_minor": None},
            "paid with 99 XTR, a refund waits to be booked,",
        ),
    ],
)
def test_a_refund_is_named(changes: dict[str, object], sentence: str) -> None:
    """R-68: an operator sees what became of the money."""
    history = completed()
    assert history.payment is not None
    payment = history.payment.model_copy(update={"refunds": (returned(**changes),)})
    assert verdict(replace(history, payment=payment)).startswith(sentence)
