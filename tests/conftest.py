"""Fixtures that every folder of tests may ask for, and how properties are searched."""

import os

import pytest
from hypothesis import settings

pytest_plugins = ["tests.kit.servers", "tests.kit.payments", "tests.kit.notifier"]

# The same examples in every run; `HYPOTHESIS_PROFILE=free` searches anew, by hand. No wall clock decides.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("long", derandomize=True, deadline=None)  # More examples, where a test has such.
settings.register_profile("free", deadline=None)  # As many as the long one.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a property's search came to, also from another process."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "said":
                terminalreporter.write_line(str(value))
