"""Tells the part of requirements.lock that some packages need, with its hashes: locked.py requirements.lock NAME...

The lock notes under each package which others need it (`# via`), so the part is found without asking an index. Whoever
installs it runs `pip check`, which would miss what this misses.
"""

import re
import sys
from pathlib import Path


def needed(lock: str, names: list[str]) -> str:
    """The entries of `lock` for `names`, where they have one, and for all that they need."""
    entries = {named(entry): entry for entry in re.split(r"\n(?=\w)", lock.strip())}
    if len(entries) != len(re.findall(r"(?m)^\w", lock)):
        raise ValueError("a package is locked twice, for different machines: one has to be chosen here")
    needed_by = {name: set(re.findall(r"(?m)^    #(?: via|  ) ([\w.-]+)", entry)) for name, entry in entries.items()}
    found: set[str] = set()
    more = {normal(name) for name in names}
    while more:
        found |= more
        more = {name for name, others in needed_by.items() if others & found} - found
    wanted = [entries[name] for name in sorted(found & entries.keys())]
    if not wanted:
        raise ValueError(f"the lock has nothing for {', '.join(names)}")
    return "\n".join(wanted)


def named(entry: str) -> str:
    return normal(entry.split("==")[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.stdout.write(needed(Path(sys.argv[1]).read_text(), sys.argv[2:]) + "\n")
