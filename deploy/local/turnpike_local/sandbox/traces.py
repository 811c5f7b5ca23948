"""A receiver of OTLP/HTTP traces that keeps the newest in memory (opentelemetry.io/docs/specs/otlp)."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

TRACES_KEPT = 2_000
SPANS_PER_TRACE = 2_000

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


class UnreadableTracesError(Exception):
    """The body is not an OTLP export."""


@dataclass(frozen=True)
class Span:
    """One span; times in nanoseconds since 1970, ids in hex, `links` as pairs of trace and span id."""

    trace_id: str
    span_id: str
    parent_id: str | None
    links: list[tuple[str, str]]
    name: str
    kind: str
    service: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    status: str
    status_message: str


@dataclass
class _Trace:
    spans: dict[str, Span] = field(default_factory=dict)
    linked_from: set[tuple[str, str]] = field(default_factory=set)  # Spans of other traces that point here.


class Traces:
    """The newest 2 000 traces, by the time of their last span."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, _Trace] = OrderedDict()

    def receive(self, body: bytes) -> set[str]:
        """Keep an export; answers the ids of the traces that it touched."""
        spans = list(_spans(_export(body)))
        for span in spans:
            self._keep(span)
        while len(self._traces) > TRACES_KEPT:
            self._traces.popitem(last=False)
        return {span.trace_id for span in spans}

    def _keep(self, span: Span) -> None:
        trace = self._traces.setdefault(span.trace_id, _Trace())
        self._traces.move_to_end(span.trace_id)
        if len(trace.spans) < SPANS_PER_TRACE:
            trace.spans[span.span_id] = span
        for linked_trace, _ in span.links:
            linked = self._traces.get(linked_trace)
            if linked is not None and len(linked.linked_from) < SPANS_PER_TRACE:
                linked.linked_from.add((span.trace_id, span.span_id))

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Summaries, newest first."""
        newest = list(reversed(self._traces.items()))[:limit]
        return [_summary(trace_id, trace) for trace_id, trace in newest if trace.spans]

    def newest_of(self, stories: set[str]) -> str | None:
        """The one of these traces that had the newest span."""
        return next((trace_id for trace_id in reversed(self._traces) if trace_id in stories), None)

    def about(self, trace_id: str) -> list[dict[str, Any]]:
        """All spans of a trace and the linked ones of others (a batch that served it) with what they contain."""
        trace = self._traces.get(trace_id)
        if trace is None:
            return []
        neighbours = set(trace.linked_from)
        for span in trace.spans.values():
            neighbours.update((linked, inside) for linked, inside in span.links if linked != trace_id)
        spans = {span.span_id: span for span in trace.spans.values()}
        for other_id, root in neighbours:
            other = self._traces.get(other_id)
            if other is not None:
                spans.update({span.span_id: span for span in _with_descendants(other, root)})
        return [asdict(span) for span in sorted(spans.values(), key=lambda span: (span.start_ns, -span.end_ns))]


def _summary(trace_id: str, trace: _Trace) -> dict[str, Any]:
    spans = trace.spans.values()
    first = min(spans, key=lambda span: span.start_ns)
    return {
        "trace_id": trace_id,
        "name": first.name,
        "spans": len(trace.spans),
        "services": sorted({span.service for span in spans}),
        "start_ns": first.start_ns,
        "end_ns": max(span.end_ns for span in spans),
    }


def _with_descendants(trace: _Trace, root: str) -> list[Span]:
    """Parents start before their children, so one pass in the order of start finds all of them."""
    inside, found = {root}, []
    for span in sorted(trace.spans.values(), key=lambda span: span.start_ns):
        if span.span_id == root or span.parent_id in inside:
            inside.add(span.span_id)
            found.append(span)
    return found


def _export(body: bytes) -> ExportTraceServiceRequest:
    try:
        return ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise UnreadableTracesError(str(error)) from error


def _spans(export: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in export.resource_spans:
        service = str(_attributes(resource.resource.attributes).get("service.name", "unknown"))
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, service)


def _span(span: OtlpSpan, service: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        name=span.name,
        kind=_KINDS[span.kind] if span.kind < len(_KINDS) else "unspecified",
        service=service,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        status=_STATUSES[span.status.code] if span.status.code < len(_STATUSES) else "unset",
        status_message=span.status.message,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return None if kind is None else getattr(value, kind)
