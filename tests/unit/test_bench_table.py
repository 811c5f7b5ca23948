"""The output of `make bench`: rows with lasting ids, and a chart that shows saturation."""

import json
from pathlib import Path

from tests.load.chart import OFFERED, RATE_BOTTOM, RATE_TOP, REACHED, chart
from tests.load.pipeline import Run
from tests.load.table import Line, write_json

RATE = Line("throughput.shop", "payments", 900, "payments/s", target=1000, of_floor=0.6)
P99 = Line("latency.p99", "p99", 15, "ms", target=30, at_least=False)
USED = Line("throughput.shop_processor", "processor", 3, "µs", parts_us={"nats": 1, "payments": 2})


def rows_of(path: Path) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in json.loads(path.read_text())["rows"]}


def test_row_has_target_ratio_and_result(tmp_path: Path) -> None:
    write_json(tmp_path / "bench.json", [RATE, P99, USED], "quiet", "noon")
    rows = rows_of(tmp_path / "bench.json")
    names = ("target", "at_least", "ratio", "holds", "of_floor", "parts_us")
    assert [rows["throughput.shop"][name] for name in names] == [1000, True, 0.9, False, 0.6, None]
    assert [rows["latency.p99"][name] for name in names] == [30, False, 0.5, True, None, None]
    assert [rows["throughput.shop_processor"][name] for name in names] == [
        *[None] * 5,
        {"nats": 1, "payments": 2},
    ]


def test_part_replaces_only_its_own_rows(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bench.json"
    write_json(path, [RATE, P99, USED], "quiet", "noon")
    write_json(path, [Line("throughput.shop", "payments", 800, "payments/s")], "loud", "evening")
    rows = rows_of(path)
    assert {id_: (row["value"], row["measured_at"]) for id_, row in rows.items()} == {
        "latency.p99": (15, "noon"),
        "throughput.shop": (800, "evening"),
    }
    assert json.loads(path.read_text())["runs"] == {"noon": "quiet", "evening": "loud"}
    write_json(path, [P99], "loud", "night")
    assert json.loads(path.read_text())["runs"] == {"evening": "loud", "night": "loud"}


def test_chart_shows_saturation() -> None:
    """Where more is offered than the shop can take, the reached rate is the lower one."""
    half = Run(100, 2.0, (1.0, 2.0), {})
    drawn = chart([("payments", [(50.0, half), (100.0, half)])])
    offered, reached = (
        next(line for line in drawn.split("<polyline ") if f'stroke="{colour}"' in line)
        for colour in (OFFERED, REACHED)
    )
    middle = (RATE_TOP + RATE_BOTTOM) / 2
    assert f",{middle:.1f} " in offered
    assert f',{RATE_TOP:.1f}"' in offered
    assert reached.count(f",{middle:.1f}") == 2
