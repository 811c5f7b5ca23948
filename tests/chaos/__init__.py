"""The chaos matrix: money on its way while something dies, then the count. `python -m tests.chaos --help`."""
