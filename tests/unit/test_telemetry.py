"""Names that people look for in traces."""

from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision

from shared import telemetry


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("\nselect *\nfrom orders\nwhere id = $1 for update skip locked\n", "select orders"),
        ("with a as (select * from unnest($1)) insert into facts (id) select id from a", "insert facts"),
        ("insert into streams (n) values (1) on conflict (n) do update set n = 2", "insert streams"),
        ("update jobs j set state = $1 from taken t", "update jobs"),
        ("delete from untold u using unnest($1)", "delete untold"),
        ("BEGIN;", "begin"),
        ("select 1", "select 1"),
    ],
)
def test_a_sql_span_says_what_it_touches(sql: str, name: str) -> None:
    assert telemetry.name_of_statement(sql) == name


def test_a_story_takes_its_trace_id_from_the_order_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    order, spans = uuid4(), InMemorySpanExporter()
    provider = TracerProvider(id_generator=telemetry.StoryIds())
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    with telemetry.story(order, "buy"), telemetry.span("inside"):
        following = telemetry.current_trace()
    with telemetry.span("later", following=following):
        pass
    with telemetry.span("elsewhere"):
        pass
    traces = {span.name: span.context.trace_id for span in spans.get_finished_spans() if span.context}
    assert traces["buy"] == traces["inside"] == traces["later"] == order.int
    assert traces["elsewhere"] != order.int


def test_sql_of_nobodys_story_is_not_a_trace_and_sql_of_a_story_is(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(sampler=telemetry.stories(1.0))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    with telemetry.tracer.start_as_current_span("idle", attributes={"db.statement": "select 1"}):
        pass
    with (
        telemetry.span("handled"),
        telemetry.tracer.start_as_current_span("select orders", attributes={"db.statement": "select 1"}),
    ):
        pass
    assert [span.name for span in spans.get_finished_spans()] == ["select orders", "handled"]


def test_services_that_sample_keep_the_same_stories() -> None:
    """An order's id is a random UUID, of which some bits are the same in all: they must not decide."""
    stories = [uuid4().int for _ in range(2000)]
    first, second = (
        [telemetry.stories(0.1).should_sample(None, story, "x").decision for story in stories] for _ in range(2)
    )
    assert first == second
    assert 100 < first.count(Decision.RECORD_AND_SAMPLE) < 300


def recorded(monkeypatch: pytest.MonkeyPatch, ratio: float) -> InMemorySpanExporter:
    spans = InMemorySpanExporter()
    provider = TracerProvider(sampler=telemetry.stories(ratio))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    return spans


def test_a_failed_span_names_the_kind_of_error_and_never_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-14: an error's text may hold what a person typed, or a token."""
    spans = recorded(monkeypatch, 1.0)
    with pytest.raises(ValueError), telemetry.span("alone"):
        raise ValueError("my passport is 4510")
    with pytest.raises(ValueError), telemetry.batch("many", ["00-" + "a" * 32 + "-" + "b" * 16 + "-01", None]):
        raise ValueError("my passport is 4510")
    for span in spans.get_finished_spans():
        assert not span.status.is_ok, span.name
        assert (span.attributes or {})[telemetry.FAILED] == "ValueError"
        assert "passport" not in span.to_json()
    assert [span.name for span in spans.get_finished_spans()] == ["alone", "many", "many"]


def test_a_failure_is_recorded_also_when_its_story_is_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = recorded(monkeypatch, 0.0)
    with telemetry.span("fine"):
        pass
    with pytest.raises(ValueError), telemetry.span("fails"):
        raise ValueError
    (alone,) = spans.get_finished_spans()
    assert (alone.name, len(alone.links), (alone.attributes or {})[telemetry.FAILED]) == ("failed", 1, "ValueError")


def test_a_story_that_comes_back_in_a_payload_is_sampled_as_it_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telegram carries the payload and no flags: said to be recorded, every payment would be, whatever the ratio."""
    monkeypatch.setattr(telemetry, "_kept", telemetry.Ratio(0.1))
    orders = [uuid4() for _ in range(500)]
    first = [telemetry.Ratio(0.1).keeps(order.int) for order in orders]
    back = [str(telemetry.trace_at((order, "b" * 16))).endswith("-01") for order in orders]
    assert back == first
    assert 0 < back.count(True) < 250
