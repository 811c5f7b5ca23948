"""Housekeeping: old events and inbox rows are dropped in pages."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shared import service
from shared.messaging import inbox, outbox
from shared.operations import anti_entropy
from shared.platform.db import Database
from shared.service import Service
from tests.kit.living import living, settings
from tests.kit.servers import FreshDatabase
from tests.kit.waiting import until

HANDLER = "payments_confirms_reported"

AGED_EVENT = """
insert into events (id, topic, version, body, digest, recorded_at)
values ($1, 'payments.test.aged', 1, '{}', 0, now() - $2::interval)
returning seq
"""
AGED_INBOX = """
insert into inbox (handler, event_id, digest, hour, handled_at)
values ($1, $2, 0, now() - $3::interval, now() - $3::interval)
"""


async def aged(store: Database, days: int, count: int) -> list[UUID]:
    """Events and inbox rows that are so many days old."""
    ids = [uuid4() for _ in range(count)]
    async with store.transaction() as tx:
        for one in ids:
            await tx.execute(AGED_EVENT, one, timedelta(days=days))
            await tx.execute(AGED_INBOX, HANDLER, one, timedelta(days=days))
    return ids


async def left(store: Database, table: str, ids: Sequence[UUID]) -> int:
    column = {"events": "id", "inbox": "event_id"}[table]
    return int(await store.fetchval(f"select count(*) from {table} where {column} = any($1)", ids))


async def test_a_failed_statement_does_not_stop_the_others(
    place: FreshDatabase, store: Database, wiped_url: str
) -> None:
    """W-51: rows of other tables are dropped all the same."""
    [old] = await aged(store, 46, 1)
    await store.execute(anti_entropy.ENLIST, [HANDLER])
    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    subject._prunes.insert(0, "select 1 / $1::int - 1 / 0")

    async def dropped() -> bool:
        return await left(store, "inbox", [old]) == 0

    async with living(subject):
        await until(dropped)


async def test_housekeeping_never_drops_pending_events(
    place: FreshDatabase, store: Database, wiped_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old rows go in pages. A pending event stays, however old it is."""
    monkeypatch.setattr(service, "ROWS_PER_DROP", 10)
    young, middle, old = (
        await aged(store, 29, 3),
        await aged(store, 44, 3),
        await aged(store, 46, 35),
    )
    (pending,) = await aged(store, 99, 1)
    await store.execute("insert into outbox (seq) select seq from events where id = $1", pending)
    await store.execute(anti_entropy.ENLIST, [HANDLER])
    assert await store.execute(inbox.DROP_OLD, 10) == "DELETE 10", "a page has a bound"
    assert await store.execute(outbox.DROP_OLD, 10) == "DELETE 10"
    async with (
        store.transaction() as tx
    ):  # The relay skips what is locked: the event stays pending all the while.
        await tx.fetch("select * from outbox for update")
        async with living(
            subject := Service("payments", settings(place.dsn("payments_app"), wiped_url))
        ):

            async def dropped() -> bool:
                return (
                    await left(store, "inbox", old) == 0
                    and await left(store, "events", [*old, *middle]) == 0
                )

            await until(dropped)
            assert subject.health.opened
    assert await left(store, "events", young) == 3
    assert await left(store, "inbox", [*young, *middle]) == 6, (
        "the inbox remembers for longer than events are kept"
    )
    assert await left(store, "events", [pending]) == 1
