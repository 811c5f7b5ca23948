"""The walk over Telegram's listing of Stars: payments and refunds whose update never came.

Telegram drops updates after a day, and some never arrive. Its listing keeps every transaction, the
oldest first. Once an hour one replica asks it from the remembered position on. A transaction
without an event here is reported by the function of the money lane: whichever of both comes later
is a repeat.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import uuid4

import structlog
from aiogram.exceptions import TelegramRetryAfter

from bot_gateway.domain.star_transactions import (
    OVERLAP,
    Position,
    Transaction,
    read_transaction,
)
from bot_gateway.domain.updates import Report
from bot_gateway.metrics import STAR_TRANSACTIONS, STAR_WALKS, STARS_MISSING
from bot_gateway.reporting import batch_of, event_ids, publish_reports
from bot_gateway.store import people, star_walks
from bot_gateway.telegram import bounded, redacted, retry_after_of
from shared.platform import iterations
from shared.platform.db import Database, Tx
from shared.platform.loops import forever, set_within, unless

log = structlog.get_logger()

EVERY = timedelta(hours=1)
FIRST_AFTER_S = 60.0
"""By then the updates that waited at Telegram have come, and need no walk."""
LOOK_FOR_DUE_EVERY_S = 10.0
LEASE = timedelta(seconds=60)
PACE_S = 1.0
PAGES_PER_CLAIM = 1_000
PAUSE_AFTER_FAILURE_S = 30.0
UNDER_WAY = timedelta(minutes=1)
"""The update of a younger transaction may still come. It is reported, without an alarm."""


class Listing(Protocol):
    """Telegram's listing of Stars."""

    async def page(self, offset: int) -> list[object]: ...

    async def balance_nanostars(self) -> int: ...


class StarWalk:
    """One replica walks at a time, by a lease; each page is one transaction, which renews it."""

    def __init__(self, database: Database, bot: int, listing: Listing) -> None:
        self.database = database
        self.bot = bot
        self.listing = listing
        self.holder = uuid4()
        self._is_first = True
        self._asked_at = float("-inf")

    async def run(self, stopping: asyncio.Event) -> None:
        """Walk soon after the start, and then hourly, until `stopping`."""
        if not await set_within(stopping, FIRST_AFTER_S):
            turn = partial(self.look, stopping)
            await forever(
                "bot_star_walk", turn, stopping, failed=_failed, limit_s=iterations.LIMIT_S
            )

    async def look(self, stopping: asyncio.Event) -> None:
        """Walk when it is due and nobody else does, else wait."""
        position = await star_walks.claim(
            self.bot, self.holder, LEASE, self.database, anyway=self._is_first
        )
        self._is_first = False
        if position is None:
            iterations.rests(LOOK_FOR_DUE_EVERY_S)
            await set_within(stopping, LOOK_FOR_DUE_EVERY_S)
            return
        try:
            end = await self.walk(position, stopping)
        except TelegramRetryAfter as error:
            await self._leave(bounded(error.retry_after))
            raise
        if end is None:  # The service stops, or there are more pages than one claim may take.
            await self._leave(timedelta(0))
            return
        # Behind the walk: a refused balance holds nothing back.
        await self._compare(end, stopping)

    async def walk(self, position: Position, stopping: asyncio.Event) -> Position | None:
        """Take page by page; returns the end of the listing, or None if it was not reached."""
        overlap = OVERLAP
        for _ in range(PAGES_PER_CLAIM):
            begin, before = position.begin(overlap), position
            iterations.found(1, "page")
            page = await unless(stopping, self._page(begin))
            if page is None or stopping.is_set():
                return None
            if position.is_continued_by(page, begin):
                position = await self._take(page, begin, position)
            else:
                position = await self._begin_again(position)
            # A page that begins at the last known transaction cannot hide new ones behind it.
            if position == before and begin == position.begin(1):
                await star_walks.end(self.bot, self.holder, EVERY, self.database)
                STAR_WALKS.labels("ended").inc()
                return position
            overlap = 1
        return None

    async def _page(self, begin: int) -> list[Transaction]:
        await self._pace()
        return [read_transaction(raw) for raw in await self.listing.page(begin)]

    async def _pace(self) -> None:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(self._asked_at + PACE_S - now())
        self._asked_at = now()

    async def _leave(self, pause: timedelta) -> None:
        await star_walks.release(self.bot, self.holder, pause, self.database)

    async def _take(self, page: Sequence[Transaction], begin: int, position: Position) -> Position:
        """Report what is missing, and move the position behind the page, in one transaction."""
        seen, new = page[: position.walked - begin], page[position.walked - begin :]
        async with self.database.transaction() as tx:
            held = await star_walks.lock(self.bot, self.holder, position, tx)
            reports = [*_since(held.seen_since, seen), *_since(held.since, new)]
            missing = await self._missing(reports, tx)
            if missing:
                with batch_of(missing) as items:
                    await publish_reports(missing, items, held.now, tx)
            position = position.after(new)
            nanostars = sum(one.nanostars for one in new)
            is_exact = not any(one.problem for one in new)
            await star_walks.move(self.bot, position, nanostars, LEASE, tx, is_exact=is_exact)
        _count(new)
        _alarm(missing, held.now)
        return position

    async def _begin_again(self, position: Position) -> Position:
        """The last known transaction is not where it was: one before it may be new."""
        async with self.database.transaction() as tx:
            await star_walks.lock(self.bot, self.holder, position, tx)
            await star_walks.restart(self.bot, LEASE, tx)
        STAR_WALKS.labels("begun again").inc()
        log.warning("listing of Stars changed, walked again", walked=position.walked)
        return Position()

    async def _missing(self, reports: Sequence[Report], tx: Tx) -> list[Report]:
        """Those without an event here, whatever the payer was when it was published."""
        if not reports:
            return []
        payers = await people.persons_by_telegram([one.payer for one in reports], tx)
        ids = [event_ids(one, payers.get(one.payer)) for one in reports]
        published = await star_walks.published([id_ for its in ids for id_ in its], tx)
        return [one for one, its in zip(reports, ids, strict=True) if not its & published]

    async def _compare(self, position: Position, stopping: asyncio.Event) -> None:
        """Keep the difference of the balance and the listing."""
        balance = await unless(stopping, self._balance(position))
        if balance is None:
            return
        row = await star_walks.compare(self.bot, position, balance, self.database)
        if row and row["is_news"]:
            log.error("balance of Stars differs", nanostars=int(row["gap_nanostars"]))

    async def _balance(self, position: Position) -> int | None:
        """The balance, or None when something new is listed after it was read.

        If the listing is the same afterwards, it was the same when the balance was read.
        """
        await self._pace()
        balance = await self.listing.balance_nanostars()
        begin = position.begin(1)
        page = await self._page(begin)
        is_same = position.is_continued_by(page, begin) and begin + len(page) == position.walked
        return balance if is_same else None


def _since(at: datetime, page: Sequence[Transaction]) -> list[Report]:
    return [one.report for one in page if one.report and one.report.paid_at >= at]


def _count(new: Sequence[Transaction]) -> None:
    for kind, count in Counter(one.kind for one in new).items():
        STAR_TRANSACTIONS.labels(kind).inc(count)
    for one in new:
        if one.problem:
            log.error("star transaction is unreadable", key=one.key, error=one.problem)


def _alarm(missing: Sequence[Report], now: datetime) -> None:
    for one in missing:
        if one.paid_at < now - UNDER_WAY:
            kind = "refund" if one.refunded else "payment"
            STARS_MISSING.labels(kind).inc()
            log.error(MISSING[kind], charge=one.charge, paid_at=one.paid_at.isoformat())


MISSING = {
    "payment": "a payment was missing and is reported",
    "refund": "a refund was missing and is reported",
}


def _failed(error: Exception) -> float:
    """The pause in seconds."""
    STAR_WALKS.labels("failed").inc()
    log.warning("walk over the listing of Stars failed", error=redacted(error))
    asked = retry_after_of(error)
    return asked.total_seconds() if asked else PAUSE_AFTER_FAILURE_S
