"""Traces, metrics and logs. All steps of one order are one trace.

Spans follow OpenTelemetry's stable conventions for databases and HTTP.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
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
# What a step did for the item of its trace. A count of spans cannot tell it from a repeat.
REPORTED = "turnpike.reported"
BOOKED = "turnpike.booked"
GRANTED = "turnpike.granted"
QUERY_TEXT = "db.query.text"

# The stable names of attributes, in instrumentations that also know the former ones.
STABLE_CONVENTIONS = {"OTEL_SEMCONV_STABILITY_OPT_IN": "database,http"}

tracer: trace.Tracer = trace.get_tracer("turnpike")
_propagator = TraceContextTextMapPropagator()
_order: ContextVar[UUID | None] = ContextVar("order", default=None)
_NO_SPANS: Mapping[str, Span] = MappingProxyType({})
_noted: ContextVar[Mapping[str, Span]] = ContextVar("noted", default=_NO_SPANS)
"""The spans of the current batch's items, by their ids."""

EVENTS_PUBLISHED = Counter(
    "turnpike_events_published", "Events that the broker acknowledged", ["owner"]
)
EVENTS_REPUBLISHED = Counter(
    "turnpike_events_republished",
    "Events put back into the outbox: the stream changed, or a subscriber lacks them",
    ["owner"],
)
OUTBOX_PENDING = Gauge("turnpike_outbox_pending", "Events pending in the outbox", ["owner"])
OUTBOX_AGE = Gauge("turnpike_outbox_age_seconds", "Age of the oldest pending event", ["owner"])
HANDLED = Counter(
    "turnpike_handled",
    "Events by handler and outcome: done, repeated, retried, dead_lettered",
    ["handler", "outcome"],
)
HANDLER_STOPPED = Gauge(
    "turnpike_handler_stopped", "1 while a handler pauses after too many dead letters", ["handler"]
)
MESSAGES_WAITING = Gauge(
    "turnpike_messages_waiting",
    "Messages that failed and wait for their next try, counted up to 10 000",
    ["handler"],
)
HANDLER_SECONDS = Histogram(
    "turnpike_handler_seconds", "Duration of one batch's transaction", ["handler"]
)
CONFLICTS = Counter("turnpike_conflicts", "The same id with other business fields", ["where"])
DUPLICATES_REFUSED = Counter(
    "turnpike_duplicates_refused", "Repeats that met a natural key", ["where"]
)
AUDIT_FINDINGS = Gauge(
    "turnpike_audit_findings", "Violations at the last hourly audit", ["owner", "invariant"]
)
HOURS_GIVEN_UP = Gauge(
    "turnpike_hours_given_up",
    "Hours whose events stay missing after three republications",
    ["handler"],
)
UNKNOWN_EVENTS = Gauge(
    "turnpike_unknown_events", "Handled events that their owner does not know", ["handler"]
)
COMPARED_AGE = Gauge(
    "turnpike_compared_age_seconds", "Time since the last anti-entropy check", ["handler"]
)
LOOP_FAILURES = Counter("turnpike_loop_failures", "Turns of a loop that failed", ["loop"])
COMMANDS_REFUSED = Counter(
    "turnpike_commands_refused", "Refused commands by topic and reason", ["topic", "reason"]
)
REQUESTS_DROPPED = Counter(
    "turnpike_requests_dropped",
    "Requests without an answer: expired, late (when it was ready), or one too many waited",
    ["topic", "why"],
)
OUTSIDE_SECONDS = Histogram(
    "turnpike_outside_seconds", "Latency of calls to outside APIs", ["system", "call"]
)


class OrderTraceIds(IdGenerator):
    """Random ids. The first span of an order takes the order's id: one search finds the trace."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        order = _order.get()
        return order.int if order is not None else self._random.generate_trace_id()


_WRITES = re.compile(
    r"\b(insert) into (\w+)|(?<!for )\b(update) (?!set\b)(\w+)|\b(delete) from (\w+)"
)
_READS = re.compile(r"\b(select)\b.*?\bfrom (?!unnest\b)(\w+)", re.DOTALL)


@lru_cache(maxsize=1024)
def name_of_statement(sql: str) -> str:
    """`insert receipts`, `select orders`: the first table it writes, else the first it reads."""
    flat = " ".join(sql.split())
    found = _WRITES.search(flat) or _READS.search(flat)
    if found is None:
        return flat[:40].split("_")[0].rstrip(";").strip().lower()
    return " ".join(part for part in found.groups() if part)


class StatementNames(SpanProcessor):
    """Names SQL spans. The instrumentation uses the first word, which is often `with` here."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        statement = (span.attributes or {}).get(QUERY_TEXT)
        if isinstance(statement, str):
            span.update_name(name_of_statement(statement))


class Ratio(Sampler):
    """Keeps a share of the traces, by the low 56 bits of the trace id.

    They are random in an order's id too. The SDK's own ratio uses 64 bits, of which two are equal
    in every random UUID: it would keep none or all of the orders.
    """

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
        """SQL without a parent span, such as a relay that finds nothing, makes no trace."""
        if FAILED in (attributes or {}):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        if QUERY_TEXT in (attributes or {}) or not self.keeps(trace_id):
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return f"Ratio({self.bound / 2**56})"


def sampler(ratio: float) -> Sampler:
    """All services keep or drop the same traces. Within a trace the first span decides."""
    return ParentBased(Ratio(ratio))


_kept = Ratio(1.0)


def trace_at(position: tuple[UUID, str] | None) -> str | None:
    """The `traceparent` of an order's trace at the span with these 16 hex digits.

    A payload carries no sampling flag, so it is decided again, with the same result.
    """
    if position is None:
        return None
    order, span = position
    return f"00-{order.hex}-{span}-{'01' if _kept.keeps(order.int) else '00'}"


def start(service: str, *, kept: float = 1.0) -> None:
    """Start the logs, and the traces where an OTLP endpoint is set (by `OTEL_*` variables).

    `kept` is the share of the traces, from 0 to 1.
    """
    start_logs(service)
    if not (
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ):
        return
    # Imported here: a service without traces starts sooner and is smaller.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    global tracer, _kept  # The module's own tracer and ratio take effect from here on.
    _kept = Ratio(kept)
    provider = TracerProvider(
        sampler=sampler(kept),
        resource=Resource.create({"service.name": service}),
        id_generator=OrderTraceIds(),
    )
    provider.add_span_processor(StatementNames())
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=EXPORT_EVERY_MS)
    )
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("turnpike")
    trace_sql(provider)


def trace_sql(provider: TracerProvider) -> None:
    """Make a span of every statement.

    A failed one is marked without PostgreSQL's error text, which shows the row.
    """
    for name, value in STABLE_CONVENTIONS.items():
        os.environ.setdefault(name, value)
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

    instrumentor = AsyncPGInstrumentor()  # type: ignore[no-untyped-call]  # It has no annotations.
    instrumentor.instrument(tracer_provider=_WithoutTexts(provider))


class _WithoutTexts:
    """Tracers for an instrumentation, whose spans never hold the text of an exception."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        tracer: Any = self._provider.get_tracer(*args, **kwargs)
        tracer.start_as_current_span = partial(
            tracer.start_as_current_span, record_exception=False, set_status_on_exception=False
        )
        return tracer


def stop() -> None:
    """Export the spans that are still buffered."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def start_logs(service: str) -> None:
    """One JSON object a line on stderr: constant text in `event`, fields, and the trace id."""
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
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )


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
    """The context of a `traceparent`; without one an empty context, never the current one."""
    return _propagator.extract(
        {"traceparent": traceparent} if traceparent else {}, context=Context()
    )


def span_context_of(traceparent: str) -> SpanContext:
    return trace.get_current_span(context_of(traceparent)).get_span_context()


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One item of a batch, in the trace it came with.

    It has a short span of its own, unless its trace is not recorded.
    """

    came_with: str | None
    span: Span | None

    @property
    def trace(self) -> str | None:
        """The `traceparent` that its effects continue."""
        return self.came_with if self.span is None else trace_of(self.span)

    def note(self, name: str, value: str) -> None:
        """Set an attribute, unless the item has no span."""
        if self.span is not None:
            self.span.set_attribute(name, value)

    def failed(self, error: BaseException) -> None:
        failed(self.span or trace.get_current_span(context_of(self.came_with)), error)


@contextmanager
def batch(
    name: str, traces: Sequence[str | None], **attributes: str | int
) -> Iterator[list[BatchItem]]:
    """The span of a batch, which holds its SQL. Yields an item for each `traceparent`.

    In a batch of one the item's span is the span of the batch; so it is for an item without a
    trace. A failure marks all of them.
    """
    alone = len(traces) == 1
    links = [] if alone else [Link(span_context_of(one)) for one in traces if _recorded(one)]
    context = context_of(traces[0] if alone else None)
    counted = {"turnpike.batch": len(traces), **attributes}
    whole = tracer.start_span(name, context, SpanKind.CONSUMER, counted, links)
    items = [
        BatchItem(one, whole if alone or not one else _item(name, one, whole)) for one in traces
    ]
    token = _noted.set({_span_id(one.span): one.span for one in items if _is_kept(one.span)})
    with _marked(whole):
        try:
            yield items
        except Exception as error:
            for item in items:
                if item.span is not whole:
                    item.failed(error)
            raise
        finally:
            _noted.reset(token)
            for item in items:
                if item.span is not None and item.span is not whole:
                    item.span.end()


def note(traceparent: str | None, name: str, value: str) -> None:
    """Set an attribute of the item in the current batch that has this trace, if there is one.

    A handler gets the traces of its items and not their spans.
    """
    span = _noted.get().get((traceparent or "")[36:52])
    if span is not None:
        span.set_attribute(name, value)


def _is_kept(span: Span | None) -> TypeGuard[Span]:
    return span is not None and span.is_recording()


def _span_id(span: Span) -> str:
    return f"{span.get_span_context().span_id:016x}"


def _recorded(traceparent: str | None) -> TypeGuard[str]:
    """Whether spans of this trace are exported. Unexported ones took a tenth of a batch's time."""
    return traceparent is not None and traceparent.endswith("-01") and isinstance(tracer, SdkTracer)


def _item(name: str, traceparent: str, whole: Span) -> Span | None:
    if not _recorded(traceparent):
        return None
    links = [Link(whole.get_span_context())]
    context = context_of(traceparent)
    return tracer.start_span(name, context=context, kind=SpanKind.CONSUMER, links=links)


@contextmanager
def _marked(begun: Span) -> Iterator[None]:
    """The current span until its end. The SDK itself would record the text of an exception."""
    with trace.use_span(
        begun, end_on_exit=True, record_exception=False, set_status_on_exception=False
    ):
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
    """A child span of the current one, or of `following` where that is given."""
    context = context_of(following) if following else None
    begun = tracer.start_span(name, context, kind, dict(attributes))
    with _marked(begun):
        yield begun


@contextmanager
def order_trace(order: UUID, name: str, **attributes: str | int | bool) -> Iterator[Span]:
    """The first span of an order. The order's id is the trace id, and decides the sampling."""
    token = _order.set(order)
    try:
        begun = tracer.start_span(name, Context(), attributes=dict(attributes))
        with _marked(begun):
            yield begun
    finally:
        _order.reset(token)


def failed(current: Span, error: BaseException) -> None:
    """Mark a span with the type of the error: its text may hold a token or what a person typed.

    A failure in a trace that is not sampled gets a trace of its own, linked to the former.
    """
    kind = type(error).__name__
    if current.is_recording():
        current.set_status(Status(StatusCode.ERROR, kind))
        current.set_attribute(FAILED, kind)
    elif current.get_span_context().is_valid:
        links = [Link(current.get_span_context())]
        attributes = {FAILED: kind}
        span = tracer.start_span("failed", Context(), attributes=attributes, links=links)
        span.set_status(Status(StatusCode.ERROR, kind))
        span.end()
