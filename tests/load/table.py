"""What was measured, as a table for people, a file for machines, and a chart of latency over load."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.load.spine import Run


@dataclass(frozen=True)
class Line:
    """One figure. `target` says what it should be, `holds` whether it is; a figure without a target is only shown."""

    what: str
    value: float
    unit: str
    target: str = ""
    holds: bool | None = None
    ratio: float | None = None
    """Against the floor, or against the same run without what is measured."""


def at_least(what: str, value: float, unit: str, target: float, *, ratio: float | None = None) -> Line:
    return Line(what, value, unit, f"≥ {target:g} {unit}", value >= target, ratio)


def at_most(what: str, value: float, unit: str, target: float, *, ratio: float | None = None) -> Line:
    return Line(what, value, unit, f"≤ {target:g} {unit}", value <= target, ratio)


def show(lines: Sequence[Line], under: str) -> None:
    """Print the table, and beneath it under which conditions it was measured."""
    table = Table("", "value", "target", "ratio", "holds")
    for line in lines:
        holds = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[line.holds]
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        table.add_row(line.what, f"{line.value:,.4g} {line.unit}", line.target, ratio, holds)
    console = Console(highlight=False, width=120)
    console.print(table)
    console.print(under, style="dim")


def write_json(path: Path, lines: Sequence[Line], under: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"under": under, "rows": [asdict(line) for line in lines]}, indent=2) + "\n")


WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 480, 310, 76, 62, 40
BOTTOM_MS, TOP_MS = 1.0, 10_000.0
COLOURS = {50: "#2563eb", 99: "#dc2626"}


def chart(panels: Sequence[tuple[str, Sequence[tuple[float, Run]]]]) -> str:
    """An SVG with a panel for each `(title, [(offered a second, run)])`: p50 and p99 over load, both on a log scale."""
    drawn = "".join(_panel(title, points, place * WIDTH) for place, (title, points) in enumerate(panels))
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}"'
    style = "text{font:12px system-ui,sans-serif;fill:#334155}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="white"/>{drawn}</svg>\n'
    )


def _panel(title: str, points: Sequence[tuple[float, Run]], x0: float) -> str:
    parts = [f'<text x="{x0 + LEFT}" y="{TOP - 16}" style="font-weight:600">{title}</text>']
    for ms in (1, 10, 100, 1000, 10_000):
        y = _y(ms)
        parts.append(f'<line x1="{x0 + LEFT}" x2="{x0 + WIDTH - 16}" y1="{y}" y2="{y}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{x0 + LEFT - 6}" y="{y + 4}" text-anchor="end">{ms} ms</text>')
    step = (WIDTH - LEFT - 60) / max(1, len(points) - 1)
    across = [x0 + LEFT + 20 + place * step for place in range(len(points))]
    for x, (offered, run) in zip(across, points, strict=True):
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{offered:g}</text>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle">({run.per_s:.0f})</text>')
    for percent, colour in COLOURS.items():
        heights = [_y(run.percentile_ms(percent)) for _, run in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, heights, strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        aside = 18 if percent == min(COLOURS) else -8  # The lower line is labelled below, the upper one above.
        for x, y, (_, run) in zip(across, heights, points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            label = f"{run.percentile_ms(percent):.0f}"
            ink = f'text-anchor="middle" style="fill:{colour}"'
            parts.append(f'<text x="{x:.1f}" y="{y + aside:.1f}" {ink}>{label}</text>')
        parts.append(f'<text x="{x0 + WIDTH - 36}" y="{heights[-1] + 4:.1f}" style="fill:{colour}">p{percent}</text>')
    middle, below = x0 + LEFT + (WIDTH - LEFT) / 2, HEIGHT - 4
    parts.append(f'<text x="{middle}" y="{below}" text-anchor="middle">offered a second (reached)</text>')
    return "".join(parts)


def _y(ms: float) -> float:
    from math import log10

    share = log10(min(max(ms, BOTTOM_MS), TOP_MS) / BOTTOM_MS) / log10(TOP_MS / BOTTOM_MS)
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
