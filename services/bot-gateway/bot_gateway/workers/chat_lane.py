"""The chat lane: updates of one chat run in order, one at a time, in any number of replicas.

claim chats (lease 10 s) ─▶ one task per chat: run an update (≤ 8 s) ─▶ mark it, take the next ─▶ …
                                                                                     ─▶ release
    Telegram or the database is unavailable ─▶ the chat is paused, the update is retried for 1 h
    Telegram refuses the chat ─▶ the update is done: the next one of the person is tried again
    any other exception ─▶ the chat is paused for 1 s, 5 s, 30 s; then the update is set aside, and
                           the chat goes on
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from bot_gateway.domain.updates import read_json, readable
from bot_gateway.metrics import UPDATES
from bot_gateway.store import intake
from bot_gateway.store.intake import UpdateOutcome
from bot_gateway.telegram import (
    frames_of,
    is_unreachable,
    redacted,
    retry_after_of,
    telegram_is_unavailable,
)
from bot_gateway.workers.bells import POLL_S, Bells, Wait
from shared.platform import iterations, telemetry
from shared.platform.db import Database, Row, database_is_to_blame
from shared.platform.failpoints import failpoint
from shared.platform.loops import forever

log = structlog.get_logger()

WORKERS = 32
LEASE = timedelta(seconds=10)
RUN_TIMEOUT_S = 8.0  # Below the lease: a run has ended before its chat can be claimed again.
OUR_FAULT_PAUSE_S = (1.0, 5.0, 30.0)
UNAVAILABLE_PAUSE_S = (0.5, 15.0)  # Half of the time that the update has waited, within these.
UNAVAILABLE_GIVE_UP_S = 3600.0

Run = Callable[[dict[str, Any], datetime], Awaitable[None]]
"""Runs a raw update; the time is when it was received, by the clock of the database."""


class ChatLane:
    """Runs messages, taps and changes of membership."""

    def __init__(
        self,
        database: Database,
        bells: Bells,
        run: Run,
        *,
        prepare: Callable[[], object] = lambda: None,
        lease: timedelta = LEASE,
        our_fault_pause_s: Sequence[float] = OUR_FAULT_PAUSE_S,
    ) -> None:
        self.database = database
        self.bells = bells
        self.run_update = run
        self.prepare = prepare
        self.lease = lease
        self.our_fault_pause_s = our_fault_pause_s
        self.holder = uuid4()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and run until `stopping`; then finish running updates and release every chat."""
        with self.bells.listening("chat") as wait:
            turn = partial(self._claim, wait, stopping)
            await forever("bot_chats", turn, stopping, failed=_claim_failed)
        await asyncio.gather(*self._tasks)
        try:
            await intake.release_chats(self.holder, self.database)
        except Exception as error:  # The leases end by themselves.
            log.warning("chats could not be released", error=redacted(error))

    async def _claim(self, wait: Wait, stopping: asyncio.Event) -> None:
        free = WORKERS - len(self._tasks)
        chats = []
        if free:
            chats = await intake.claim_chats(self.holder, self.lease, free, self.database)
        iterations.handled(len(chats))
        for chat in chats:
            task = asyncio.create_task(self._serve(chat, stopping), name=f"chat {chat}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not chats:
            await wait()

    async def _serve(self, chat: int, stopping: asyncio.Event) -> None:
        """Run the updates of one chat in order, until there is none or the chat is paused.

        The first update of a process may find much to prepare. That is done before its time runs,
        and before the lease is renewed for it.
        """
        try:
            self.prepare()
            ended = UpdateOutcome(seq=None)
            while (
                row := await intake.step(self.holder, chat, ended, self.lease, self.database)
            ) is not None:
                if stopping.is_set():
                    return
                outcome = await self._run_one(chat, row)
                if outcome is None:
                    return
                ended = outcome
        except Exception as error:  # The lease ends by itself, and the update is run again.
            log.warning("chat worker failed", error=redacted(error))
        finally:
            self.bells.ring(["chat"])  # An update may have come while the chat was held.

    async def _run_one(self, chat: int, row: Row) -> UpdateOutcome | None:
        """The end of the update. None when the chat was paused and the update is run again."""
        update = readable(read_json(row["body"]))
        kind = next((name for name in update if name != "update_id"), "nothing")
        timeout = asyncio.timeout(RUN_TIMEOUT_S)
        try:
            with telemetry.span(f"update {kind}", kind=SpanKind.CONSUMER):
                async with timeout:
                    await self.run_update(update, row["received_at"])
                    failpoint("screen_shown")
        except Exception as error:  # A screen may raise anything; the chat must go on.
            if is_unreachable(error):  # Everything but the screen is done.
                return self._end(row, "done", redacted(error))
            unavailable = database_is_to_blame(error) or telegram_is_unavailable(error)
            if unavailable and not timeout.expired():
                return await self._unavailable(chat, row, error)
            return await self._our_fault(chat, row, error)
        return self._end(row, "done", None)

    async def _unavailable(self, chat: int, row: Row, error: Exception) -> UpdateOutcome | None:
        if row["age_s"] > UNAVAILABLE_GIVE_UP_S:
            return self._end(row, "dropped", f"unavailable for too long: {redacted(error)}")
        shortest_s, longest_s = UNAVAILABLE_PAUSE_S
        pause = retry_after_of(error) or timedelta(
            seconds=min(max(shortest_s, row["age_s"] / 2), longest_s)
        )
        await self._pause(chat, row, pause, error, counted=False)
        return None

    async def _our_fault(self, chat: int, row: Row, error: Exception) -> UpdateOutcome | None:
        unreadable = isinstance(error, ValidationError)
        if unreadable or row["tries"] >= len(self.our_fault_pause_s):
            reason = redacted(error)
            fields = {"seq": row["seq"], "tries": row["tries"], "frames": frames_of(error)}
            log.error("update set aside", error=reason, **fields)
            return self._end(row, "failed", reason)
        pause = timedelta(seconds=self.our_fault_pause_s[row["tries"]])
        await self._pause(chat, row, pause, error, counted=True)
        return None

    async def _pause(
        self, chat: int, row: Row, pause: timedelta, error: Exception, *, counted: bool
    ) -> None:
        reason = redacted(error)
        fields = {"seq": row["seq"], "pause_s": pause.total_seconds(), "counted": counted}
        log.warning("chat paused", error=reason, **fields)
        UPDATES.labels("chat", "put_off").inc()
        await intake.pause_chat(
            self.holder, chat, row["seq"], pause, reason, self.database, counted=counted
        )

    def _end(self, row: Row, outcome: str, reason: str | None) -> UpdateOutcome:
        UPDATES.labels("chat", outcome).inc()
        return UpdateOutcome(row["seq"], outcome, reason)


def _claim_failed(error: Exception) -> float:
    """The updates stay stored, and are claimed later."""
    log.warning("chats could not be claimed", error=redacted(error))
    return POLL_S
