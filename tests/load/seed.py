"""People, orders and invoices in any number, as the services would have written them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import asyncpg

from bot_gateway.domain.people import code_of
from shared.contracts.bot import PaymentReported
from shared.contracts.message import derived_id
from shared.contracts.payload import write_payload
from shared.platform.telemetry import Ratio

PAYERS_PER_PARTNER = 10
PRICE_MINOR = 14_900
STARS = 99
TELEGRAM_IDS_FROM = 100_000_000

SEEDED = (
    "payments.orders",
    "payments.invoices",
    "referrals.people",
    "referrals.partners",
    "referrals.invitations",
)

# When all people started. Nothing here depends on how long ago that is.
STARTED_AT = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Sale:
    """One person with an open order. Its payment gives access and rewards `partner`."""

    number: int
    person: UUID
    partner: UUID
    order: UUID
    invoice: UUID
    partner_number: int
    sampling: float = 1.0
    asked_minor: int = STARS

    @property
    def telegram_id(self) -> int:
        return TELEGRAM_IDS_FROM + self.number

    @property
    def partner_telegram_id(self) -> int:
        return TELEGRAM_IDS_FROM - 1 - self.partner_number

    @property
    def trace(self) -> str:
        """The trace that the order's screen would have begun."""
        kept = Ratio(self.sampling).keeps(self.order.int)
        return f"00-{self.order.hex}-{self.invoice.hex[:16]}-{'01' if kept else '00'}"

    @property
    def payload(self) -> str:
        return write_payload(self.order, self.invoice, self.trace)

    @property
    def charge(self) -> str:
        return f"stx_{self.order.hex}"

    @property
    def receipt(self) -> UUID:
        return derived_id("receipt", "telegram_stars", self.charge)

    def report(self, at: datetime) -> PaymentReported:
        """The event that bot-gateway publishes when Telegram reports this payment."""
        return PaymentReported.caused_by(
            f"telegram_stars:{self.charge}",
            about=self.person,
            at=at,
            trace=self.trace,
            acquirer="telegram_stars",
            charge=self.charge,
            payer=self.person,
            payload=self.payload,
            currency="XTR",
            amount_minor=self.asked_minor,
            paid_at=at,
        )


def sales(
    count: int,
    *,
    seed: int,
    first: int = 0,
    payers_per_partner: int = PAYERS_PER_PARTNER,
    sampling: float = 1.0,
) -> list[Sale]:
    """The same for the same seed.

    `first` keeps several lots apart. `sampling` is the share of traces that are kept.
    """
    random = Random(seed)

    def drawn() -> UUID:
        return UUID(int=random.getrandbits(128), version=4)

    partners = [drawn() for _ in range(-(-count // payers_per_partner))]
    return [
        Sale(
            number=first + place,
            person=drawn(),
            partner=partners[place // payers_per_partner],
            order=drawn(),
            invoice=drawn(),
            partner_number=first + place // payers_per_partner,
            sampling=sampling,
        )
        for place in range(count)
    ]


async def seed(dsn: str, sold: Sequence[Sale], *, bot: bool = False) -> None:
    """Write people, invitations and open orders, over a superuser's connection."""
    connection = await asyncpg.connect(dsn)
    try:
        await _copy(connection, "payments", "orders", _orders(sold))
        await _copy(connection, "payments", "invoices", _invoices(sold))
        await _copy(connection, "referrals", "people", _people(sold))
        await _copy(
            connection, "referrals", "partners", ({"person": person} for person in _partners(sold))
        )
        await _copy(connection, "referrals", "invitations", _invitations(sold))
        if bot:
            await _copy(connection, "bot", "people", _known_to_bot(sold))
        # Only tables with rows. A plan for a table known to be empty is slow, and is kept.
        for table in SEEDED:
            await connection.execute(f"analyze {table}")
    finally:
        await connection.close()


async def _copy(
    connection: Any, schema: str, table: str, rows: Iterator[dict[str, object]]
) -> None:
    first = next(rows)
    records = [tuple(first.values()), *(tuple(row.values()) for row in rows)]
    await connection.copy_records_to_table(
        table, schema_name=schema, columns=list(first), records=records
    )


def _partners(sold: Sequence[Sale]) -> list[UUID]:
    return list(dict.fromkeys(sale.partner for sale in sold))


def _orders(sold: Sequence[Sale]) -> Iterator[dict[str, object]]:
    placed_at = datetime.now(UTC)
    for sale in sold:
        yield {
            "id": sale.order,
            "person": sale.person,
            "what": "subscription",
            "plan": "basic",
            "months": 1,
            "devices": 5,
            "node_group": "default",
            "list_month_minor": PRICE_MINOR,
            "price_minor": PRICE_MINOR,
            "price_stars": STARS,
            "placed_at": placed_at,
            "honoured_until": placed_at + timedelta(days=30),
            "trace": sale.trace,
        }


def _invoices(sold: Sequence[Sale]) -> Iterator[dict[str, object]]:
    opened_at = datetime.now(UTC)
    for sale in sold:
        yield {
            "id": sale.invoice,
            "order_id": sale.order,
            "way": "stars",
            "acquirer": "telegram_stars",
            "asked_minor": STARS,
            "asked_currency": "XTR",
            "opened_at": opened_at,
            "expires_at": opened_at + timedelta(minutes=30),
        }


def _people(sold: Sequence[Sale]) -> Iterator[dict[str, object]]:
    for partner in _partners(sold):
        yield {"person": partner, "partner": None, "started_at": STARTED_AT}
    for sale in sold:
        yield {"person": sale.person, "partner": sale.partner, "started_at": STARTED_AT}


def _known_to_bot(sold: Sequence[Sale]) -> Iterator[dict[str, object]]:
    """Payers and partners, as bot-gateway has them."""
    known = {sale.partner: sale.partner_telegram_id for sale in sold} | {
        sale.person: sale.telegram_id for sale in sold
    }
    for person, telegram_id in known.items():
        yield {
            "person": person,
            "telegram_id": telegram_id,
            "first_name": "Somebody",
            "language": "en",
            "code": code_of(person),
            "started_event": derived_id("seeded", person),
        }


def _invitations(sold: Sequence[Sale]) -> Iterator[dict[str, object]]:
    for sale in sold:
        yield {
            "invitee": sale.person,
            "state": "registered",
            "follows": None,
            "cause": str(sale.person),
        }
