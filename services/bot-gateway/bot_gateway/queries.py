"""Queries: people, reports of payments, refunds of Stars, and operators with their roles."""

from collections.abc import Sequence
from uuid import UUID

from bot_gateway.domain.updates import order_in
from bot_gateway.store import operators, people, reports, star_refunds
from shared.contracts.bot import (
    Operator,
    OperatorQuery,
    Operators,
    OperatorsQuery,
    Person,
    PersonQuery,
    Recipient,
    RecipientQuery,
    Report,
    Reports,
    ReportsQuery,
    ReportUpdate,
    StarRefund,
    StarRefundQuery,
)
from shared.contracts.message import Refused
from shared.platform.db import Database, Row

MAX_REPORTS = 20
MAX_UPDATES = 100


async def answer_recipient(query: RecipientQuery, database: Database) -> Recipient | Refused:
    """A private chat has the Telegram id of its person."""
    row = await people.person_by_id(query.person, database)
    if row is None:
        return Refused(reason="person_unknown")
    return Recipient(
        chat_id=row["telegram_id"], language=row["language"], reachable=row["reachable"]
    )


async def answer_person(query: PersonQuery, database: Database) -> Person | Refused:
    found = await people.person_by_telegram(query.telegram_id, database)
    return Refused(reason="person_unknown") if found is None else Person(person=found.person)


async def answer_star_refund(query: StarRefundQuery, database: Database) -> StarRefund | Refused:
    row = await star_refunds.refund(query.refund, database)
    if row is None:
        return Refused(reason="refund_unknown")
    return StarRefund(refund=row["id"], state=row["state"], reason=row["reason"])


async def answer_operator(
    query: OperatorQuery, database: Database, *, owners: Sequence[str]
) -> Operator | Refused:
    """The operators in TURNPIKE_OWNERS are owners, even if a row says otherwise."""
    if query.operator in owners:
        return owner_by_setting(query.operator)
    row = await operators.operator(query.operator, database)
    return Refused(reason="operator_unknown") if row is None else Operator(**dict(row))


async def answer_operators(
    _: OperatorsQuery, database: Database, *, owners: Sequence[str]
) -> Operators:
    rows = await operators.operators(database)
    others = [Operator(**dict(row)) for row in rows if row["operator"] not in owners]
    return Operators(operators=(*map(owner_by_setting, owners), *others))


def owner_by_setting(name: str) -> Operator:
    return Operator(operator=name, role="owner", since=None, by=None)


async def answer_reports(query: ReportsQuery, database: Database) -> Reports:
    published = await reports.published(query.charges, query.order, MAX_REPORTS, database)
    carriers: dict[UUID, list[ReportUpdate]] = {row["event"]: [] for row in published}
    for row in await reports.updates_of(list(carriers), MAX_UPDATES, database):
        carriers[row["event"]].append(update_from(row))
    unpublished = await reports.unpublished(query.charges, query.order, MAX_REPORTS, database)
    found = [report_from(row, carriers[row["event"]], event=row["event"]) for row in published]
    found += [report_from(row, [update_from(row)], event=None) for row in unpublished]
    return Reports(reports=tuple(found))


def report_from(row: Row, updates: list[ReportUpdate], *, event: UUID | None) -> Report:
    return Report(
        charge=row["charge"],
        currency=row["currency"],
        amount_minor=row["amount_minor"] if event else None,
        order=order_in(row["payload"] or ""),
        payer=row["payer"] if event else None,
        event=event,
        recorded_at=row["recorded_at"] if event else None,
        updates=tuple(updates),
    )


def update_from(row: Row) -> ReportUpdate:
    return ReportUpdate(**{name: row[name] for name in ReportUpdate.model_fields})
