"""Runs Xray with a configuration file: python node.py PATH."""

import sys
from pathlib import Path

import xray

if __name__ == "__main__":
    path = Path(sys.argv[1])
    # Xray does not name the file when it ends with an error.
    print(f"starting with {path}", flush=True)  # noqa: T201 - a program's own output.
    xray.startFromJSON(path.read_text())
