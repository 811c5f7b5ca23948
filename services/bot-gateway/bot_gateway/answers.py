"""Doors for questions: where a person is written to, who somebody is, what Telegram reported of a payment."""

from uuid import UUID

from bot_gateway.store import people, reports
from bot_gateway.updates import order_in
from shared.contract import Refused
from shared.db import Database, Row
from shared.inspection import AskPerson, AskReports, Person, Report, Reports, ReportUpdate
from shared.questions import AskRecipient, Recipient

MOST_REPORTS = 20
MOST_UPDATES = 100


async def answer_recipient(question: AskRecipient, database: Database) -> Recipient | Refused:
    """A private chat has the id of its person."""
    row = await people.person_by_id(question.person, database)
    if row is None:
        return Refused(reason="person_unknown")
    return Recipient(chat_id=row["telegram_id"], language=row["language"], reachable=row["reachable"])


async def answer_person(question: AskPerson, database: Database) -> Person | Refused:
    found = await people.person_by_telegram(question.telegram_id, database)
    return Refused(reason="person_unknown") if found is None else Person(person=found.person)


async def answer_reports(question: AskReports, database: Database) -> Reports:
    told = await reports.told(question.charges, question.order, MOST_REPORTS, database)
    brought: dict[UUID, list[ReportUpdate]] = {row["fact"]: [] for row in told}
    for row in await reports.updates_of(list(brought), MOST_UPDATES, database):
        brought[row["fact"]].append(update_from(row))
    untold = await reports.untold(question.charges, question.order, MOST_REPORTS, database)
    found = [report_from(row, brought[row["fact"]], fact=row["fact"]) for row in told]
    found += [report_from(row, [update_from(row)], fact=None) for row in untold]
    return Reports(reports=tuple(found))


def report_from(row: Row, updates: list[ReportUpdate], *, fact: UUID | None) -> Report:
    return Report(
        charge=row["charge"],
        currency=row["currency"],
        amount_minor=row["amount_minor"] if fact else None,
        order=order_in(row["payload"] or ""),
        payer=row["payer"] if fact else None,
        fact=fact,
        told_at=row["told_at"] if fact else None,
        updates=tuple(updates),
    )


def update_from(row: Row) -> ReportUpdate:
    return ReportUpdate(**{name: row[name] for name in ReportUpdate.model_fields})
