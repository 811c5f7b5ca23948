"""`make chaos`: each row breaks the real shop under load and prints one line.

The exit status is 1 when a row failed.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import structlog

from tests.chaos import (
    contention,
    crashes,
    debits,
    disorder,
    dropped,
    forged,
    kills,
    links,
    malformed,
    outages,
    refusals,
    returned,
    rush,
    streams,
)
from tests.chaos.load import Load, PaidPurchase
from tests.chaos.points import STEPS_OF_ROW
from tests.chaos.shop import Shop
from tests.chaos.trial import Row, RowResult, Trial, play

SEED = 20_261_125
PEOPLE, PEOPLE_SHORT = 1_500, 320
ALL_WITHIN_MIN = 45.0

ROWS = (
    Row(
        "1-6",
        "a process dies at a failpoint",
        partial(crashes.die_at_each_step, rows="123456"),
        short=True,
        long=False,
    ),
    *(
        Row(
            number,
            f"a process dies at {' or '.join(steps)}",
            partial(crashes.die_at_each_step, rows=number),
            short=False,
        )
        for number, steps in STEPS_OF_ROW.items()
    ),
    Row("7", "a random process dies", kills.random_kills, short=True, found_by="listing"),
    Row("9", "the broker dies", kills.broker_killed, short=True, found_by="listing"),
    Row("10", "the broker loses its disk", streams.disk_wiped, short=True),
    Row("11", "the broker gets an old disk, durables are deleted", streams.old_disk, short=True),
    Row("13", "PostgreSQL restarts", kills.database_killed, short=True),
    Row("14", "connections are terminated", kills.connections_terminated, short=False),
    Row("17", "every message comes ten times", streams.all_ten_times, short=True),
    Row("18", "messages come in disorder", disorder.all_in_disorder, short=True),
    Row("19", "refunds come before their payments", returned.refunds_first, short=True),
    Row("20", "links are cut", links.links_cut, short=True, found_by="listing"),
    Row("25", "forged notices", forged.forged_notices, short=True),
    Row("27", "answers of providers are lost", outages.answers_lost, short=True),
    Row("28", "Telegram drops a day's updates", dropped.updates_dropped, short=True),
    Row("32", "refunds twice, and beside purchases", returned.refunds_twice, short=True),
    Row("34", "three replicas of each service", kills.three_replicas, short=False),
    Row("35", "many at once", contention.many_at_once, short=True, quiescent_within_s=180),
    Row("36", "many debits of one balance", debits.debits_at_once, short=True),
    Row("38", "a person with many orders", contention.many_orders, short=True),
    Row("39", "many pay at once on a busy machine", rush.rush, short=True),
    Row("23", "one poison message", malformed.one_poison_message, short=True),
    Row("40", "NATS refuses its password", refusals.password_rotated, short=True),
    Row("41", "the database is read-only", refusals.database_read_only, short=True),
    Row(
        "42",
        "the clock steps back an hour",
        refusals.clock_steps_back,
        short=True,
        quiescent_within_s=60,
    ),
    Row("24", "malformed messages", malformed.malformed_messages, short=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these rows, by their numbers")
    parser.add_argument(
        "--short", action="store_true", help="the form of CI: fewer payments, no strict figures"
    )
    parser.add_argument("--verbose", action="store_true", help="print progress on the way")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    # The lines of the rows are the output.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    unknown = set(options.rows) - {row.number for row in ROWS}
    if unknown:
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    chosen = [
        row
        for row in ROWS
        if row.number in options.rows
        or (not options.rows and (row.short if options.short else row.long))
    ]
    began = time.monotonic()
    results = asyncio.run(
        _play_all(chosen, options.seed, short=options.short, verbose=options.verbose)
    )
    failed = [result.row.number for result in results if result.failures]
    took_min = (time.monotonic() - began) / 60
    print(f"{len(results)} rows in {took_min:.1f} min, seed {options.seed}: ", end="")
    print(
        f"failed: {', '.join(failed)}"
        if failed
        else "nothing lost, nothing doubled, every invariant holds"
    )
    too_long = not options.rows and took_min > ALL_WITHIN_MIN
    if too_long:
        print(f"All rows together may take {ALL_WITHIN_MIN:g} min.")
    return 1 if failed or too_long else 0


async def _play_all(rows: list[Row], seed: int, *, short: bool, verbose: bool) -> list[RowResult]:
    """Rows share a shop until one of them fails."""
    results: list[RowResult] = []
    while len(results) < len(rows):
        with _temporary_folder() as folder:
            async with Shop(folder) as shop:
                load = Load(shop, Random(seed))
                await load.add_people(PEOPLE_SHORT if short else PEOPLE)
                sent_again_before, failed = 0, False
                expected_violations = Counter[tuple[str, str]]()
                paid_before: list[PaidPurchase] = []
                while not failed and len(results) < len(rows):
                    row = rows[len(results)]
                    trial = Trial(
                        shop, load, Random(f"{seed} {row.number}"), short=short, verbose=verbose
                    )
                    trial.expected_violations = expected_violations
                    load.random = Random(f"{seed} {row.number} load")
                    result = await play(row, trial, paid_before, sent_again_before)
                    sent_again_before += result.count.sent_again
                    paid_before += trial.paid
                    _print(result)
                    results.append(result)
                    failed = bool(result.failures)
    return results


def _print(result: RowResult) -> None:
    print(result.line, flush=True)
    for failure in result.failures:
        print(f"        {failure}", flush=True)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="turnpike-chaos-") as folder:
        # PostgreSQL may run as another user and has to reach its own folder.
        Path(folder).chmod(0o755)
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
