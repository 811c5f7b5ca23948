"""The figures, as a table for people and a file for machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Line:
    """One figure. `id` names it across runs, and begins with its part and a dot.

    `at_least` is whether the target is a lower bound or an upper one. `parts_us` is the share of
    each part of the shop in a sum of processor time, in microseconds.
    """

    id: str
    what: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True
    of_floor: float | None = None
    parts_us: Mapping[str, float] | None = None

    @property
    def part(self) -> str:
        return self.id.partition(".")[0]

    @property
    def ratio(self) -> float | None:
        return None if self.target is None else self.value / self.target

    @property
    def holds(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def show(lines: Sequence[Line], under: str) -> None:
    """Print the table, and beneath it the conditions of the measurement."""
    table = Table("", "value", "target", "of it", "of the floor", "holds")
    for line, after in zip(lines, [*lines[1:], None], strict=True):
        parts = ", ".join(f"{name} {used:.0f}" for name, used in (line.parts_us or {}).items())
        what = f"{line.what}\n  [dim]{parts}[/]" if parts else line.what
        target = (
            ""
            if line.target is None
            else f"{'≥' if line.at_least else '≤'} {line.target:g} {line.unit}"
        )
        of_target, of_floor = (
            "" if ratio is None else f"{ratio:.2f}" for ratio in (line.ratio, line.of_floor)
        )
        holds = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[line.holds]
        ends_part = after is not None and after.part != line.part
        row = what, f"{line.value:,.4g} {line.unit}", target, of_target, of_floor, holds
        table.add_row(*row, end_section=ends_part)
    console = Console(highlight=False, width=140)
    console.print(table)
    console.print(under, style="dim")


def write_json(path: Path, lines: Sequence[Line], under: str, measured_at: str) -> None:
    """Replace the rows of the parts that were measured; rows of other parts stay as they are.

    `runs` holds the conditions of each measurement by its `measured_at`.
    """
    old = json.loads(path.read_text()) if path.exists() else {"runs": {}, "rows": []}
    measured = {line.part for line in lines}
    rows = [row for row in old["rows"] if row["id"].partition(".")[0] not in measured]
    rows += [_row(line, measured_at) for line in lines]
    named = {row["measured_at"] for row in rows}
    runs = {
        moment: conditions
        for moment, conditions in {**old["runs"], measured_at: under}.items()
        if moment in named
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"runs": runs, "rows": rows}, indent=2) + "\n")


def _row(line: Line, measured_at: str) -> dict[str, Any]:
    at_least = None if line.target is None else line.at_least
    known = asdict(line) | {"at_least": at_least, "ratio": line.ratio, "holds": line.holds}
    return known | {"measured_at": measured_at}
