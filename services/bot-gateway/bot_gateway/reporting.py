"""Telegram's reports of money become events: from an update, or from Telegram's own listing."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any
from uuid import UUID

from bot_gateway.domain.updates import Report, trace_position_in
from bot_gateway.store import checkout_holds, people
from shared.contracts.bot import PaymentReported, RefundReported
from shared.contracts.message import derived_id
from shared.messaging.outbox import publish
from shared.platform import telemetry
from shared.platform.db import Tx
from shared.platform.telemetry import BatchItem

SPAN = "report payment"

ReportEvent = PaymentReported | RefundReported


def batch_of(reports: Collection[Report]) -> AbstractContextManager[list[BatchItem]]:
    """The span of these reports, each of which continues the trace of its order."""
    positions = [trace_position_in(report.payload) for report in reports]
    return telemetry.batch(SPAN, [telemetry.trace_at(one) for one in positions])


async def publish_reports(
    reports: Sequence[Report], items: Sequence[BatchItem], now: datetime, tx: Tx
) -> list[ReportEvent]:
    """Publish each report; returns the events in the order of the reports.

    Two replicas may hold reports of the same charges. Both publish in id order, so they cannot
    deadlock.
    """
    payers = await people.persons_by_telegram([report.payer for report in reports], tx)
    events = []
    for report, item in zip(reports, items, strict=True):
        item.note(telemetry.REPORTED, "refund" if report.refunded else "payment")
        events.append(event_of(report, payers.get(report.payer), now, item.trace))
    await publish(tx, sorted(events, key=lambda event: event.id))
    payloads = [report.payload for report in reports if not report.refunded]
    await checkout_holds.record_charges(payloads, tx)
    return events


def event_ids(report: Report, payer: UUID | None) -> set[UUID]:
    """The ids under which the report may be recorded: the payer may have started since."""
    topic = (RefundReported if report.refunded else PaymentReported).topic
    names = {_nobody(report)} | ({payer} if payer else set())
    return {derived_id(report.cause, topic, name) for name in names}


def event_of(report: Report, payer: UUID | None, now: datetime, trace: str | None) -> ReportEvent:
    """Caused by the charge, so every repeat is the same event."""
    about = payer or _nobody(report)
    fields: dict[str, Any] = {
        "acquirer": report.acquirer,
        "charge": report.charge,
        "payer": payer,
        "payload": report.payload,
        "currency": report.currency,
        "amount_minor": report.amount_minor,
    }
    if report.refunded:
        fields["refunded_at"] = report.paid_at
        return RefundReported.caused_by(report.cause, about=about, at=now, trace=trace, **fields)
    fields |= {"paid_at": report.paid_at, "recurring": report.recurring}
    fields["provider_charge"] = report.provider_charge
    return PaymentReported.caused_by(report.cause, about=about, at=now, trace=trace, **fields)


def _nobody(report: Report) -> UUID:
    """The name of a payer who never started the bot."""
    return derived_id("payer", "telegram", report.payer)
