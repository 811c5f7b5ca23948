"""One person's updates run in order and never overlap, in any number of replicas; different chats do not wait.

claim chats (lease 10 s) ──▶ one task per chat: run an update (≤ 8 s) ─▶ mark it and take the next ─▶ … ─▶ give back
    Telegram or the database is away ─▶ the chat rests and the update comes again, for an hour
    any other exception ─▶ the chat rests 1 s, 5 s, 30 s, then the update is set aside and the chat goes on
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog
from aiogram.exceptions import TelegramForbiddenError
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from bot_gateway.lanes import Bells
from bot_gateway.metrics import UPDATES
from bot_gateway.store import intake
from bot_gateway.store.intake import Ended
from bot_gateway.telegram import frames_of, retry_after_of, said, telegram_is_away
from shared import crash, telemetry
from shared.db import Database, Row, database_is_to_blame

log = structlog.get_logger()

WORKERS = 32
LEASE = timedelta(seconds=10)
RUN_TIMEOUT_S = 8.0  # Below the lease: whoever holds a chat has ended, or was ended, before it can be claimed again.
OUR_FAULT_REST_S = (1.0, 5.0, 30.0)
AWAY_REST_S = (0.5, 15.0)  # Half of what it has waited already, between these.
AWAY_FOR_GOOD_S = 3600.0

Run = Callable[[dict[str, Any], datetime], Awaitable[None]]
"""Runs a raw update that was received at this moment of the database."""


class ChatLane:
    """Runs what people typed and tapped."""

    def __init__(
        self,
        database: Database,
        bells: Bells,
        run: Run,
        *,
        lease: timedelta = LEASE,
        our_fault_rest_s: Sequence[float] = OUR_FAULT_REST_S,
    ) -> None:
        self.database = database
        self.bells = bells
        self.run_update = run
        self.lease = lease
        self.our_fault_rest_s = our_fault_rest_s
        self.holder = uuid4()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and run until `stopping`; then what has begun ends, and every chat is given back."""
        while not stopping.is_set():
            try:
                free = WORKERS - len(self._tasks)
                chats = await intake.claim_chats(self.holder, self.lease, free, self.database) if free else []
            except Exception as error:  # The loop lives on: the updates are kept.
                log.warning("chats could not be claimed", error=said(error))
                chats = []
            for chat in chats:
                task = asyncio.create_task(self._serve(chat, stopping), name=f"chat {chat}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if not chats:
                await self.bells.wait("chat")
        await asyncio.gather(*self._tasks)
        try:
            await intake.give_back_chats(self.holder, self.database)
        except Exception as error:  # Then the leases run out.
            log.warning("chats could not be given back", error=said(error))

    async def _serve(self, chat: int, stopping: asyncio.Event) -> None:
        """One chat's updates, one after the other, until there is none or the chat must rest."""
        try:
            ended = Ended(seq=None)
            while (row := await intake.step(self.holder, chat, ended, self.lease, self.database)) is not None:
                if stopping.is_set():
                    return
                outcome = await self._run_one(chat, row)
                if outcome is None:
                    return
                ended = outcome
        except Exception as error:  # Its lease runs out, and the update comes again.
            log.warning("a chat was left", error=said(error))
        finally:
            self.bells.ring(["chat"])  # Something may have come while we held the chat.

    async def _run_one(self, chat: int, row: Row) -> Ended | None:
        """How the update ended; None when the chat rests and the update comes again."""
        update = json.loads(row["body"])
        kind = next((name for name in update if name != "update_id"), "nothing")
        timeout = asyncio.timeout(RUN_TIMEOUT_S)
        try:
            with telemetry.span(f"update {kind}", kind=SpanKind.CONSUMER):
                async with timeout:
                    await self.run_update(update, row["received_at"])
                    crash.passing("screen_shown")
        except TelegramForbiddenError:
            return self._end(row, "done", "blocked by the person")
        except Exception as error:  # Whatever a screen throws, the chat goes on.
            if (database_is_to_blame(error) or telegram_is_away(error)) and not timeout.expired():
                return await self._wait_for_them(chat, row, error)
            return await self._our_fault(chat, row, error)
        return self._end(row, "done", None)

    async def _wait_for_them(self, chat: int, row: Row, error: Exception) -> Ended | None:
        if row["age_s"] > AWAY_FOR_GOOD_S:
            return self._end(row, "dropped", f"away for too long: {said(error)}")
        shortest_s, longest_s = AWAY_REST_S
        pause = retry_after_of(error) or timedelta(seconds=min(max(shortest_s, row["age_s"] / 2), longest_s))
        await self._rest(chat, row, pause, error, counted=False)
        return None

    async def _our_fault(self, chat: int, row: Row, error: Exception) -> Ended | None:
        unreadable = isinstance(error, ValidationError)
        if unreadable or row["tries"] >= len(self.our_fault_rest_s):
            frames = frames_of(error)
            log.error("update set aside", seq=row["seq"], tries=row["tries"], error=said(error), frames=frames)
            return self._end(row, "failed", said(error))
        await self._rest(chat, row, timedelta(seconds=self.our_fault_rest_s[row["tries"]]), error, counted=True)
        return None

    async def _rest(self, chat: int, row: Row, pause: timedelta, error: Exception, *, counted: bool) -> None:
        reason = said(error)
        log.warning("chat rests", seq=row["seq"], pause_s=pause.total_seconds(), counted=counted, error=reason)
        UPDATES.labels("chat", "put_off").inc()
        await intake.rest_chat(self.holder, chat, row["seq"], pause, reason, self.database, counted=counted)

    def _end(self, row: Row, outcome: str, reason: str | None) -> Ended:
        UPDATES.labels("chat", outcome).inc()
        return Ended(row["seq"], outcome, reason)
