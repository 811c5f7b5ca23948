"""`make bench`: throughput, latency and size; every figure beside its target, ratios in one run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import click

from tests.load import checkouts, floor, idle, notices, openings, pipeline, scenarios
from tests.load.bot_api import BotApi
from tests.load.chart import chart
from tests.load.pipeline import Run
from tests.load.seed import Sale, sales, seed
from tests.load.spans import SpanSink
from tests.load.table import Line, show, write_json
from tests.load.testbed import Testbed
from turnpike_local.demo import throw_away_state
from turnpike_local.ports import fetch

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / ".turnpike" / "bench.json"
CHART = ROOT / "docs" / "bench.svg"

WARM_UP = 500
PAYMENTS = 10_000
PAIRS = 3
RATE_S = 20  # At 50 a second: the p99 is the tenth largest of a thousand.
OVERLOAD_S = 5  # Above the capacity, latency grows for as long as the overload lasts.
PIPELINE_RATES = (50, 100, 250, 500)
PIPELINE_RATE = 500
PIPELINE_OVERLOAD = 3_000
SCENARIO_RATES = (10, 25, 50)
SCENARIO_RATE = 50
SCENARIO_OVERLOAD = 500
SCENARIOS = 5_000
CHECKOUTS = 300
CHECKOUT_RATE = 100
CHECKOUT_LOTS = 3
BUSY_LOOPS = 4
TELEMETRY_PAYMENTS = 1_500
ROUNDS = 3

WHERE = (
    "The relay clearing its outbox is the one write that does not wait for its flush. "
    "One machine, loopback."
)
LATENCY = (
    "A latency begins when the payment was due, even if it was sent or read later, and ends with "
    "the last of its effects. PostgreSQL stamps a commit before it flushes its log: an effect that "
    "is a commit is on disk a flush or two later."
)

Step = Callable[[Testbed], Awaitable[object]]
Points = list[tuple[float, Run]]

conditions: set[str] = set()
"""The durability settings that each testbed reported; all should be the same."""


@asynccontextmanager
async def new_testbed() -> AsyncIterator[Testbed]:
    with throw_away_state() as folder:
        async with Testbed(folder) as testbed:
            conditions.add(await testbed.conditions())
            yield testbed


async def drained(
    start: Step, payments: int, *, sampling: float = 1.0, then: Step | None = None
) -> Run:
    """Start a new shop, warm it up, and drain a backlog. `then` inspects the shop after that."""
    async with new_testbed() as testbed:
        first = sales(WARM_UP, seed=1, sampling=sampling)
        lot = sales(payments, seed=2, first=WARM_UP, sampling=sampling)
        await seed(testbed.postgres.dsn(), [*first, *lot])
        await start(testbed)
        await pipeline.drain(testbed, first)
        await testbed.analyze()
        run = await pipeline.drain(testbed, lot)
        if then is not None:
            await then(testbed)
        return run


async def measure_throughput() -> list[Line]:
    """The shop and its floor. They take turns to be first, so both meet the same machine."""
    pairs = []
    for turn in range(PAIRS):
        starts: list[Step] = [pipeline.start_pipeline, floor.start_floor]
        direction = -1 if turn % 2 else 1
        shop, twin = [await drained(start, PAYMENTS) for start in starts[::direction]][::direction]
        different = shop.gained.items() ^ twin.gained.items()
        assert not different, f"shop and floor did not write as many rows: {sorted(different)}"
        pairs.append((shop, twin))
    real, least = median(one.per_s for one, _ in pairs), median(one.per_s for _, one in pairs)
    ratio = median(one.per_s / other.per_s for one, other in pairs)
    what = "ledger to three subscribers, all durable"
    return [
        Line("throughput.shop", what, real, "payments/s", target=5000, of_floor=ratio),
        Line("throughput.floor", "the floor: the same writes, hand-written", least, "payments/s"),
        Line(
            "throughput.of_floor", "the shop in percent of the floor", 100 * ratio, "%", target=60
        ),
        _processor("throughput.shop_processor", "processor per payment, the shop", pairs[-1][0]),
        _processor("throughput.floor_processor", "processor per payment, the floor", pairs[-1][1]),
    ]


def _processor(id_: str, what: str, run: Run) -> Line:
    return Line(id_, what, sum(run.cpu_us.values()), "µs", parts_us=run.cpu_us)


def _at_most(id_: str, what: str, value: float, unit: str, target: float) -> Line:
    return Line(id_, what, value, unit, target=target, at_least=False)


async def measure_latency() -> tuple[list[Line], Points]:
    rates = (*PIPELINE_RATES, PIPELINE_OVERLOAD)
    lots = _lots(rates)
    async with new_testbed() as testbed:
        await seed(testbed.postgres.dsn(), [sale for lot in lots.values() for sale in lot])
        await pipeline.start_pipeline(testbed)
        await pipeline.drain(testbed, lots[0])
        await testbed.analyze()
        points = [
            (float(rate), await pipeline.at_rate(testbed, lots[rate], rate)) for rate in rates
        ]
    run, overload = dict(points)[PIPELINE_RATE], dict(points)[PIPELINE_OVERLOAD]
    at_rate = f"at {PIPELINE_RATE}/s"
    flush, offered = "a flush of PostgreSQL's log", f"{PIPELINE_OVERLOAD}/s are offered"
    lines = [
        _at_most("latency.p99", f"p99 {at_rate}", run.percentile_ms(99), "ms", 30),
        Line("latency.p50", f"p50 {at_rate}", run.percentile_ms(50), "ms"),
        Line("latency.flush", f"{flush} {at_rate}, on average", run.flush_ms, "ms"),
        Line("latency.above", f"reached when {offered}", overload.per_s, "payments/s"),
    ]
    return lines, points


async def measure_scenarios() -> tuple[list[Line], Points]:
    rates = (*SCENARIO_RATES, SCENARIO_OVERLOAD)
    lots = _lots(rates, payers_per_partner=1)
    backlog = sales(SCENARIOS, seed=3, first=1_000_000, payers_per_partner=1)
    sold = [*backlog, *(sale for lot in lots.values() for sale in lot)]
    async with BotApi() as api, new_testbed() as testbed:
        await seed(testbed.postgres.dsn(), sold, bot=True)
        await scenarios.start_shop(testbed, api)
        await scenarios.play(testbed, api, lots[0], None)
        await testbed.analyze()
        points = [
            (float(rate), await scenarios.play(testbed, api, lots[rate], rate)) for rate in rates
        ]
        most = await scenarios.play(testbed, api, backlog, None)
    run, overload = dict(points)[SCENARIO_RATE], dict(points)[SCENARIO_OVERLOAD]
    at_rate, offered = f"at {SCENARIO_RATE}/s", f"{SCENARIO_OVERLOAD}/s are offered"
    what = "the whole purchase, from the payment to key and reward"
    lines = [
        Line("scenarios.shop", what, most.per_s, "purchases/s", target=300),
        _at_most("scenarios.p50", f"p50 {at_rate}", run.percentile_ms(50), "ms", 40),
        _at_most("scenarios.p99", f"p99 {at_rate}", run.percentile_ms(99), "ms", 120),
        Line("scenarios.above", f"reached when {offered}", overload.per_s, "purchases/s"),
        _processor("scenarios.processor", "processor per purchase", most),
    ]
    return lines, points


async def measure_checkouts() -> list[Line]:
    """People pay within three seconds, on the machine alone and beside busy processes."""
    count = CHECKOUTS * (2 * CHECKOUT_LOTS + 1)
    sold = sales(count, seed=4, payers_per_partner=1)
    lots = [sold[first : first + CHECKOUTS] for first in range(0, count, CHECKOUTS)]
    async with BotApi() as api, new_testbed() as testbed:
        await seed(testbed.postgres.dsn(), sold, bot=True)
        await checkouts.start_checkouts(testbed, api)
        await checkouts.check_out(api, lots.pop(), CHECKOUT_RATE)
        await testbed.analyze()
        alone = await _check_out(api, lots[::2])
        with checkouts.busy(BUSY_LOOPS):
            beside = await _check_out(api, lots[1::2])
    within = f"{CHECKOUTS} people pay within {CHECKOUTS / CHECKOUT_RATE:g} s"
    busy = f"the same beside {BUSY_LOOPS} busy processes"
    return [
        Line("checkouts.approved", f"{within}: approved", alone.approved_percent, "%", target=100),
        Line("checkouts.p50", "p50 of the answer", alone.percentile_ms(50), "ms"),
        _at_most("checkouts.p99", "p99 of the answer", alone.percentile_ms(99), "ms", 1500),
        Line("checkouts.busy_approved", f"{busy}: approved", beside.approved_percent, "%"),
        Line("checkouts.busy_p50", "p50 of the answer", beside.percentile_ms(50), "ms"),
        Line("checkouts.busy_p99", "p99 of the answer", beside.percentile_ms(99), "ms"),
    ]


async def _check_out(api: BotApi, lots: Sequence[Sequence[Sale]]) -> checkouts.Answers:
    """One lot after the other, each with its own three seconds."""
    all_ = [await checkouts.check_out(api, lot, CHECKOUT_RATE) for lot in lots]
    return checkouts.Answers(
        sum(one.asked for one in all_),
        sum(one.approved for one in all_),
        sum(one.refused for one in all_),
        tuple(ms for one in all_ for ms in one.latencies_ms),
    )


def _lots(rates: Sequence[int], *, payers_per_partner: int = 10) -> dict[int, list[Sale]]:
    """Sales by rate, enough for as long as it is offered; under 0 those of the warm-up."""
    lots, first = {}, 0
    for rate in (0, *rates):
        seconds = OVERLOAD_S if rate in (PIPELINE_OVERLOAD, SCENARIO_OVERLOAD) else RATE_S
        count = rate * seconds or WARM_UP
        lots[rate] = sales(
            count, seed=100 + rate, first=first, payers_per_partner=payers_per_partner
        )
        first += count
    return lots


@dataclass(frozen=True)
class Mode:
    """The telemetry of the services; without a `sampling` there is no tracing at all."""

    id: str
    what: str
    sampling: float | None = None
    metered: bool = True


BARE = Mode("bare", "without tracing, with metrics")
MODES = (
    BARE,
    Mode("traced_1", "every trace kept", 1.0),
    Mode("traced_0.1", "a tenth of the traces kept", 0.1),
    Mode("traced_0", "tracing on, no trace kept", 0.0),
    Mode("unmetered", "without tracing, without metrics", metered=False),
)


async def measure_telemetry() -> list[Line]:
    """The cost of spans and metrics in the four services, each round against its own bare run."""
    runs: dict[Mode, list[tuple[Run, float]]] = {mode: [] for mode in MODES}
    for turn in range(ROUNDS):
        for mode in MODES[:: -1 if turn % 2 else 1]:
            runs[mode].append(await run_in(mode))
    lines = []
    for mode, own in runs.items():
        id_ = f"telemetry.{mode.id}"
        used, bare = ([_of_services_us(run) for run, _ in some] for some in (own, runs[BARE]))
        if mode is BARE:
            lines.append(Line(id_, f"processor of the services, {mode.what}", median(used), "µs"))
        else:
            percent = 100 * median(one / other for one, other in zip(used, bare, strict=True))
            lines.append(Line(id_, f"{mode.what}: of that processor", percent, "%"))
        per_s = median(run.per_s for run, _ in own)
        lines.append(Line(f"{id_}_rate", f"{mode.what}: rate", per_s, "payments/s"))
        # A dropped span would look cheap: a trace has six spans, and the batches have theirs.
        if mode.sampling:
            spans = median(received for _, received in own)
            what = f"{mode.what}: spans received, per payment"
            lines.append(Line(f"{id_}_spans", what, spans, "spans"))
    return lines


async def run_in(mode: Mode) -> tuple[Run, float]:
    """A run of the pipeline with this telemetry, which is verified, and its spans per payment."""
    async with SpanSink() as sink:
        settings = None if mode.sampling is None else sink.settings(mode.sampling)
        start = partial(pipeline.start_pipeline, settings=settings, metered=mode.metered)
        then = partial(_check_metrics, present=mode.metered)
        sampling = 1.0 if mode.sampling is None else mode.sampling
        run = await drained(start, TELEMETRY_PAYMENTS, sampling=sampling, then=then)
    spans = sink.count()
    assert bool(spans) == bool(mode.sampling), f"{spans} spans were received, {mode.what}"
    return run, spans / (WARM_UP + TELEMETRY_PAYMENTS)


async def _check_metrics(testbed: Testbed, *, present: bool) -> None:
    for name, program in testbed.programs.items():
        counted = b"turnpike_handled_total{" in (await fetch(f"{program.url}/metrics") or b"")
        assert counted == present, f"{name} has {'' if counted else 'not '}counted what it handled"


def _of_services_us(run: Run) -> float:
    return sum(us for part, us in run.cpu_us.items() if part not in ("postgres", "nats"))


async def measure_idle() -> list[Line]:
    took_s, used_bytes = await idle.measure()
    memory = "memory, all five services at rest"
    return [
        _at_most("idle.memory", memory, used_bytes / 1e6, "MB", 450),
        _at_most("idle.start", "`make up` to the first answered /start", took_s, "s", 10),
    ]


async def measure_notices() -> list[Line]:
    async with new_testbed() as testbed:
        return await notices.measure(testbed)


async def measure_openings() -> list[Line]:
    async with new_testbed() as testbed:
        return await openings.measure(testbed)


PARTS = (
    "throughput",
    "latency",
    "scenarios",
    "checkouts",
    "notices",
    "openings",
    "telemetry",
    "idle",
)


async def measure(parts: Sequence[str]) -> tuple[list[Line], dict[str, Points]]:
    lines: list[Line] = []
    panels: dict[str, Points] = {}
    if "throughput" in parts:
        lines += await measure_throughput()
    if "latency" in parts:
        more, panels["Ledger to three subscribers"] = await measure_latency()
        lines += more
    if "scenarios" in parts:
        more, panels["The whole purchase"] = await measure_scenarios()
        lines += more
    if "checkouts" in parts:
        lines += await measure_checkouts()
    if "notices" in parts:
        lines += await measure_notices()
    if "openings" in parts:
        lines += await measure_openings()
    if "telemetry" in parts:
        lines += await measure_telemetry()
    if "idle" in parts:
        lines += await measure_idle()
    return lines, panels


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
def main(parts: tuple[str, ...]) -> None:
    """Measure PARTS (all by default), print the table and update .turnpike/bench.json.

    The chart in docs/bench.svg is drawn when latency and scenarios were both measured. A missed
    target says "no" in the table and does not change the exit status.
    """
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    lines, panels = asyncio.run(measure(parts or PARTS))
    under = " ".join([*sorted(conditions), WHERE, LATENCY])
    show(lines, under)
    write_json(RESULT, lines, under, measured_at)
    if len(panels) > 1:
        CHART.write_text(chart(list(panels.items())))


if __name__ == "__main__":
    main()
