"""`make bench`: how fast, how late, how large; every figure beside its target, ratios within one run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median

import click

from tests.load import floor, idle, spine, stories
from tests.load.bot_api import BotApi
from tests.load.ground import Ground
from tests.load.seed import Sale, sales, seed
from tests.load.spans import SpanSink
from tests.load.spine import Run
from tests.load.table import Line, at_least, at_most, chart, show, write_json
from turnpike_local.demo import throw_away_state

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / ".turnpike" / "bench.json"
CHART = ROOT / "docs" / "bench.svg"

WARM_UP = 500
PAYMENTS = 10_000
PAIRS = 3
RATE_S = 20  # Of 50 a second: the p99 is the tenth largest of a thousand.
SPINE_RATES = (50, 100, 250, 500)
SPINE_RATE = 500
STORY_RATES = (10, 25, 50)
STORY_RATE = 50
STORIES = 5_000
SAMPLING = (1.0, 0.1, 0.0)

WHERE = "One machine, loopback."
FROM_WHERE = (
    "A latency begins when the payment was due, whenever we or the bot came to it, and ends with the last of its "
    "effects. PostgreSQL stamps a commit before it flushes its log: what ends with one is on disk a flush or two later."
)

Start = Callable[[Ground], Awaitable[object]]
Points = list[tuple[float, Run]]

conditions: set[str] = set()
"""What each ground has said of itself; all are to say the same."""


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    with throw_away_state() as folder:
        async with Ground(folder) as standing:
            conditions.add(await standing.conditions())
            yield standing


async def drained(start: Start, payments: int, *, sampling: float = 1.0) -> Run:
    """A fresh shop, warmed up, then a backlog as fast as it goes."""
    async with ground() as standing:
        first = sales(WARM_UP, seed=1, sampling=sampling)
        lot = sales(payments, seed=2, first=WARM_UP, sampling=sampling)
        await seed(standing.postgres.dsn(), [*first, *lot])
        await start(standing)
        await spine.drain(standing, first)
        await standing.analyze()
        return await spine.drain(standing, lot)


async def measure_throughput() -> list[Line]:
    """The shop and its floor, by turns the first, so that both meet the same machine."""
    pairs = []
    for turn in range(PAIRS):
        starts: list[Start] = [spine.start_spine, floor.start_floor]
        turned = -1 if turn % 2 else 1
        shop, twin = [await drained(start, PAYMENTS) for start in starts[::turned]][::turned]
        differing = shop.gained.items() ^ twin.gained.items()
        assert not differing, f"shop and floor did not write as many rows: {sorted(differing)}"
        pairs.append((shop, twin))
    real, least = median(one.per_s for one, _ in pairs), median(one.per_s for _, one in pairs)
    ratio = median(one.per_s / other.per_s for one, other in pairs)
    return [
        at_least("ledger to three listeners, all durable", real, "payments/s", 5000, ratio=ratio),
        Line("  the floor: the same writes, hand-written", least, "payments/s"),
        at_least("  of the floor", 100 * ratio, "%", 60),
        *_cpu_lines("  the shop", pairs[-1][0]),
        *_cpu_lines("  the floor", pairs[-1][1]),
    ]


def _cpu_lines(whose: str, run: Run) -> list[Line]:
    parts = ", ".join(f"{name} {used:.0f}" for name, used in run.cpu_us.items())
    return [Line(f"{whose}: processor per payment ({parts})", sum(run.cpu_us.values()), "µs")]


async def measure_latency() -> tuple[list[Line], Points]:
    lots = _lots(SPINE_RATES)
    async with ground() as standing:
        await seed(standing.postgres.dsn(), [sale for lot in lots.values() for sale in lot])
        await spine.start_spine(standing)
        await spine.drain(standing, lots[0])
        await standing.analyze()
        points = [(float(rate), await spine.at_rate(standing, lots[rate], rate)) for rate in SPINE_RATES]
    run = dict(points)[SPINE_RATE]
    lines = [
        at_most(f"  p99 at {SPINE_RATE}/s", run.percentile_ms(99), "ms", 30),
        Line(f"  p50 at {SPINE_RATE}/s", run.percentile_ms(50), "ms"),
        Line(f"  a flush of PostgreSQL's log at {SPINE_RATE}/s, on average", run.flush_ms, "ms"),
    ]
    return lines, points


async def measure_stories() -> tuple[list[Line], Points]:
    lots = _lots(STORY_RATES, payers_per_partner=1)
    backlog = sales(STORIES, seed=3, first=1_000_000, payers_per_partner=1)
    async with BotApi() as api, ground() as standing:
        await seed(standing.postgres.dsn(), [*backlog, *(sale for lot in lots.values() for sale in lot)], bot=True)
        await stories.start_shop(standing, api)
        await stories.play(standing, api, lots[0], None)
        await standing.analyze()
        points = [(float(rate), await stories.play(standing, api, lots[rate], rate)) for rate in STORY_RATES]
        most = await stories.play(standing, api, backlog, None)
    run = dict(points)[STORY_RATE]
    lines = [
        at_least("the whole story, from the payment to key and reward", most.per_s, "stories/s", 300),
        at_most(f"  p50 at {STORY_RATE}/s", run.percentile_ms(50), "ms", 40),
        at_most(f"  p99 at {STORY_RATE}/s", run.percentile_ms(99), "ms", 120),
        *_cpu_lines("  the shop", most),
    ]
    return lines, points


def _lots(rates: Sequence[int], *, payers_per_partner: int = 10) -> dict[int, list[Sale]]:
    """By rate, enough for `RATE_S`; under 0 those that warm up."""
    lots, first = {}, 0
    for rate in (0, *rates):
        count = rate * RATE_S or WARM_UP
        lots[rate] = sales(count, seed=100 + rate, first=first, payers_per_partner=payers_per_partner)
        first += count
    return lots


async def measure_tracing() -> list[Line]:
    """What spans cost: the processor time of the four services against the same run without any."""
    bare = await drained(spine.start_spine, PAYMENTS // 3)
    lines = []
    for sampling in SAMPLING:
        async with SpanSink() as sink:
            start = partial(spine.start_spine, settings=sink.settings(sampling))
            run = await drained(start, PAYMENTS // 3, sampling=sampling)
        ratio = _of_services_us(run.cpu_us) / _of_services_us(bare.cpu_us)
        lines.append(Line(f"tracing, sampling {sampling:g}: processor of the services", 100 * ratio, "%", ratio=ratio))
    return lines


def _of_services_us(used: Mapping[str, float]) -> float:
    return sum(us for part, us in used.items() if part not in ("postgres", "nats"))


async def measure_idle() -> list[Line]:
    took_s, used_bytes = await idle.measure()
    return [
        at_most("memory, all five services at rest", used_bytes / 1e6, "MB", 450),
        at_most("`make up` to the first answered /start", took_s, "s", 10),
    ]


PARTS = ("throughput", "latency", "stories", "tracing", "idle")


async def measure(parts: Sequence[str]) -> tuple[list[Line], dict[str, Points]]:
    lines: list[Line] = []
    panels: dict[str, Points] = {}
    if "throughput" in parts:
        lines += await measure_throughput()
    if "latency" in parts:
        more, panels["Ledger to three listeners"] = await measure_latency()
        lines += more
    if "stories" in parts:
        more, panels["The whole story"] = await measure_stories()
        lines += more
    if "tracing" in parts:
        lines += await measure_tracing()
    if "idle" in parts:
        lines += await measure_idle()
    return lines, panels


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
def main(parts: tuple[str, ...]) -> None:
    """Measure PARTS (all without any), print the table, write .turnpike/bench.json and the chart in docs/bench.svg.

    A target is a wish: one that was missed says "no" in the table, and the exit status is 0 all the same.
    """
    lines, panels = asyncio.run(measure(parts or PARTS))
    under = " ".join([*sorted(conditions), WHERE, FROM_WHERE])
    show(lines, under)
    write_json(RESULT, lines, under)
    if len(panels) > 1:
        CHART.write_text(chart(list(panels.items())))


if __name__ == "__main__":
    main()
