"""The merchant's shop at YooKassa, and the provider's figures."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from turnpike_local.standin.posting import Schedule

MethodType = Literal["sbp", "bank_card"]
METHODS: tuple[MethodType, ...] = get_args(MethodType)

LEAST_MINOR = 100
MOST_MINOR: dict[MethodType, int] = {"sbp": 70_000_000, "bank_card": 35_000_000}
"""One payment, in kopecks (yookassa.ru: 700 000 and 350 000 rubles)."""

NOTICES = Schedule(first_pause_s=5.0, longest_pause_s=3600.0)
"""It repeats a notice for 24 hours, and does not publish the pauses: a guess."""

_DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Shop:
    """The terms of the contract with YooKassa. `fees` are basis points of the amount."""

    shop_id: str = "100500"
    secret_key: str = field(default="test_secret", repr=False)
    gateway_id: str = "100700"
    enabled: bool = True
    methods: tuple[MethodType, ...] = METHODS
    may_save_methods: bool = True
    fiscalization: Literal["yoo_receipt", "atol"] | None = None
    fees: dict[MethodType, int] = field(default_factory=lambda: {"sbp": 70, "bank_card": 350})


@dataclass(frozen=True)
class Limits:
    """Times of YooKassa, in seconds. Tests shorten them."""

    link_s: float = 3600.0
    hold_s: float = 7 * _DAY_S
    key_kept_s: float = _DAY_S
    notice_kept_s: float = _DAY_S
    notices: Schedule = NOTICES
    kept_s: float = 3 * 365 * _DAY_S
    """Payments are listed, and can be refunded, for three years."""
