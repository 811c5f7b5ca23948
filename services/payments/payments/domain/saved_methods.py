"""Saved methods: the payer's consent, a person's few methods, and the end of one."""

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from payments.domain.provider import Way
from shared.contracts.message import derived_id
from shared.contracts.payments import InvoiceRefusedReason

MOST_METHODS = 3
"""Methods of one person. One more makes the shop forget the oldest."""
TITLE_CHARACTERS = 40
METHOD_UNKNOWN = "method_unknown"
"""The code of a refusal: the provider knows no such method of this shop."""
METHOD_FORGOTTEN = "method_forgotten"
"""The person has forgotten the method before it was charged."""

# https://yookassa.ru/developers/payments/declined-payments asks for another method. A later charge
# of the same one would be refused again.
GONE = frozenset(
    {
        "permission_revoked",
        "card_expired",
        "payment_method_restricted",
        "invalid_card_number",
        "country_forbidden",
        METHOD_UNKNOWN,
        METHOD_FORGOTTEN,
    }
)
# A later charge may pass.
DECLINED = frozenset(
    {
        "3d_secure_failed",
        "call_issuer",
        "canceled",
        "expired_on_confirmation",
        "fraud_suspected",
        "general_decline",
        "identification_required",
        "internal_timeout",
        "invalid_csc",
        "issuer_unavailable",
        "payment_method_limit_exceeded",
    }
)


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """A method that a person asked the shop to remember. `name` is what buttons name it by."""

    id: UUID
    name: str
    acquirer: str
    way: Way
    title: str = field(repr=False)


def is_gone(code: str) -> bool:
    """Whether a charge that was refused so ends the method, too."""
    return code in GONE


def reason_of_charge(code: str) -> InvoiceRefusedReason:
    """Why the charge of a saved method was refused, by the provider's word or our own."""
    if is_gone(code):
        return "method_gone"
    if code == "insufficient_funds":
        return "no_funds"
    if code in DECLINED:
        return "declined"
    return "provider_down" if code == "provider_down" else "refused"


def id_of(invoice: UUID) -> UUID:
    """The id of the method that this invoice saves."""
    return derived_id("saved method", invoice)


def name_of(method: UUID) -> str:
    return f"s{method.hex[:6]}"


def may_save(acquirer: str, way: str, saves: Collection[str]) -> bool:
    """`saves` are the acquirers that may save methods, by the operator's setting."""
    return acquirer in saves and way in ("sbp", "card")
