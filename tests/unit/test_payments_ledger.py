"""The ledger as values."""

from uuid import uuid4

import pytest

from payments.domain.ledger import (
    REVENUE,
    Account,
    Entry,
    Holdings,
    Transfer,
    changes,
    owed_settled,
    purchase,
    reward,
    transfer_of,
)

PERSON = uuid4()


def test_unbalanced_transfer_cannot_be_made() -> None:
    entries = (Entry(Account("wallet", PERSON), 5), Entry(REVENUE, -4))
    with pytest.raises(AssertionError, match="does not balance"):
        Transfer("c", "receipt", PERSON, entries)


def test_transfer_balances_in_each_currency() -> None:
    entries = (Entry(Account("exchange", None, "XTR"), 5), Entry(Account("exchange"), -5))
    with pytest.raises(AssertionError, match="does not balance"):
        Transfer("c", "receipt", None, entries)


def test_negative_flow_is_refused() -> None:
    with pytest.raises(AssertionError, match="never negative"):
        transfer_of("c", "purchase", PERSON, (REVENUE, Account("wallet", PERSON), -1))


def test_purchase_spends_wallet_before_earned() -> None:
    held = Holdings(PERSON, wallet_minor=300, earned_minor=1000)
    after = held.after(purchase(held, "order:1", 500))
    assert (after.wallet_minor, after.earned_minor) == (0, 800)


def test_purchase_beyond_the_balances_is_a_bug() -> None:
    """M-03: a purchase spends at most the balances."""
    with pytest.raises(AssertionError):
        purchase(Holdings(PERSON, wallet_minor=300, earned_minor=100), "order:1", 500)


def test_reward_settles_the_partners_debt() -> None:
    held = Holdings(PERSON, owed_minor=700)
    held = held.after(reward(held, uuid4(), 1000))
    settled = owed_settled(held, "reward:1")
    assert settled is not None
    after = held.after(settled)
    assert (after.earned_minor, after.owed_minor) == (300, 0)


def test_changes_include_accounts_that_cancel_out() -> None:
    wallet = Account("wallet", PERSON)
    transfers = [
        transfer_of("a", "receipt", PERSON, (REVENUE, wallet, 5)),
        transfer_of("b", "purchase", PERSON, (wallet, REVENUE, 5)),
    ]
    assert dict(changes(transfers)) == {wallet: 0}
