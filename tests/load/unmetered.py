"""Run a service whose metrics count nothing: `python -m tests.load.unmetered payments`."""

import runpy
import sys
from collections.abc import Callable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram


def _nothing(*_: object) -> None:
    """Count nothing."""


def _itself(metric: Any, *_: object) -> Any:
    return metric


SILENT: dict[str, Callable[..., Any]] = {"labels": _itself}
SILENT |= dict.fromkeys(("inc", "dec", "set", "observe"), _nothing)

if __name__ == "__main__":
    for kind in (Counter, Gauge, Histogram):
        for name, does in SILENT.items():
            setattr(kind, name, does)
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
