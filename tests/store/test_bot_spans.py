"""Traces, logs and rows name the kinds of a failed update and its error, and no typed text."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pytest
import structlog
from aiogram.types import Update
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bot_gateway.receiving import take_in
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.chat_lane import ChatLane, Run
from shared.platform import telemetry
from shared.platform.db import Database
from tests.kit.bot import BOT, message_update, opened
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until

TYPED = "my card is 4510 123456"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Every span that the project's own code begins."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    return kept


@pytest.fixture
def sql_spans() -> Iterator[InMemorySpanExporter]:
    """Every span of an SQL statement."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    telemetry.trace_sql(provider)
    yield kept
    AsyncPGInstrumentor().uninstrument()  # type: ignore[no-untyped-call]  # No annotations.


async def write(raw: dict[str, Any], _: datetime, database: Database) -> None:
    await database.execute(WRITE_ANOTHER_LANGUAGE, raw["message"]["text"])


async def read(raw: dict[str, Any], _: datetime) -> None:
    Update.model_validate(raw)


async def repeat(raw: dict[str, Any], _: datetime) -> None:
    raise RuntimeError(raw["message"]["text"])


@pytest.mark.parametrize(("run", "error"), [(read, "ValidationError"), (repeat, "RuntimeError")])
async def test_a_span_names_the_error_without_its_text(
    fresh_database: MakeDatabase, spans: InMemorySpanExporter, run: Run, error: str
) -> None:
    """S-14: the text of an error may repeat its input."""
    place, stopping = await fresh_database("bot"), asyncio.Event()
    async with opened(place.dsn("bot_app")) as database:

        async def failed() -> bool:
            return bool(
                await database.fetchval(
                    "select exists (select from updates where state = 'failed')"
                )
            )

        async with database.transaction() as tx:
            await take_in(BOT, [message_update(5, text=TYPED, message_id=TYPED)], Bells(), tx)
        lane = asyncio.create_task(
            ChatLane(database, Bells(), run, our_fault_pause_s=()).run(stopping)
        )
        await until(failed)
        stopping.set()
        await lane
    [span] = [span for span in spans.get_finished_spans() if span.name == "update message"]
    assert span.status.description == error
    assert TYPED not in span.to_json()


# PostgreSQL shows the whole refused row in its error.
WRITE_ANOTHER_LANGUAGE = """
insert into people (person, telegram_id, first_name, language, code, started_event)
values (gen_random_uuid(), 1, $1, 'xx', 'c', gen_random_uuid())
"""


async def test_a_refused_row_is_shown_nowhere(
    fresh_database: MakeDatabase,
    sql_spans: InMemorySpanExporter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """S-14: not in the span, not in the log, not in the reason of the update."""
    place, stopping = await fresh_database("bot"), asyncio.Event()
    telemetry.start_logs("test")
    try:
        async with opened(place.dsn("bot_app")) as database:

            async def set_aside() -> bool:
                return bool(
                    await database.fetchval(
                        "select exists (select from updates where state = 'failed')"
                    )
                )

            async with database.transaction() as tx:
                await take_in(BOT, [message_update(5, text=TYPED)], Bells(), tx)
            lane = ChatLane(
                database, Bells(), partial(write, database=database), our_fault_pause_s=()
            )
            running = asyncio.create_task(lane.run(stopping))
            await until(set_aside)
            stopping.set()
            await running
            reason = await database.fetchval("select reason from updates")
            assert reason == "CheckViolationError 23514 people_language_check"
    finally:
        structlog.reset_defaults()
    logged = capsys.readouterr().err
    assert "update set aside" in logged
    assert "in write" in logged, "the log shows the place of the failure"
    assert TYPED not in logged
    [span] = [
        span
        for span in sql_spans.get_finished_spans()
        if not span.status.is_ok and not span.status.is_unset
    ]
    assert (span.attributes or {})["db.query.text"] == WRITE_ANOTHER_LANGUAGE
    assert TYPED not in span.to_json()
