"""Latency over load, and beneath it the reached rate beside the offered one, as an SVG."""

from collections.abc import Iterator, Sequence
from math import log10

from tests.load.pipeline import Run

Points = Sequence[tuple[float, Run]]
"""Runs by the rate that was offered, the lowest first."""

WIDTH, HEIGHT, LEFT = 480, 430, 76
LATENCY_TOP, LATENCY_BOTTOM = 40, 248
RATE_TOP, RATE_BOTTOM = 290, 380
BOTTOM_MS, TOP_MS = 1.0, 10_000.0
COLOURS = {50: "#2563eb", 99: "#dc2626"}
OFFERED, REACHED = "#94a3b8", "#059669"


def chart(panels: Sequence[tuple[str, Points]]) -> str:
    """One panel a title: p50 and p99 on a log scale, and beneath them the rates."""
    drawn = "".join(
        "".join(_panel(title, points, place * WIDTH))
        for place, (title, points) in enumerate(panels)
    )
    width = WIDTH * len(panels)
    size = f'width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}"'
    style = "text{font:12px system-ui,sans-serif;fill:#334155}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
        f'<style>{style}</style><rect width="100%" height="100%" fill="white"/>{drawn}</svg>\n'
    )


def _panel(title: str, points: Points, x0: float) -> Iterator[str]:
    yield f'<text x="{x0 + LEFT}" y="{LATENCY_TOP - 16}" style="font-weight:600">{title}</text>'
    step = (WIDTH - LEFT - 90) / max(1, len(points) - 1)
    across = [x0 + LEFT + 20 + place * step for place in range(len(points))]
    yield from _latency(points, across, x0)
    yield from _rates(points, across, x0)
    for x, (offered, _) in zip(across, points, strict=True):
        yield _text(x, RATE_BOTTOM + 18, f"{offered:g}")
    yield _text(x0 + LEFT + (WIDTH - LEFT) / 2, HEIGHT - 10, "offered a second")


def _latency(points: Points, across: Sequence[float], x0: float) -> Iterator[str]:
    for ms in (1, 10, 100, 1000, 10_000):
        yield from _grid(x0, _y_of_ms(ms), f"{ms} ms")
    for percent, colour in COLOURS.items():
        heights = [_y_of_ms(run.percentile_ms(percent)) for _, run in points]
        labels = [f"{run.percentile_ms(percent):.0f}" for _, run in points]
        # The lower line is labelled below, the upper one above.
        aside = 18 if percent == min(COLOURS) else -8
        yield from _line(across, heights, labels, f"p{percent}", colour, aside)


def _rates(points: Points, across: Sequence[float], x0: float) -> Iterator[str]:
    most = max(max(offered, run.per_s) for offered, run in points)
    for per_s in (0.0, most):
        yield from _grid(x0, _y_of_rate(per_s, most), f"{per_s:.0f}/s")
    offered = [_y_of_rate(per_s, most) for per_s, _ in points]
    yield from _line(across, offered, [], "offered", OFFERED, 0)
    reached = [_y_of_rate(run.per_s, most) for _, run in points]
    yield from _line(
        across, reached, [f"{run.per_s:.0f}" for _, run in points], "reached", REACHED, -8
    )


def _line(
    across: Sequence[float],
    heights: Sequence[float],
    labels: Sequence[str],
    name: str,
    colour: str,
    aside: int,
) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, heights, strict=True))
    dashes = "" if labels else ' stroke-dasharray="4 4"'
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    for x, y, label in zip(across, heights, labels, strict=False):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        yield _text(x, y + aside, label, colour)
    at = f'x="{across[-1] + 18:.1f}" y="{heights[-1] + 4 + aside / 2:.1f}"'
    yield f'<text {at} style="fill:{colour}">{name}</text>'


def _grid(x0: float, y: float, label: str) -> Iterator[str]:
    ends = f'x1="{x0 + LEFT}" x2="{x0 + WIDTH - 16}" y1="{y:.1f}" y2="{y:.1f}"'
    yield f'<line {ends} stroke="#e2e8f0"/>'
    yield f'<text x="{x0 + LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _text(x: float, y: float, text: str, colour: str = "") -> str:
    ink = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle"{ink}>{text}</text>'


def _y_of_ms(ms: float) -> float:
    share = log10(min(max(ms, BOTTOM_MS), TOP_MS) / BOTTOM_MS) / log10(TOP_MS / BOTTOM_MS)
    return LATENCY_BOTTOM - share * (LATENCY_BOTTOM - LATENCY_TOP)


def _y_of_rate(per_s: float, most: float) -> float:
    return RATE_BOTTOM - per_s / most * (RATE_BOTTOM - RATE_TOP)
