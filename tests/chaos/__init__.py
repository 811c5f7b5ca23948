"""The chaos matrix: break the shop under load, then count. See `python -m tests.chaos --help`."""
