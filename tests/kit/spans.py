"""The spans that code under test begins, kept in memory."""

from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.platform import telemetry


def kept_spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Every span that the project's own code begins from here on."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    return kept


def traceparent() -> str:
    """A trace of its own, which is recorded."""
    return f"00-{uuid4().hex}-{'b' * 16}-01"


def noted(kept: InMemorySpanExporter, name: str, about: str) -> object:
    """The attribute of this name in the spans of the trace. It must be one span."""
    trace_id = int(about.split("-")[1], 16)
    (span,) = [
        span
        for span in kept.get_finished_spans()
        if span.context and span.context.trace_id == trace_id
    ]
    return (span.attributes or {}).get(name)
