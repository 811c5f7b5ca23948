"""The workers of a shop as lines on a screen: those that worked, and by name those that rest."""

from collections.abc import Iterator, Mapping, Sequence

import click

from shared.contracts.operations import LastIteration, ReplicaStatus, WorkerStatus
from shared.contracts.owners import SERVICE_NAMES
from turnpike_cli.formatting import printable, table, wrapped

HEAD = ("SERVICE", "WORKER", "TURNED", "FAILED", "LAST WORK")


def worker_lines(replicas: Mapping[str, Sequence[ReplicaStatus]]) -> Iterator[str]:
    """A line for each worker of each replica that worked, failed or is stuck.

    The others have found nothing since their start, and turn in time: their names suffice.
    """
    rows, wrong, idle, unknown = [], [], [], []
    for owner, answered in replicas.items():
        for number, replica in enumerate(answered, start=1):
            several = f" {number}/{len(answered)}" if len(answered) > 1 else ""
            service = SERVICE_NAMES[owner] + several
            if replica.workers is None:
                unknown.append(f"{service} is of a release that does not tell its workers.")
                continue
            shown = [one for one in replica.workers if one.stuck or one.failures or one.last]
            rows += [(service, *_cells(one)) for one in shown]
            wrong += [one.stuck for one in shown]
            resting = [one.loop for one in replica.workers if one not in shown]
            if resting:
                idle.append(f"{service} found no work yet: {', '.join(resting)}")
    yield from _marked(rows, wrong)
    for sentence in (*idle, *unknown):
        yield from wrapped("", printable(sentence))


def _marked(rows: Sequence[tuple[str, ...]], wrong: Sequence[bool]) -> Iterator[str]:
    """Lines that wrapped have the colour of their first one."""
    if not rows:
        return
    head, *lines = table(HEAD, rows)
    yield head
    firsts = iter(wrong)
    is_wrong = False
    for line in lines:
        if not line.startswith(" "):
            is_wrong = next(firsts)
        yield click.style(line, fg="red") if is_wrong else line


def _cells(one: WorkerStatus) -> tuple[str, ...]:
    name = one.loop if one.copies == 1 else f"{one.loop} ({one.copies})"
    stuck = f"has not turned for {span(one.turned_s)}; " if one.stuck else ""
    last = "none" if one.last is None else _work(one.last)
    return (name, f"{span(one.turned_s)} ago", str(one.failures), stuck + last)


def _work(last: LastIteration) -> str:
    """`12 s ago: 3 items in 0.4 s, opened 2, refused 1`."""
    items = "1 item" if last.items == 1 else f"{last.items} items"
    result = "" if last.result == "done" else f", {last.result.replace('_', ' ')}"
    outcomes = "".join(f", {name} {count}" for name, count in last.outcomes.items())
    return f"{span(last.ended_s)} ago: {items} in {last.took_s:.3g} s{result}{outcomes}"


def span(seconds: float) -> str:
    """`12 s`, `3 min`, `5 h`, `2 d`: the largest unit of which there are two, rounded down."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s:.0f} {unit}"
    return f"{seconds:.0f} s"
