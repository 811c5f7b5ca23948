"""Prints the entries of requirements.lock that some packages need: locked.py LOCK NAME...

The lock notes under each package which other packages need it (`# via`), so the entries are found
without a package index. They are printed with their hashes. A dependency that is missing here is
found by `pip check`, which the caller runs after the installation.
"""

import re
import sys
from pathlib import Path


def needed(lock: str, names: list[str]) -> str:
    """Return the entries of `lock` for `names` and for all their dependencies.

    A name without an entry, such as a package of this repository, counts through its dependencies.
    Raises ValueError if nothing is found, or if a package is locked more than once.
    """
    entries = {entry_name(entry): entry for entry in re.split(r"\n(?=\w)", lock.strip())}
    if len(entries) != len(re.findall(r"(?m)^\w", lock)):
        raise ValueError("a package is locked more than once, for different platforms")
    needed_by = {
        name: set(re.findall(r"(?m)^    #(?: via|  ) ([\w.-]+)", entry))
        for name, entry in entries.items()
    }
    found: set[str] = set()
    added = {normalized(name) for name in names}
    while added:
        found |= added
        added = {name for name, others in needed_by.items() if others & found} - found
    wanted = [entries[name] for name in sorted(found & entries.keys())]
    if not wanted:
        raise ValueError(f"the lock has nothing for {', '.join(names)}")
    return "\n".join(wanted)


def entry_name(entry: str) -> str:
    return normalized(entry.split("==")[0])


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.stdout.write(needed(Path(sys.argv[1]).read_text(), sys.argv[2:]) + "\n")
