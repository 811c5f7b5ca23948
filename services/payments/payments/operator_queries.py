"""Answers to queries of operators: the whole catalogue, and parked receipts."""

from payments.store import offers, resolutions
from shared.contracts.payments_acts import (
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
from shared.platform.db import Database

MAX_ROWS = 200
PARKED_PER_PAGE = 100


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
