"""Decides what a listed payment is beside the ledger: booked, to be booked, or a difference.

                 ┌─ booked with the same sum ─▶ nothing
listed, paid ────┼─ booked with another ─▶ amount | currency, reported
                 ├─ not booked, with a payload of ours ─▶ missing_here, booked
                 └─ not booked, without one ─▶ foreign, reported once
booked, unlisted ── still not paid when it is read back ─▶ missing_there, reported
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from payments.domain.provider import Failure, Payment, Refund, Refusal, SlowDown, Sum, Unreadable
from payments.domain.refunds import Refund as Returned
from shared.contracts.message import MAX_CHARGE_CHARACTERS
from shared.contracts.payload import read_payload
from shared.contracts.payments import DifferenceKind, ReconciliationCounts
from shared.platform.backoff import backoff

Done = Literal["booked", "reported"]

MAX_SENTENCE_CHARACTERS = 300
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0


@dataclass(frozen=True, slots=True)
class Difference:
    """A charge as the provider tells it, and as the ledger holds it. None is nothing.

    `reference` is the provider's id of what differs: the charge itself, or a refund.
    """

    kind: DifferenceKind
    reference: str
    charge: str
    theirs: Sum | None = None
    ours: Sum | None = None
    sentence: str | None = None
    done: Done = "reported"


def difference_of(payment: Payment, booked: Sum | None) -> Difference | None:
    """How a listed payment that succeeded differs from its receipt. None where it does not."""
    theirs = Sum(payment.currency, payment.amount_minor)
    charge = named(payment.reference)
    found = (charge, charge, theirs, booked)
    if booked == theirs:
        return None
    if booked is not None:
        kind: DifferenceKind = "amount" if booked.currency == theirs.currency else "currency"
        return Difference(kind, *found)
    if read_payload(payment.payload or "") is None:
        return Difference("foreign", *found)
    return Difference("missing_here", *found, done="booked")


def named(reference: str) -> str:
    """A reference as a row can hold it: a provider may answer anything."""
    kept = reference[:MAX_CHARGE_CHARACTERS]
    return kept if kept.isprintable() else ascii(kept)[:MAX_CHARGE_CHARACTERS]


def unlisted(
    charge: str, booked: Sum, known: Mapping[str, Payment | Unreadable]
) -> Difference | None:
    """How a receipt that the walk did not meet differs, now that it was read back.

    A listing may be a moment behind, and its pages move: only the payment itself tells.
    """
    told = known.get(charge)
    if told is None:
        sentence = "The provider does not know it."
        return Difference("missing_there", charge, charge, None, booked, sentence)
    if isinstance(told, Unreadable):
        return unreadable(told)
    if told.state != "succeeded":
        theirs, sentence = Sum(told.currency, told.amount_minor), f"The provider: {told.state}."
        return Difference("missing_there", charge, charge, theirs, booked, sentence)
    return difference_of(told, booked)


def unreadable(told: Unreadable) -> Difference:
    sentence = f"{told.reason}: {told.sentence}"[:MAX_SENTENCE_CHARACTERS]
    charge = named(told.reference)
    return Difference("unreadable", charge, charge, sentence=sentence)


def unbookable(missing: Difference) -> Difference:
    """No row can hold it. The others of its page are booked all the same."""
    return replace(missing, kind="unreadable", sentence="No receipt can hold it.", done="reported")


def held_difference(currency: str, theirs_minor: int, ours_minor: int) -> Difference | None:
    """The provider's balance beside the clearing account (I11). It is never booked by itself."""
    if theirs_minor == ours_minor:
        return None
    theirs, ours = Sum(currency, theirs_minor), Sum(currency, ours_minor)
    return Difference("balance", currency, currency, theirs, ours)


def held_here(
    cleared: Mapping[str, int], listed: Mapping[str, Sum], booked: Mapping[str, Sum]
) -> dict[str, int]:
    """The balance that the ledger expects at the provider, by currency, when it was listed.

    `cleared` is the clearing account, which is negative by what the provider holds. `listed` and
    `booked` are what arrived lately there and here, by charge: each moment may be between both.
    """
    held = {currency: -amount_minor for currency, amount_minor in cleared.items()}
    for charge, one in listed.items():
        if charge not in booked:
            held[one.currency] = held.get(one.currency, 0) + one.amount_minor
    for charge, one in booked.items():
        if charge not in listed:
            held[one.currency] = held.get(one.currency, 0) - one.amount_minor
    return held


def refunded(refund: Refund, booked: Sum) -> Difference:
    """Money that the provider sent back, which is booked now. `booked` is what came before."""
    theirs = Sum(refund.currency, refund.amount_minor)
    reference, charge = named(refund.reference), named(refund.payment)
    return Difference("refund", reference, charge, theirs, booked, done="booked")


def refund_from(refund: Refund, acquirer: str) -> Returned:
    """The refund as the ledger books it. The payer is known by the charge."""
    return Returned(
        acquirer=acquirer,
        charge=refund.payment,
        reference=refund.reference,
        payer=None,
        currency=refund.currency,
        amount_minor=refund.amount_minor,
        refunded_at=refund.created_at,
    )


def counted(
    counts: ReconciliationCounts, listed: int, found: Iterable[Difference]
) -> ReconciliationCounts:
    """The counts of a run after a page."""
    sums = {name: getattr(counts, name) for name in ReconciliationCounts.model_fields}
    sums["listed"] += listed
    for one in found:
        sums[one.kind] += 1
    return ReconciliationCounts(**sums)


def sentence_of(failure: Failure) -> str:
    """Why the walk does not go on. It holds no secret."""
    if isinstance(failure, Refusal):
        text = f"refused, {failure.code}: {failure.sentence}"
    elif isinstance(failure, SlowDown):
        text = "too many calls"
    else:
        text = failure.reason
    return text[:MAX_SENTENCE_CHARACTERS]


def pause_s(failure: Failure, failures: int) -> float:
    """Seconds until the provider is asked again, after so many failures before this one."""
    asked_s = getattr(failure, "retry_after_s", None) or 0.0
    pause_s = backoff(failures, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
    return min(max(asked_s, pause_s), LONGEST_PAUSE_S)


def window_of(
    since: datetime | None, until: datetime | None, settled_at: datetime
) -> tuple[datetime, datetime]:
    """The window that an operator asks for: the last day where nothing is named.

    It ends at `settled_at` at the latest: later payments are still on their way.
    """
    ends_at = min(until or settled_at, settled_at)
    return since or ends_at - timedelta(days=1), ends_at
