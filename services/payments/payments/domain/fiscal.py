"""Decides the receipts for the tax office (54-FZ): full payments, advances, and their offsets.

payment ──┬─ of exactly the price of an order ─▶ a service, paid in full
          └─ a top-up, a part, or more than the price ─▶ an advance
purchase that leaves less in the wallet than the advances ─▶ the offset of the difference,
the oldest advance first
refund ─▶ what is left of its advance, then the service
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from payments.domain.confirmation import Batch, Order
from shared.contracts.message import derived_id

CALCULATED_RATES = {3: 5, 4: 6, 7: 9, 8: 10, 11: 12}
"""YooKassa's codes of VAT. An advance takes the calculated rate of its service: 22/122 of 22 %.

Source: https://yookassa.ru/developers/54fz/parameters-values, "Коды ставок НДС". 3 is 10 %, 4 is
20 %, 5 is 10/110, 6 is 20/120, 7 is 5 %, 8 is 7 %, 9 is 5/105, 10 is 7/107, 11 is 22 %, 12 is
22/122.
"""

MAX_EMAIL_CHARACTERS = 254
_EMAIL = re.compile(
    r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])"
)


def is_email(text: str) -> bool:
    """Whether a receipt can be sent there, by its form: a domain of this age, and no quotes."""
    return len(text) <= MAX_EMAIL_CHARACTERS and _EMAIL.fullmatch(text) is not None


class Terms(NamedTuple):
    """The operator's settings for all receipts."""

    email: str
    item: str
    subject: str
    vat_code: int
    tax_system: int | None


def vat_of_advance(vat_code: int) -> int:
    return CALCULATED_RATES.get(vat_code, vat_code)


def is_full_payment(order: Order, amount_minor: int) -> bool:
    """Whether a payment of so many kopecks is the price of the order, and nothing else."""
    return order.what == "subscription" and amount_minor == order.price_minor


class Spent(NamedTuple):
    """An order that the wallet paid, in whole or in part, and what the wallet holds afterwards."""

    order: UUID
    person: UUID
    wallet_minor: int
    left_minor: int


def spent_from_wallet(batch: Batch) -> list[Spent]:
    """The purchases of a batch that an advance may have paid for.

    A payment of exactly the price leaves the wallet as it was, and so needs no offset.
    """
    whole = {
        one.order
        for one in batch.bookings
        if one.because == "paid" and one.bought and one.value_minor == one.bought.price_minor
    }
    purchases = {one.cause: one for one in batch.transfers if one.reason == "purchase"}
    found = []
    for order in (batch.orders[id_] for id_ in sorted(batch.changed)):
        purchase = purchases.get(f"order:{order.id}")
        if purchase is None or order.id in whole:
            continue
        wallet_minor = -sum(
            entry.amount_minor for entry in purchase.entries if entry.account.kind == "wallet"
        )
        if wallet_minor > 0:
            left_minor = batch.held_by(order.person).wallet_minor
            found.append(Spent(order.id, order.person, wallet_minor, left_minor))
    return found


class Advance(NamedTuple):
    """The advance of one payment, and the rest of it."""

    id: UUID
    person: UUID
    rest_minor: int


class Offset(NamedTuple):
    """The receipt of a purchase: so much of it was paid by advances, `advance` the oldest."""

    id: UUID
    order: UUID
    advance: UUID
    amount_minor: int


def offset(
    spent: Iterable[Spent], advances: Sequence[Advance]
) -> tuple[list[Offset], dict[UUID, int]]:
    """The offsets of these purchases, and what each of these advances has left afterwards.

    `advances` are in the order in which they are used. Money without a receipt here, as that of
    Stars, is spent first: so the advances of a person never exceed the wallet.
    """
    left = {one.id: one.rest_minor for one in advances}
    offsets = []
    for order, person, wallet_minor, left_minor in spent:
        own = [one.id for one in advances if one.person == person]
        beyond_minor = sum(left[id_] for id_ in own) - left_minor
        wanted_minor = min(wallet_minor, max(0, beyond_minor))
        first, amount_minor = None, 0
        for id_ in own:
            used_minor = min(left[id_], wanted_minor - amount_minor)
            if used_minor > 0:
                left[id_] -= used_minor
                amount_minor += used_minor
                first = first or id_
        if first is not None:
            offsets.append(Offset(derived_id("offset receipt", order), order, first, amount_minor))
    return offsets, {one.id: left[one.id] for one in advances if left[one.id] != one.rest_minor}


@dataclass(frozen=True, slots=True)
class Split:
    """The two items of a receipt, in kopecks."""

    service_minor: int
    advance_minor: int


def split_of_refund(amount_minor: int, rest_minor: int) -> Split:
    """The unused part of the advance goes back as an advance, the rest as the service."""
    advance_minor = min(amount_minor, rest_minor)
    return Split(amount_minor - advance_minor, advance_minor)


REGISTRATION_PAUSE_S = 30.0
LONGEST_REGISTRATION_PAUSE_S = 3_600.0
MOST_READS = 100
"""With its pauses that is four days. Then an operator looks."""
KEY_LIVES_S = 20 * 3_600.0
"""A provider keeps a key for a day. An unclear offset that is older is not asked for again."""


def pause_of_registration_s(reads: int) -> float:
    doubled_s: float = REGISTRATION_PAUSE_S * (1 << min(reads, 10))
    return min(doubled_s, LONGEST_REGISTRATION_PAUSE_S)
