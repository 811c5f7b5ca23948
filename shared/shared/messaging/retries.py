"""Messages that failed wait as rows, and go to their handler again when they are due.

The broker has forgotten them, so they fill none of its limits, however many they are.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta

from shared.messaging.consumer import PAUSE_AFTER_DEAD_LETTERS_S, pause
from shared.messaging.failures import RETRY_S
from shared.messaging.inbox import Handler, Message, TooManyDeadLettersError
from shared.platform import iterations
from shared.platform.db import Database
from shared.platform.loops import forever, set_within, unless
from shared.platform.waits import Wait

MAX_PER_BATCH = 50
LEASE = timedelta(minutes=2)
POLL_S = 1.0
LOOKED_FOR_WITHIN_S = 60.0

DUE_HANDLERS = """
select h.handler
from unnest($1::text[]) as h (handler)
where exists (
  select
  from failed_attempts f
  where f.handler = h.handler and f.run_at <= shop_now()
)
"""

# A replica that dies leaves its rows due at the end of the lease. One that works longer shares them
# with another, and the inbox makes the second a repeat.
TAKE_DUE = """
with due as (
  select event_id
  from failed_attempts
  where handler = $1 and run_at <= shop_now()
  order by run_at
  for update skip locked
  limit $2
)
update failed_attempts f
set run_at = shop_now() + $3::interval
where f.handler = $1 and f.event_id = any(array(select event_id from due))
returning f.subject, f.headers::text as headers, f.body
"""

PULL_BACK = """
update failed_attempts
set run_at = shop_now()
where (handler, event_id) in (
  select handler, event_id
  from failed_attempts
  where run_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

WAITS = (Wait(("failed_attempts.run_at",), timedelta(seconds=RETRY_S[-1]), PULL_BACK),)

STATE = """
select h.handler,
  (
    select count(*)
    from (select from failed_attempts f where f.handler = h.handler limit 10000) as f
  ) as messages
from unnest($1::text[]) as h (handler)
"""


async def look_for_due(
    due: Mapping[str, asyncio.Event], database: Database, stopping: asyncio.Event
) -> None:
    """Set the event of each handler that has due messages, until `stopping`.

    One statement a second asks for all handlers of a service.
    """

    async def turn() -> None:
        for row in await database.fetch(DUE_HANDLERS, list(due)):
            due[row["handler"]].set()
        iterations.rests(POLL_S)
        await set_within(stopping, POLL_S)

    await forever("retries", turn, stopping, limit_s=iterations.LIMIT_S)


async def retry(handler: Handler, due: asyncio.Event, stopping: asyncio.Event) -> None:
    """Pass due messages to the handler until `stopping`, each time that `due` is set."""

    async def turn() -> None:
        try:
            if not await retry_due(handler, stopping):
                iterations.rests(LOOKED_FOR_WITHIN_S)
                await unless(stopping, set_within(due, LOOKED_FOR_WITHIN_S))
                due.clear()
        except TooManyDeadLettersError:
            iterations.rests(PAUSE_AFTER_DEAD_LETTERS_S)
            await pause(handler, stopping)

    await forever(f"retry_{handler.name}", turn, stopping, limit_s=iterations.LIMIT_S)


async def retry_due(handler: Handler, stopping: asyncio.Event | None = None) -> int:
    """Pass a batch of due messages to the handler; returns how many there were.

    Raises TooManyDeadLettersError.
    """
    rows = await handler.database.fetch(TAKE_DUE, handler.name, MAX_PER_BATCH, LEASE)
    messages = [
        Message(row["subject"], json.loads(row["headers"]), bytes(row["body"]), waited=True)
        for row in rows
    ]
    if messages:
        iterations.found(len(messages))
        handled = await handler.handle_batch(messages, stopping)
        for outcome in ("done", "repeated", "retried", "dead_lettered"):
            iterations.outcome(outcome, getattr(handled, outcome))
    return len(messages)
