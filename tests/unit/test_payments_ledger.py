"""The ledger as values."""

from uuid import uuid4

import pytest

from payments.ledger import REVENUE, Account, Entry, Holdings, Transfer, changes, moved, owed_settled, purchase, reward

PERSON = uuid4()


def test_a_transfer_that_does_not_balance_cannot_be_made() -> None:
    with pytest.raises(AssertionError, match="does not balance"):
        Transfer("c", "receipt", PERSON, (Entry(Account("wallet", PERSON), 5), Entry(REVENUE, -4)))


def test_a_transfer_must_balance_in_each_currency() -> None:
    with pytest.raises(AssertionError, match="does not balance"):
        Transfer("c", "receipt", None, (Entry(Account("exchange", None, "XTR"), 5), Entry(Account("exchange"), -5)))


def test_money_never_flows_backwards() -> None:
    with pytest.raises(AssertionError, match="forwards"):
        moved("c", "purchase", PERSON, (REVENUE, Account("wallet", PERSON), -1))


def test_a_purchase_spends_the_wallet_before_what_was_earned() -> None:
    held = Holdings(PERSON, wallet_minor=300, earned_minor=1000)
    after = held.after(purchase(held, "order:1", 500))
    assert (after.wallet_minor, after.earned_minor) == (0, 800)


def test_a_purchase_of_more_than_is_there_is_a_bug() -> None:
    """M-03: nobody spends what is not there."""
    with pytest.raises(AssertionError):
        purchase(Holdings(PERSON, wallet_minor=300, earned_minor=100), "order:1", 500)


def test_a_reward_pays_what_the_partner_owes() -> None:
    held = Holdings(PERSON, owed_minor=700)
    held = held.after(reward(held, uuid4(), 1000))
    settled = owed_settled(held, "reward:1")
    assert settled is not None
    after = held.after(settled)
    assert (after.earned_minor, after.owed_minor) == (300, 0)


def test_accounts_that_money_only_passed_through_are_told_with_nothing_to_move() -> None:
    wallet = Account("wallet", PERSON)
    through = [
        moved("a", "receipt", PERSON, (REVENUE, wallet, 5)),
        moved("b", "purchase", PERSON, (wallet, REVENUE, 5)),
    ]
    assert dict(changes(through)) == {wallet: 0}
