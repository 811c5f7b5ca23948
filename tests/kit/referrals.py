"""Starts and payments as referrals hears them, and what its audit finds broken."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from referrals.audit import answer_audit
from referrals.subscribers import referrals_registers_started, referrals_rewards_confirmed
from shared.contract import Fact
from shared.db import Database, Tx
from shared.facts import PaymentConfirmed, PersonStarted, Received
from shared.inbox import Letter
from shared.questions import AskAudit

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NEEDS_A_RELAY = "no fact is waiting to be told"

Handle = Callable[[Sequence[Any], Tx], Awaitable[None]]


def started(
    person: UUID, invited_by: UUID | None = None, *, code: str | None = None, cause: object = None, after_s: int = 0
) -> PersonStarted:
    """A first /start, `after_s` seconds after the others."""
    at = LONG_AGO + timedelta(seconds=after_s)
    return PersonStarted.because(cause or person, about=person, at=at, code=code, invited_by=invited_by)


def confirmed(
    payer: UUID, value_minor: int = 10_000, *, receipt: UUID | None = None, cause: object = None, after_s: int = 0
) -> PaymentConfirmed:
    """Money from outside into a wallet, booked `after_s` seconds after the others."""
    receipt, at = receipt or uuid4(), LONG_AGO + timedelta(seconds=after_s)
    return PaymentConfirmed.because(
        cause or receipt,
        about=payer,
        at=at,
        received=Received(receipt=receipt, acquirer="telegram_stars", charge=receipt.hex, value_minor=value_minor),
        bought=None,
        booked_at=at,
        wallet_minor=value_minor,
        missing_minor=0,
    )


async def hear(database: Database, *events: PersonStarted | PaymentConfirmed) -> None:
    """Hand events of one kind to their handler, in a transaction of their own and without an inbox in front."""
    handle: Handle = (
        referrals_registers_started if isinstance(events[0], PersonStarted) else referrals_rewards_confirmed
    )
    async with database.transaction() as tx:
        await handle(events, tx)


def letter(fact: Fact, *, trace: str | None = None) -> Letter:
    """The fact as the bus hands it over."""
    headers = {"Nats-Msg-Id": str(fact.id), "Turnpike-Digest": str(fact.digest()), "Turnpike-Hour": fact.at.isoformat()}
    return Letter(fact.subject(), headers | ({"traceparent": trace} if trace else {}), fact.model_dump_json().encode())


async def broken(database: Database) -> set[str]:
    """The truths that the audit finds broken; there is no relay here, so facts may wait to be told."""
    audit = await answer_audit(AskAudit.of("referrals")(), database)
    return {finding.truth for finding in audit.findings if finding.violations} - {NEEDS_A_RELAY}
