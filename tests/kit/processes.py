"""Finds processes that a test has started, to prove that none is left."""

from contextlib import suppress
from pathlib import Path

MARK = "MARK_OF_TEST"  # An environment variable that all processes of a test inherit.


def runs(pid: int) -> bool:
    """Whether the process runs. A zombie does not."""
    fields = _fields(pid)
    return bool(fields) and fields[0] not in "ZX"


def parent_of(pid: int) -> int | None:
    """None when the process has ended."""
    fields = _fields(pid)
    return int(fields[1]) if fields else None


def _fields(pid: int) -> list[str]:
    """State, parent and more of a process. Empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def living(mark: str, folder: Path) -> dict[int, str]:
    """Command lines of the processes with that mark, or with a working folder in that folder.

    PostgreSQL's processes lose the mark.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):  # Not a process, one that has ended, or not ours.
            marked = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes()
            if marked or (entry / "cwd").readlink().is_relative_to(folder):
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found
