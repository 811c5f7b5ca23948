"""Runs Xray with the configuration at a path: python node.py PATH."""

import sys
from pathlib import Path

import xray

if __name__ == "__main__":
    path = Path(sys.argv[1])
    print(f"starting with {path}", flush=True)  # noqa: T201 - Xray ends without naming the file that it cannot use.
    xray.startFromJSON(path.read_text())
