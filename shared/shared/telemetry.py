"""Traces, metrics and logs: one story is one trace, and every name here is the name in the code."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeGuard
from uuid import UUID

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from prometheus_client import Counter, Gauge, Histogram
from structlog.typing import EventDict

EXPORT_EVERY_MS = 500

FAILED = "turnpike.failed"

tracer: trace.Tracer = trace.get_tracer("turnpike")
_propagator = TraceContextTextMapPropagator()
_story: ContextVar[UUID | None] = ContextVar("story", default=None)

FACTS_TOLD = Counter("turnpike_facts_told", "Facts acknowledged by the broker", ["owner"])
FACTS_RETOLD = Counter(
    "turnpike_facts_retold", "Facts put back, because the stream was another one or a listener lacks them", ["owner"]
)
FACTS_UNTOLD = Gauge("turnpike_facts_untold", "Facts waiting for the broker", ["owner"])
FACTS_UNTOLD_AGE = Gauge("turnpike_facts_untold_age_seconds", "Age of the oldest waiting fact", ["owner"])
RELAY_FAILURES = Counter("turnpike_relay_failures", "Rounds of the relay that failed", ["owner"])
HANDLED = Counter(
    "turnpike_handled", "Facts by handler and outcome: done, repeated, retried, buried", ["handler", "outcome"]
)
HANDLER_STOPPED = Gauge("turnpike_handler_stopped", "1 while a handler rests that buried too much", ["handler"])
HANDLER_SECONDS = Histogram("turnpike_handler_seconds", "Time of one batch's transaction", ["handler"])
CONTRADICTIONS = Counter("turnpike_contradictions", "The same id with other business fields", ["where"])
DUPLICATES_REFUSED = Counter("turnpike_duplicates_refused", "Repeats met by a natural key, by where", ["where"])
AUDIT_FINDINGS = Gauge("turnpike_audit_findings", "Violations at the last hourly audit", ["owner", "invariant"])
HOURS_GIVEN_UP = Gauge("turnpike_hours_given_up", "Hours of which a handler never heard all, told thrice", ["handler"])
STRANGERS = Gauge("turnpike_strangers", "Facts that a handler heard and their owner does not know", ["handler"])
COMPARED_AGE = Gauge("turnpike_compared_age_seconds", "Since a handler was held against its owner", ["handler"])
TICK_FAILURES = Counter("turnpike_tick_failures", "Rounds of a tick that failed", ["tick"])
COMMANDS_REFUSED = Counter("turnpike_commands_refused", "Commands refused, by topic and reason", ["topic", "reason"])
OUTSIDE_SECONDS = Histogram("turnpike_outside_seconds", "Latency of calls to other organisations", ["window", "call"])


class StoryIds(IdGenerator):
    """Random ids, but a story's first span takes its trace id from the order: one search finds all of it."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        story = _story.get()
        return story.int if story is not None else self._random.generate_trace_id()


_WRITES = re.compile(r"\b(insert) into (\w+)|(?<!for )\b(update) (?!set\b)(\w+)|\b(delete) from (\w+)")
_READS = re.compile(r"\b(select)\b.*?\bfrom (?!unnest\b)(\w+)", re.DOTALL)


@lru_cache(maxsize=1024)
def name_of_statement(sql: str) -> str:
    """`insert receipts`, `select orders`: what a statement writes first, else what it reads first."""
    flat = " ".join(sql.split())
    found = _WRITES.search(flat) or _READS.search(flat)
    return (
        " ".join(part for part in found.groups() if part)
        if found
        else flat[:40].split("_")[0].rstrip(";").strip().lower()
    )


class StatementNames(SpanProcessor):
    """The instrumentation names a SQL span by its first word, which of ours is often `with`."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        statement = (span.attributes or {}).get("db.statement")
        if isinstance(statement, str):
            span.update_name(name_of_statement(statement))


class Ratio(Sampler):
    """Keeps a story by the low 56 bits of its trace id, which are random in an order's id too; the SDK's own ratio
    looks at 64, of which two are the same in every random UUID: it would keep none or all of the stories."""

    def __init__(self, ratio: float) -> None:
        self.bound = round(ratio * 2**56)

    def keeps(self, trace_id: int) -> bool:
        return trace_id % 2**56 < self.bound

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """SQL without a story above it (a relay that looks for something to do) is no story of its own."""
        if FAILED in (attributes or {}):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        if "db.statement" in (attributes or {}) or not self.keeps(trace_id):
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return f"Ratio({self.bound / 2**56})"


def stories(ratio: float) -> Sampler:
    """All services keep or drop the same stories; within one, whoever continues it does as it was begun."""
    return ParentBased(Ratio(ratio))


_kept = Ratio(1.0)


def trace_at(place: tuple[UUID, str] | None) -> str | None:
    """The `traceparent` of an order's story at the span with these 16 hex digits.

    For a story that came back through somebody who carries no flags (a payload): they are decided again, as at first.
    """
    if place is None:
        return None
    order, span = place
    return f"00-{order.hex}-{span}-{'01' if _kept.keeps(order.int) else '00'}"


def start(service: str, *, kept: float = 1.0) -> None:
    """Structured logs always; traces of a share of the stories when an OTLP endpoint is set (as `OTEL_*` says)."""
    start_logs(service)
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # Whoever traces pays for it.

    global tracer, _kept  # From here on they are no stand-ins any more.
    _kept = Ratio(kept)
    provider = TracerProvider(
        sampler=stories(kept),
        resource=Resource.create({"service.name": service}),
        id_generator=StoryIds(),
    )
    provider.add_span_processor(StatementNames())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=EXPORT_EVERY_MS))
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("turnpike")
    watch_sql(provider)


def watch_sql(provider: TracerProvider) -> None:
    """Every statement is a span. One that fails is marked, without the row that PostgreSQL shows in its error."""
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

    instrumentor = AsyncPGInstrumentor()  # type: ignore[no-untyped-call]  # Its constructor has no annotations.
    instrumentor.instrument(tracer_provider=_WithoutTexts(provider))


class _WithoutTexts:
    """Tracers for somebody else's instrumentation, whose spans take in no exception's text."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        tracer: Any = self._provider.get_tracer(*args, **kwargs)
        tracer.start_as_current_span = partial(
            tracer.start_as_current_span, record_exception=False, set_status_on_exception=False
        )
        return tracer


def stop() -> None:
    """Hand over what is still buffered."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def start_logs(service: str) -> None:
    """One JSON object a line on stderr: constant text in `event`, fields beside it, the trace id with it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_service(service),
            _add_trace,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def _add_service(service: str) -> Any:
    def add(_: Any, __: str, fields: EventDict) -> EventDict:
        fields["service"] = service
        return fields

    return add


def _add_trace(_: Any, __: str, fields: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        fields["trace_id"] = f"{context.trace_id:032x}"
    return fields


def current_trace() -> str | None:
    """The current span as a W3C `traceparent`."""
    return trace_of(trace.get_current_span())


def trace_of(span: Span) -> str | None:
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context=trace.set_span_in_context(span))
    return carrier.get("traceparent")


def context_of(traceparent: str | None) -> Context:
    """The context that a `traceparent` names; an empty one (never the current) when there is none."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, context=Context())


def span_context_of(traceparent: str) -> SpanContext:
    return trace.get_current_span(context_of(traceparent)).get_span_context()


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a batch in its own story: a short span of its own, unless the story is not recorded."""

    came_with: str | None
    span: Span | None

    @property
    def trace(self) -> str | None:
        """What its effects continue: a `traceparent`."""
        return self.came_with if self.span is None else trace_of(self.span)

    def failed(self, error: BaseException) -> None:
        failed(self.span or trace.get_current_span(context_of(self.came_with)), error)


@contextmanager
def batch(name: str, traces: Sequence[str | None], **attributes: str | int) -> Iterator[list[Event]]:
    """The span of a batch, which holds its SQL; yields an event for each `traceparent`, with a short span.

    In a batch of one they are the same, and so they are for an event without a story. A failure marks all of them.
    """
    alone = len(traces) == 1
    links = [] if alone else [Link(span_context_of(one)) for one in traces if _recorded(one)]
    context = context_of(traces[0] if alone else None)
    counted = {"turnpike.batch": len(traces), **attributes}
    whole = tracer.start_span(name, context, SpanKind.CONSUMER, counted, links)
    events = [Event(one, whole if alone or not one else _event(name, one, whole)) for one in traces]
    with _marked(whole):
        try:
            yield events
        except Exception as error:
            for event in events:
                if event.span is not whole:
                    event.failed(error)
            raise
        finally:
            for event in events:
                if event.span is not None and event.span is not whole:
                    event.span.end()


def _recorded(traceparent: str | None) -> TypeGuard[str]:
    """Whether spans of this story go anywhere. Those that nobody will see were a tenth of a large batch's time."""
    return traceparent is not None and traceparent.endswith("-01") and isinstance(tracer, SdkTracer)


def _event(name: str, traceparent: str, whole: Span) -> Span | None:
    if not _recorded(traceparent):
        return None
    links = [Link(whole.get_span_context())]
    return tracer.start_span(name, context=context_of(traceparent), kind=SpanKind.CONSUMER, links=links)


@contextmanager
def _marked(begun: Span) -> Iterator[None]:
    """The current span, until it ends here. The SDK itself would write an exception's text into it."""
    with trace.use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except Exception as error:
            failed(begun, error)
            raise


def trace_id_of(traceparent: str | None) -> str | None:
    return traceparent.split("-")[1] if traceparent else None


@contextmanager
def span(
    name: str,
    *,
    following: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    **attributes: str | int | bool,
) -> Iterator[Span]:
    """A span as a child of the current one, or of `following` where that is given. A failure marks it."""
    context = context_of(following) if following else None
    begun = tracer.start_span(name, context, kind, dict(attributes))
    with _marked(begun):
        yield begun


@contextmanager
def story(order: UUID, name: str, **attributes: str | int | bool) -> Iterator[Span]:
    """The first span of an order's story: its trace id is the order's id, so sampling is by the order's hash."""
    token = _story.set(order)
    try:
        begun = tracer.start_span(name, Context(), attributes=dict(attributes))
        with _marked(begun):
            yield begun
    finally:
        _story.reset(token)


def failed(current: Span, error: BaseException) -> None:
    """Mark a span with the kind of error: its text may hold what a person typed, or a token.

    A failure in a story that is not sampled is recorded all the same, in a trace of its own that names the story.
    """
    kind = type(error).__name__
    if current.is_recording():
        current.set_status(Status(StatusCode.ERROR, kind))
        current.set_attribute(FAILED, kind)
    elif current.get_span_context().is_valid:
        story = [Link(current.get_span_context())]
        with tracer.start_as_current_span("failed", Context(), attributes={FAILED: kind}, links=story) as alone:
            alone.set_status(Status(StatusCode.ERROR, kind))
