"""Decisions about Telegram's listing of Stars: what a transaction is, and whether it is the same.

The listing is asked by offset, the oldest first. Its transactions of other kinds (gifts,
withdrawals, commissions) are no payments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bot_gateway.domain.updates import PAYMENT, REFUND, Json, Report, readable, report_from

PAGE = 100
"""Telegram lists at most so many at once."""
OVERLAP = 100
"""A walk begins so many transactions before its position."""
NANOSTARS = 10**9
"""The parts of a Star."""

USER_KINDS = frozenset(
    {"paid_media_payment", "gift_purchase", "premium_purchase", "business_account_transfer"}
)
PARTNER_KINDS = frozenset(
    {"fragment", "affiliate_program", "telegram_ads", "telegram_api", "chat", "other"}
)
UNKNOWN, UNREADABLE = "unknown", "unreadable"

_KEY_CHARACTERS = 300


@dataclass(frozen=True)
class Transaction:
    """One of the listing. Only a payment and a refund have a report."""

    key: str
    """Direction and id: a refund repeats the id of its payment."""
    kind: str
    nanostars: int
    """Positive what came in, negative what went out."""
    report: Report | None = None
    problem: str | None = None
    """Why it could not be read. It says nothing about money then."""


@dataclass(frozen=True)
class Position:
    """How far the listing was walked: so many transactions, and the key of the last."""

    walked: int = 0
    last_key: str | None = None

    def begin(self, overlap: int) -> int:
        """The offset from which to ask, so that the last known transaction is seen again."""
        return max(self.walked - overlap, 0)

    def is_continued_by(self, page: Sequence[Transaction], begin: int) -> bool:
        """Whether the listing, asked from `begin`, still has the last known transaction there.

        Telegram promises no stable offsets: what moved may hide a payment.
        """
        if self.walked == 0:
            return True
        last = self.walked - 1 - begin
        return last < len(page) and page[last].key == self.last_key

    def after(self, new: Sequence[Transaction]) -> "Position":
        return Position(self.walked + len(new), new[-1].key) if new else self


def read_transaction(raw: object) -> Transaction:
    """Never raises: one that cannot be read must not stop the walk."""
    try:
        return _read(raw)
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        OSError,
    ) as error:
        return Transaction(_key(raw), UNREADABLE, 0, problem=f"{type(error).__name__}: {error}")


def _read(raw: Any) -> Transaction:
    is_incoming = raw.get("source") is not None
    partner = raw["source" if is_incoming else "receiver"]
    kind = _kind(partner, "payment" if is_incoming else "refund")
    amount, parts = raw["amount"], raw.get("nanostar_amount", 0)
    if type(amount) is not int or type(parts) is not int:
        raise ValueError("a transaction has a whole amount")
    nanostars = amount * NANOSTARS + parts
    report = _report(raw, partner, kind) if kind in ("payment", "refund") else None
    return Transaction(_key(raw), kind, nanostars if is_incoming else -nanostars, report)


def _kind(partner: Json, invoice: Literal["payment", "refund"]) -> str:
    if partner["type"] != "user":
        return _known(partner["type"], PARTNER_KINDS)
    if partner["transaction_type"] == "invoice_payment":
        return invoice
    return _known(partner["transaction_type"], USER_KINDS)


def _known(kind: object, kinds: frozenset[str]) -> str:
    """The label of a metric: one of few, whatever Telegram adds."""
    return kind if isinstance(kind, str) and kind in kinds else UNKNOWN


def _report(raw: Json, partner: Json, kind: str) -> Report:
    """Read as the message that Telegram sends about it: the same report, the same event."""
    payment = {
        "currency": "XTR",
        "total_amount": raw["amount"],
        "invoice_payload": partner.get("invoice_payload", ""),
        "telegram_payment_charge_id": raw["id"],
        "is_recurring": "subscription_period" in partner,
    }
    reported = {PAYMENT if kind == "payment" else REFUND: payment}
    return report_from({"message": {"from": partner["user"], "date": raw["date"], **reported}})


def _key(raw: object) -> str:
    """What an unreadable one has of it; PostgreSQL can store it."""
    if not isinstance(raw, Mapping):
        return UNREADABLE
    direction = "in" if raw.get("source") is not None else "out"
    return str(readable(f"{direction}:{str(raw.get('id'))[:_KEY_CHARACTERS]}"))
