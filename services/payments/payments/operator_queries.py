"""Answers to queries of operators: catalogue, parked receipts, refunds under way, closed days."""

from payments.commands.refund_payment import refund_from
from payments.store import closing, offers, outgoing, resolutions
from shared.contracts.message import Refused
from shared.contracts.payments_acts import (
    AccountDay,
    AccountDayLine,
    AccountDayQuery,
    Catalogue,
    CatalogueQuery,
    ParkedQuery,
    ParkedReceipt,
    ParkedReceipts,
    PlanRecord,
    PriceRecord,
    RateRecord,
    WayRecord,
)
from shared.contracts.payments_refunds import OutgoingRefunds, RefundsQuery
from shared.platform.db import Database, Row

MAX_ROWS = 200
PARKED_PER_PAGE = 100
REFUNDS_PER_PAGE = 100


async def answer_catalogue(_: CatalogueQuery, database: Database) -> Catalogue:
    plans = await offers.plans(MAX_ROWS, database)
    prices = await offers.prices(MAX_ROWS, database)
    rates = await offers.rates(MAX_ROWS, database)
    ways = await offers.ways(MAX_ROWS, database)
    return Catalogue(
        plans=tuple(PlanRecord(**dict(row)) for row in plans),
        prices=tuple(PriceRecord(**dict(row)) for row in prices),
        rates=tuple(RateRecord(**dict(row)) for row in rates),
        ways=tuple(WayRecord(**dict(row)) for row in ways),
    )


async def answer_parked(query: ParkedQuery, database: Database) -> ParkedReceipts:
    rows = await resolutions.parked(query.after, PARKED_PER_PAGE + 1, database)
    found = tuple(ParkedReceipt(**dict(row)) for row in rows[:PARKED_PER_PAGE])
    return ParkedReceipts(receipts=found, more=len(rows) > PARKED_PER_PAGE)


async def answer_account_day(query: AccountDayQuery, database: Database) -> AccountDay | Refused:
    rows = await closing.day_of(query.day, database)
    if rows is None:
        last = await closing.last_day(database)
        return Refused(reason="day_not_closed", detail=str(last) if last else None)
    return AccountDay(day=query.day, lines=tuple(AccountDayLine(**whole(row)) for row in rows))


def whole(row: Row) -> dict[str, object]:
    """Sums are numeric in the database, and integers everywhere else."""
    return {name: int(value) if name.endswith("_minor") else value for name, value in row.items()}


async def answer_refunds(query: RefundsQuery, database: Database) -> OutgoingRefunds:
    rows = await outgoing.page(query.state, query.before, REFUNDS_PER_PAGE + 1, database)
    found = tuple(refund_from(row) for row in rows[:REFUNDS_PER_PAGE])
    return OutgoingRefunds(refunds=found, more=len(rows) > REFUNDS_PER_PAGE)
