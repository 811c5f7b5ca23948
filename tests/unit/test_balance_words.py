"""The balance history says why it changed: each reason of the ledger has words of its own."""

from datetime import UTC, datetime
from typing import get_args

import pytest

from payments.domain.ledger import Reason
from shared.contracts.money import Money
from shared.platform.texts import LANGUAGES, Day, Texts

TEXTS = Texts("bot_gateway")
AT = datetime(2026, 11, 22, tzinfo=UTC)


def line(language: str, reason: str) -> str:
    amount = Money(14_900, signed=True)
    return str(TEXTS(language, "balance-line", day=Day(AT), amount=amount, reason=reason))


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_reason_has_its_words(language: str) -> None:
    """R-54: a person reads what happened, also of an operator's correction."""
    # Fees and withdrawals are the shop's: no person has such a transfer.
    reasons = [reason for reason in get_args(Reason) if reason not in ("fee", "withdrawn")]
    lines = [line(language, reason) for reason in (*reasons, "of a later version")]
    assert len(set(lines)) == len(lines)
