"""What a trace may say about a person: which kind of update failed and by what kind of error, never what was typed."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from aiogram.types import Update
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bot_gateway.lanes import Bells
from bot_gateway.lanes.chat import ChatLane, Run
from bot_gateway.receiving import take_in
from shared import telemetry
from tests.kit.bot import BOT, message_update, opened, until
from tests.kit.servers import MakeDatabase

TYPED = "my passport is 4510 123456"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Every span that our own code begins."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    return kept


async def read(raw: dict[str, Any], _: datetime) -> None:
    Update.model_validate(raw)


async def repeat(raw: dict[str, Any], _: datetime) -> None:
    raise RuntimeError(raw["message"]["text"])


@pytest.mark.parametrize(("run", "error"), [(read, "ValidationError"), (repeat, "RuntimeError")])
async def test_an_update_that_fails_is_marked_with_the_kind_of_error_and_not_with_what_was_typed(
    fresh_database: MakeDatabase, spans: InMemorySpanExporter, run: Run, error: str
) -> None:
    """S-14: an error repeats what it could not read."""
    place, stopping = await fresh_database("bot"), asyncio.Event()
    async with opened(place.dsn("bot_app")) as database:

        async def failed() -> bool:
            return bool(await database.fetchval("select exists (select from updates where state = 'failed')"))

        async with database.transaction() as tx:
            await take_in(BOT, [message_update(5, text=TYPED, message_id=TYPED)], Bells(), tx)
        lane = asyncio.create_task(ChatLane(database, Bells(), run, our_fault_rest_s=()).run(stopping))
        await until(failed)
        stopping.set()
        await lane
    [span] = [span for span in spans.get_finished_spans() if span.name == "update message"]
    assert span.status.description == error
    assert TYPED not in span.to_json()
