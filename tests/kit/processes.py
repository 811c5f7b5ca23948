"""Finds processes that a test has started, to prove that none is left."""

from contextlib import suppress
from pathlib import Path

MARK = "MARK_OF_TEST"  # An environment variable that all processes of a test inherit.


def runs(pid: int) -> bool:
    """Whether the process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


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
