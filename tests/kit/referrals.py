"""Starts and payments as referrals receives them, and the violations that its audit finds."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from referrals.audit import answer_audit
from referrals.subscribers import (
    referrals_registers_started,
    referrals_reverses_refunded,
    referrals_rewards_confirmed,
)
from shared.contracts.bot import PersonStarted
from shared.contracts.message import Event
from shared.contracts.operations import AuditQuery
from shared.contracts.payments import PaymentConfirmed, PaymentRefunded, Received
from shared.contracts.referrals import RewardReversed
from shared.messaging.inbox import Message
from shared.platform.db import Database, Tx
from tests.kit import refunds

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NEEDS_A_RELAY = "no event is pending in the outbox"

REVERSALS = """
select body::text as body
from events
where topic = 'referrals.reward.reversed' and (body ->> 'about')::uuid = $1
order by seq
"""

Handle = Callable[[Sequence[Any], Tx], Awaitable[None]]


def started(
    person: UUID,
    invited_by: UUID | None = None,
    *,
    code: str | None = None,
    cause: object = None,
    after_s: int = 0,
) -> PersonStarted:
    """A first /start, `after_s` seconds after the others."""
    at = LONG_AGO + timedelta(seconds=after_s)
    return PersonStarted.caused_by(
        cause or person, about=person, at=at, code=code, invited_by=invited_by
    )


def confirmed(
    payer: UUID,
    value_minor: int = 10_000,
    *,
    receipt: UUID | None = None,
    cause: object = None,
    after_s: int = 0,
) -> PaymentConfirmed:
    """Money from outside into a wallet, booked `after_s` seconds after the others."""
    receipt, at = receipt or uuid4(), LONG_AGO + timedelta(seconds=after_s)
    return PaymentConfirmed.caused_by(
        cause or receipt,
        about=payer,
        at=at,
        received=Received(
            receipt=receipt, acquirer="telegram_stars", charge=receipt.hex, value_minor=value_minor
        ),
        bought=None,
        booked_at=at,
        wallet_minor=value_minor,
        missing_minor=0,
    )


def refunded(
    of: PaymentConfirmed, value_minor: int | None = None, *, after_s: int = 60, **changes: Any
) -> PaymentRefunded:
    """The whole value of a payment is returned, unless another is given."""
    received = of.received
    assert received is not None
    return refunds.refunded(
        of.about,
        at=LONG_AGO + timedelta(seconds=after_s),
        receipt=received.receipt,
        value_minor=received.value_minor if value_minor is None else value_minor,
        **changes,
    )


HANDLERS: dict[type[Event], Handle] = {
    PersonStarted: referrals_registers_started,
    PaymentConfirmed: referrals_rewards_confirmed,
    PaymentRefunded: referrals_reverses_refunded,
}


async def handle(
    database: Database, *events: PersonStarted | PaymentConfirmed | PaymentRefunded
) -> None:
    """Give events of one kind to their handler, in one transaction and without the inbox."""
    handler = HANDLERS[type(events[0])]
    async with database.transaction() as tx:
        await handler(events, tx)


async def reversals_of(partner: UUID, database: Database) -> list[RewardReversed]:
    """The published ones, the oldest first."""
    rows = await database.fetch(REVERSALS, partner)
    return [RewardReversed.model_validate_json(row["body"]) for row in rows]


def message_of(event: Event, *, trace: str | None = None) -> Message:
    """The event as the broker delivers it."""
    headers = {
        "Nats-Msg-Id": str(event.id),
        "Turnpike-Digest": str(event.digest()),
        "Turnpike-Hour": event.at.isoformat(),
    }
    return Message(
        event.subject(),
        headers | ({"traceparent": trace} if trace else {}),
        event.model_dump_json().encode(),
    )


async def broken(database: Database) -> set[str]:
    """The invariants that the audit finds broken. Without a relay, events may stay pending."""
    audit = await answer_audit(AuditQuery.of("referrals")(), database)
    return {finding.truth for finding in audit.findings if finding.violations} - {NEEDS_A_RELAY}
