"""`make chaos`: each row breaks the real shop under load, and ends with one line. Status 1 when one is off."""

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

from tests.chaos import crashes, crowds, disorder, kills, letters, links, streams
from tests.chaos.load import Paid, Town
from tests.chaos.shop import Shop
from tests.chaos.trial import Ended, Row, Trial, play

SEED = 20_261_125
PEOPLE, PEOPLE_SHORT = 1_500, 320
ALL_WITHIN_MIN = 45.0

ROWS = (
    Row("1-6", "a process dies at a step", partial(crashes.die_at_each_step, rows="123456"), short=True, long=False),
    *(
        Row(
            number,
            f"a process dies at {' or '.join(steps)}",
            partial(crashes.die_at_each_step, rows=number),
            short=False,
        )
        for number, steps in crashes.STEPS_OF_ROW.items()
    ),
    Row("7", "a random process dies", kills.random_kills, short=True),
    Row("9", "the broker dies", kills.broker_killed, short=True),
    Row("10", "the broker's disk is lost", streams.disk_wiped, short=True),
    Row("11", "the broker's disk is old, durables are gone", streams.disk_of_before, short=True),
    Row("13", "PostgreSQL restarts", kills.database_killed, short=True),
    Row("14", "connections are cut", kills.connections_cut, short=False),
    Row("17", "all comes ten times", streams.all_ten_times, short=True),
    Row("18", "all comes in disorder", disorder.all_in_disorder, short=True),
    Row("20", "links are cut", links.links_cut, short=True),
    Row("34", "three of each", kills.three_replicas, short=False),
    Row("35", "many at once", crowds.many_at_once, short=True, rest_within_s=180),
    Row("23", "one poison", letters.one_poison, short=True),
    Row("24", "malformed messages", letters.malformed, short=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these rows, by their numbers")
    parser.add_argument("--short", action="store_true", help="fewer payments, the rows of CI, no strict figures")
    parser.add_argument("--verbose", action="store_true", help="say on the way what happens")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # The lines speak.
    unknown = set(options.rows) - {row.number for row in ROWS}
    if unknown:
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    wanted = [
        row
        for row in ROWS
        if row.number in options.rows or (not options.rows and (row.short if options.short else row.long))
    ]
    began = time.monotonic()
    ended = asyncio.run(_play_all(wanted, options.seed, short=options.short, verbose=options.verbose))
    off = [one.row.number for one in ended if one.off]
    took_min = (time.monotonic() - began) / 60
    print(f"{len(ended)} rows in {took_min:.1f} min, seed {options.seed}: ", end="")
    print(f"off are {', '.join(off)}" if off else "nothing lost, nothing doubled, every invariant holds")
    too_long = not options.rows and took_min > ALL_WITHIN_MIN
    if too_long:
        print(f"All together may take {ALL_WITHIN_MIN:g} min.")
    return 1 if off or too_long else 0


async def _play_all(rows: list[Row], seed: int, *, short: bool, verbose: bool) -> list[Ended]:
    """Rows share a shop until one of them is off."""
    ended: list[Ended] = []
    while len(ended) < len(rows):
        with _throw_away_folder() as folder:
            async with Shop(folder) as shop:
                town = Town(shop, Random(seed))
                await town.grow(PEOPLE_SHORT if short else PEOPLE)
                said_before, expected, off = 0, Counter[tuple[str, str]](), False
                paid_before: list[Paid] = []
                while not off and len(ended) < len(rows):
                    row = rows[len(ended)]
                    trial = Trial(shop, town, Random(f"{seed} {row.number}"), short=short, verbose=verbose)
                    trial.expected = expected
                    town.random = Random(f"{seed} {row.number} town")
                    one = await play(row, trial, paid_before, said_before)
                    said_before += one.count.said_again
                    paid_before += trial.paid
                    _say(one)
                    ended.append(one)
                    off = bool(one.off)
    return ended


def _say(ended: Ended) -> None:
    print(ended.line, flush=True)
    for reason in ended.off:
        print(f"        {reason}", flush=True)


@contextmanager
def _throw_away_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="turnpike-chaos-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user, who has to reach its own folder.
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
