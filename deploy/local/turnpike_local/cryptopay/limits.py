"""Crypto Pay's limits and times."""

from dataclasses import dataclass
from decimal import Decimal

from turnpike_local.standin.posting import Schedule

CENT = Decimal("0.01")
DOLLAR = Decimal(1)
MOST_USD = Decimal(25_000)
NOTICES = Schedule(first_pause_s=60.0, longest_pause_s=6 * 3600.0)


@dataclass(frozen=True)
class Limits:
    """The provider's figures, or ours where it gives none (README). Tests change them."""

    fee_percent: Decimal = Decimal(3)
    notices: Schedule = NOTICES
    webhook_failures_most: int = 17
    webhook_failures_window_s: float = 3 * 24 * 3600.0
