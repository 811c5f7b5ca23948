"""`make bench`: how fast, how late, how large; every figure beside its target, ratios within one run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import click

from tests.load import floor, idle, spine, stories
from tests.load.bot_api import BotApi
from tests.load.chart import chart
from tests.load.ground import Ground
from tests.load.seed import Sale, sales, seed
from tests.load.spans import SpanSink
from tests.load.spine import Run
from tests.load.table import Line, show, write_json
from turnpike_local.demo import throw_away_state
from turnpike_local.ports import fetch

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / ".turnpike" / "bench.json"
CHART = ROOT / "docs" / "bench.svg"

WARM_UP = 500
PAYMENTS = 10_000
PAIRS = 3
RATE_S = 20  # Of 50 a second: the p99 is the tenth largest of a thousand.
ABOVE_S = 5  # Above what it can: latency is then how long that has lasted.
SPINE_RATES = (50, 100, 250, 500)
SPINE_RATE = 500
SPINE_ABOVE = 3_000
STORY_RATES = (10, 25, 50)
STORY_RATE = 50
STORY_ABOVE = 500
STORIES = 5_000
WATCHED_PAYMENTS = 1_500
ROUNDS = 3

WHERE = "What a relay forgets is the one write that does not wait for its flush. One machine, loopback."
FROM_WHERE = (
    "A latency begins when the payment was due, whenever we or the bot came to it, and ends with the last of its "
    "effects. PostgreSQL stamps a commit before it flushes its log: what ends with one is on disk a flush or two later."
)

Step = Callable[[Ground], Awaitable[object]]
Points = list[tuple[float, Run]]

conditions: set[str] = set()
"""What each ground has said of itself; all are to say the same."""


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    with throw_away_state() as folder:
        async with Ground(folder) as standing:
            conditions.add(await standing.conditions())
            yield standing


async def drained(start: Step, payments: int, *, sampling: float = 1.0, then: Step | None = None) -> Run:
    """A fresh shop, warmed up, then a backlog as fast as it goes; `then` looks at what stands after that."""
    async with ground() as standing:
        first = sales(WARM_UP, seed=1, sampling=sampling)
        lot = sales(payments, seed=2, first=WARM_UP, sampling=sampling)
        await seed(standing.postgres.dsn(), [*first, *lot])
        await start(standing)
        await spine.drain(standing, first)
        await standing.analyze()
        run = await spine.drain(standing, lot)
        if then is not None:
            await then(standing)
        return run


async def measure_throughput() -> list[Line]:
    """The shop and its floor, by turns the first, so that both meet the same machine."""
    pairs = []
    for turn in range(PAIRS):
        starts: list[Step] = [spine.start_spine, floor.start_floor]
        turned = -1 if turn % 2 else 1
        shop, twin = [await drained(start, PAYMENTS) for start in starts[::turned]][::turned]
        differing = shop.gained.items() ^ twin.gained.items()
        assert not differing, f"shop and floor did not write as many rows: {sorted(differing)}"
        pairs.append((shop, twin))
    real, least = median(one.per_s for one, _ in pairs), median(one.per_s for _, one in pairs)
    ratio = median(one.per_s / other.per_s for one, other in pairs)
    what = "ledger to three listeners, all durable"
    return [
        Line("throughput.shop", what, real, "payments/s", target=5000, of_floor=ratio),
        Line("throughput.floor", "the floor: the same writes, hand-written", least, "payments/s"),
        Line("throughput.of_floor", "the shop in percent of the floor", 100 * ratio, "%", target=60),
        _processor("throughput.shop_processor", "processor per payment, the shop", pairs[-1][0]),
        _processor("throughput.floor_processor", "processor per payment, the floor", pairs[-1][1]),
    ]


def _processor(id_: str, what: str, run: Run) -> Line:
    return Line(id_, what, sum(run.cpu_us.values()), "µs", parts_us=run.cpu_us)


async def measure_latency() -> tuple[list[Line], Points]:
    rates = (*SPINE_RATES, SPINE_ABOVE)
    lots = _lots(rates)
    async with ground() as standing:
        await seed(standing.postgres.dsn(), [sale for lot in lots.values() for sale in lot])
        await spine.start_spine(standing)
        await spine.drain(standing, lots[0])
        await standing.analyze()
        points = [(float(rate), await spine.at_rate(standing, lots[rate], rate)) for rate in rates]
    run, at_once = dict(points)[SPINE_RATE], f"at {SPINE_RATE}/s"
    lines = [
        Line("latency.p99", f"p99 {at_once}", run.percentile_ms(99), "ms", target=30, at_least=False),
        Line("latency.p50", f"p50 {at_once}", run.percentile_ms(50), "ms"),
        Line("latency.flush", f"a flush of PostgreSQL's log {at_once}, on average", run.flush_ms, "ms"),
        Line(
            "latency.above", f"reached when {SPINE_ABOVE}/s are offered", dict(points)[SPINE_ABOVE].per_s, "payments/s"
        ),
    ]
    return lines, points


async def measure_stories() -> tuple[list[Line], Points]:
    rates = (*STORY_RATES, STORY_ABOVE)
    lots = _lots(rates, payers_per_partner=1)
    backlog = sales(STORIES, seed=3, first=1_000_000, payers_per_partner=1)
    async with BotApi() as api, ground() as standing:
        await seed(standing.postgres.dsn(), [*backlog, *(sale for lot in lots.values() for sale in lot)], bot=True)
        await stories.start_shop(standing, api)
        await stories.play(standing, api, lots[0], None)
        await standing.analyze()
        points = [(float(rate), await stories.play(standing, api, lots[rate], rate)) for rate in rates]
        most = await stories.play(standing, api, backlog, None)
    run, at_once = dict(points)[STORY_RATE], f"at {STORY_RATE}/s"
    what = "the whole story, from the payment to key and reward"
    lines = [
        Line("stories.shop", what, most.per_s, "stories/s", target=300),
        Line("stories.p50", f"p50 {at_once}", run.percentile_ms(50), "ms", target=40, at_least=False),
        Line("stories.p99", f"p99 {at_once}", run.percentile_ms(99), "ms", target=120, at_least=False),
        Line(
            "stories.above", f"reached when {STORY_ABOVE}/s are offered", dict(points)[STORY_ABOVE].per_s, "stories/s"
        ),
        _processor("stories.processor", "processor per story", most),
    ]
    return lines, points


def _lots(rates: Sequence[int], *, payers_per_partner: int = 10) -> dict[int, list[Sale]]:
    """By rate, enough for as long as it is offered; under 0 those that warm up."""
    lots, first = {}, 0
    for rate in (0, *rates):
        count = rate * (ABOVE_S if rate in (SPINE_ABOVE, STORY_ABOVE) else RATE_S) or WARM_UP
        lots[rate] = sales(count, seed=100 + rate, first=first, payers_per_partner=payers_per_partner)
        first += count
    return lots


@dataclass(frozen=True)
class Way:
    """How the services are watched; without a `sampling` there is no tracing at all."""

    id: str
    what: str
    sampling: float | None = None
    metered: bool = True


BARE = Way("bare", "without tracing, with metrics")
WAYS = (
    BARE,
    Way("traced_1", "every story traced", 1.0),
    Way("traced_0.1", "a tenth of the stories traced", 0.1),
    Way("traced_0", "tracing on, no story traced", 0.0),
    Way("unmetered", "without tracing, without metrics", metered=False),
)


async def measure_telemetry() -> list[Line]:
    """What spans and metrics cost the four services: all ways by turns, each round against its own bare run."""
    runs: dict[Way, list[tuple[Run, float]]] = {way: [] for way in WAYS}
    for turn in range(ROUNDS):
        for way in WAYS[:: -1 if turn % 2 else 1]:
            runs[way].append(await watched(way))
    lines = []
    for way, own in runs.items():
        used, bare = ([_of_services_us(run) for run, _ in some] for some in (own, runs[BARE]))
        if way is BARE:
            lines.append(Line("telemetry.bare", f"processor of the services, {way.what}", median(used), "µs"))
        else:
            percent = 100 * median(one / other for one, other in zip(used, bare, strict=True))
            lines.append(Line(f"telemetry.{way.id}", f"{way.what}: of that processor", percent, "%"))
        per_s = median(run.per_s for run, _ in own)
        lines.append(Line(f"telemetry.{way.id}_rate", f"{way.what}: rate", per_s, "payments/s"))
        if way.sampling:  # A span that is dropped on its way costs less: there are six a story, and the batches'.
            spans = median(came for _, came in own)
            lines.append(Line(f"telemetry.{way.id}_spans", f"{way.what}: spans that came, per payment", spans, "spans"))
    return lines


async def watched(way: Way) -> tuple[Run, float]:
    """A run of the spine that is watched in this way and, which is looked at, in no other; with spans per payment."""
    async with SpanSink() as sink:
        settings = None if way.sampling is None else sink.settings(way.sampling)
        start = partial(spine.start_spine, settings=settings, metered=way.metered)
        then = partial(_look_at_metrics, there=way.metered)
        sampling = 1.0 if way.sampling is None else way.sampling
        run = await drained(start, WATCHED_PAYMENTS, sampling=sampling, then=then)
    spans = sink.count()
    assert bool(spans) == bool(way.sampling), f"{spans} spans have come, {way.what}"
    return run, spans / (WARM_UP + WATCHED_PAYMENTS)


async def _look_at_metrics(standing: Ground, *, there: bool) -> None:
    for name, program in standing.programs.items():
        counted = b"turnpike_handled_total{" in (await fetch(f"{program.url}/metrics") or b"")
        assert counted == there, f"{name} has {'' if counted else 'not '}counted what it handled"


def _of_services_us(run: Run) -> float:
    return sum(us for part, us in run.cpu_us.items() if part not in ("postgres", "nats"))


async def measure_idle() -> list[Line]:
    took_s, used_bytes = await idle.measure()
    memory = "memory, all five services at rest"
    return [
        Line("idle.memory", memory, used_bytes / 1e6, "MB", target=450, at_least=False),
        Line("idle.start", "`make up` to the first answered /start", took_s, "s", target=10, at_least=False),
    ]


PARTS = ("throughput", "latency", "stories", "telemetry", "idle")


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
    if "telemetry" in parts:
        lines += await measure_telemetry()
    if "idle" in parts:
        lines += await measure_idle()
    return lines, panels


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
def main(parts: tuple[str, ...]) -> None:
    """Measure PARTS (all without any), print the table and put its rows into .turnpike/bench.json.

    The chart in docs/bench.svg is drawn when latency and stories were both measured. A target is a wish: one that was
    missed says "no" in the table, and the exit status is 0 all the same.
    """
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    lines, panels = asyncio.run(measure(parts or PARTS))
    under = " ".join([*sorted(conditions), WHERE, FROM_WHERE])
    show(lines, under)
    write_json(RESULT, lines, under, measured_at)
    if len(panels) > 1:
        CHART.write_text(chart(list(panels.items())))


if __name__ == "__main__":
    main()
