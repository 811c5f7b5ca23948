"""Traces: the names of spans, the trace of an order, sampling, and no text of people."""

from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision

from shared.platform import telemetry
from tests.kit.spans import kept_spans, noted, traceparent


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("\nselect *\nfrom orders\nwhere id = $1 for update skip locked\n", "select orders"),
        (
            "with a as (select * from unnest($1)) insert into events (id) select id from a",
            "insert events",
        ),
        (
            "insert into streams (n) values (1) on conflict (n) do update set n = 2",
            "insert streams",
        ),
        ("update jobs j set state = $1 from taken t", "update jobs"),
        ("delete from outbox u using unnest($1)", "delete outbox"),
        ("BEGIN;", "begin"),
        ("select 1", "select 1"),
    ],
)
def test_a_sql_span_names_verb_and_table(sql: str, name: str) -> None:
    assert telemetry.name_of_statement(sql) == name


def test_only_order_traces_take_the_orders_id(monkeypatch: pytest.MonkeyPatch) -> None:
    order, spans = uuid4(), InMemorySpanExporter()
    provider = TracerProvider(id_generator=telemetry.OrderTraceIds())
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    with telemetry.order_trace(order, "buy"), telemetry.span("inside"):
        following = telemetry.current_trace()
    with telemetry.span("later", following=following):
        pass
    with telemetry.span("elsewhere"):
        pass
    traces = {
        span.name: span.context.trace_id for span in spans.get_finished_spans() if span.context
    }
    assert traces["buy"] == traces["inside"] == traces["later"] == order.int
    assert traces["elsewhere"] != order.int


def test_sql_is_traced_only_within_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(sampler=telemetry.sampler(1.0))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    with telemetry.tracer.start_as_current_span("idle", attributes={"db.query.text": "select 1"}):
        pass
    with (
        telemetry.span("handled"),
        telemetry.tracer.start_as_current_span(
            "select orders", attributes={"db.query.text": "select 1"}
        ),
    ):
        pass
    assert [span.name for span in spans.get_finished_spans()] == ["select orders", "handled"]


def test_services_sample_the_same_traces() -> None:
    """A trace id is an order's UUID. Bits that all UUIDs share must not decide."""
    trace_ids = [uuid4().int for _ in range(2000)]
    first, second = (
        [telemetry.sampler(0.1).should_sample(None, id_, "x").decision for id_ in trace_ids]
        for _ in range(2)
    )
    assert first == second
    assert 100 < first.count(Decision.RECORD_AND_SAMPLE) < 300


def recorded(monkeypatch: pytest.MonkeyPatch, ratio: float) -> InMemorySpanExporter:
    spans = InMemorySpanExporter()
    provider = TracerProvider(sampler=telemetry.sampler(ratio))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    return spans


def test_a_failed_span_holds_no_error_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-14: only the error's class. Its text may hold a token, or words that a person typed."""
    spans = recorded(monkeypatch, 1.0)
    with pytest.raises(ValueError), telemetry.span("alone"):
        raise ValueError("my name is Alice")
    with (
        pytest.raises(ValueError),
        telemetry.batch("many", ["00-" + "a" * 32 + "-" + "b" * 16 + "-01", None]),
    ):
        raise ValueError("my name is Alice")
    for span in spans.get_finished_spans():
        assert not span.status.is_ok, span.name
        assert (span.attributes or {})[telemetry.FAILED] == "ValueError"
        assert "Alice" not in span.to_json()
    assert [span.name for span in spans.get_finished_spans()] == ["alone", "many", "many"]


def test_failures_are_recorded_in_unsampled_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = recorded(monkeypatch, 0.0)
    with telemetry.span("fine"):
        pass
    with pytest.raises(ValueError), telemetry.span("fails"):
        raise ValueError
    (alone,) = spans.get_finished_spans()
    assert (alone.name, len(alone.links), (alone.attributes or {})[telemetry.FAILED]) == (
        "failed",
        1,
        "ValueError",
    )


def test_a_trace_from_a_payload_keeps_its_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telegram returns the payload without the sampling flag.

    With the flag always set, every payment would be recorded at any ratio.
    """
    monkeypatch.setattr(telemetry, "_kept", telemetry.Ratio(0.1))
    orders = [uuid4() for _ in range(500)]
    first = [telemetry.Ratio(0.1).keeps(order.int) for order in orders]
    back = [str(telemetry.trace_at((order, "b" * 16))).endswith("-01") for order in orders]
    assert back == first
    assert 0 < back.count(True) < 250


def test_a_note_reaches_its_own_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-69. In a batch of many, of one, and outside of any; an odd trace is nobody's."""
    kept, traces = kept_spans(monkeypatch), [traceparent() for _ in range(3)]
    with telemetry.batch("many", traces[:2]) as items:
        telemetry.note(items[1].trace, "turnpike.booked", "bought")
        for odd in (None, "", "odd", "é" * 60):
            telemetry.note(odd, "turnpike.booked", "odd")
    with telemetry.batch("one", traces[2:]) as items:
        telemetry.note(items[0].trace, "turnpike.booked", "wallet")
        late = items[0].trace
    telemetry.note(late, "turnpike.booked", "too late")
    assert [noted(kept, "turnpike.booked", trace) for trace in traces] == [None, "bought", "wallet"]
