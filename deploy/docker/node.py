"""Runs Xray with the configuration at a path: python node.py PATH."""

import sys
from pathlib import Path

import xray

if __name__ == "__main__":
    xray.startFromJSON(Path(sys.argv[1]).read_text())
