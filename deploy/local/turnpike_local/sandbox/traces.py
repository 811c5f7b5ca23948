"""A receiver of OTLP/HTTP traces. The newest are in memory."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .spans import Span, spans_in
from .steps import is_step

TRACES_KEPT = 2_000
SPANS_PER_TRACE = 2_000


@dataclass
class _Trace:
    spans: dict[str, Span] = field(default_factory=dict)
    steps: dict[str, Span] = field(default_factory=dict)
    """Those of the spans that are steps of a purchase."""
    linked_from: set[tuple[str, str]] = field(default_factory=set)
    """Spans of other traces with a link to this one."""


@dataclass(frozen=True)
class OwnSpans:
    """The spans of one trace. When it is cut, there may have been more than are kept."""

    spans: list[Span]
    missing: int
    is_cut: bool


class Traces:
    """The newest 2 000 traces, by the time of their last span."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, _Trace] = OrderedDict()

    def receive(self, body: bytes) -> set[str]:
        """Store an export. Returns the ids of its traces."""
        spans = list(spans_in(body))
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
            if is_step(span):
                trace.steps[span.span_id] = span
        for linked_trace, _ in span.links:
            linked = self._traces.get(linked_trace)
            if linked is not None and len(linked.linked_from) < SPANS_PER_TRACE:
                linked.linked_from.add((span.trace_id, span.span_id))

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Summaries, newest first."""
        newest = list(reversed(self._traces.items()))[:limit]
        return [_summary(trace_id, trace) for trace_id, trace in newest if trace.spans]

    def newest_of(self, trace_ids: set[str]) -> str | None:
        """The trace with the newest span among these."""
        return next((known for known in reversed(self._traces) if known in trace_ids), None)

    def steps(self, trace_id: str) -> Sequence[Span]:
        """The steps of a purchase that have arrived."""
        trace = self._traces.get(trace_id)
        return [] if trace is None else list(trace.steps.values())

    def own(self, trace_id: str) -> OwnSpans:
        """The spans of the trace itself, and how many more they name that did not arrive."""
        trace = self._traces.get(trace_id)
        spans = [] if trace is None else list(trace.spans.values())
        named = {(trace_id, span.parent_id) for span in spans if span.parent_id}
        named.update(link for span in spans for link in span.links)
        missing = sum(not self._has(*one) for one in named)
        return OwnSpans(spans, missing, is_cut=len(spans) == SPANS_PER_TRACE)

    def _has(self, trace_id: str, span_id: str) -> bool:
        trace = self._traces.get(trace_id)
        return trace is not None and span_id in trace.spans

    def about(self, trace_id: str) -> list[dict[str, Any]]:
        """All spans of a trace, and the linked spans of other traces with their descendants.

        A batch is linked to the traces of its items.
        """
        trace = self._traces.get(trace_id)
        if trace is None:
            return []
        neighbours = set(trace.linked_from)
        for span in trace.spans.values():
            neighbours.update(
                (linked, inside) for linked, inside in span.links if linked != trace_id
            )
        spans = {span.span_id: span for span in trace.spans.values()}
        for other_id, root in neighbours:
            other = self._traces.get(other_id)
            if other is not None:
                spans.update({span.span_id: span for span in _with_descendants(other, root)})
        return [
            asdict(span)
            for span in sorted(spans.values(), key=lambda span: (span.start_ns, -span.end_ns))
        ]


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
    """The span and its descendants. Parents start first, so one pass by start finds all."""
    inside, found = {root}, []
    for span in sorted(trace.spans.values(), key=lambda span: span.start_ns):
        if span.span_id == root or span.parent_id in inside:
            inside.add(span.span_id)
            found.append(span)
    return found
