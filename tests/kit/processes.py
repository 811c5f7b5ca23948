"""Looking for processes that a test has started, to prove that none is left."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MARK = "MARK_OF_TEST"  # An environment variable that whatever a test starts inherits.


def runs(pid: int) -> bool:
    """Whether the process still does anything; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def living(mark: str, folder: Path) -> dict[int, str]:
    """Command lines of the processes with that mark, or at work in that folder (PostgreSQL's lose the mark)."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):  # Not a process, one that has ended, or not ours.
            marked = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes()
            if marked or (entry / "cwd").readlink().is_relative_to(folder):
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


async def comes_true(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether the condition holds at some moment of the next `timeout_s`."""
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False
