"""Fixtures for all folders of tests, and the profiles of the property tests."""

import gc
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.kit.servers",
    "tests.kit.messaging",
    "tests.kit.payments",
    "tests.kit.notifier",
    "tests.kit.access",
    "tests.kit.anti_entropy",
]

# Every run has the same examples, and no wall clock decides: neither how long an example takes, nor
# how long drawing it takes. `HYPOTHESIS_PROFILE=free` searches for new examples, by hand.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", untimed, derandomize=True)
# More examples, in tests that have a longer form.
settings.register_profile("long", untimed, derandomize=True)
settings.register_profile("free", untimed)  # As many examples as the long one.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


MEMORY_DISK = Path("/dev/shm")
NEEDED_BYTES = 8 * 1024**3


def pytest_configure() -> None:
    """Keep the servers' files in memory: a test waits for the disk longer than for anything else.

    Each module makes and drops whole databases. Containers often have a small memory disk, or one
    that runs no programs: they use the ordinary folder.
    """
    if "TMPDIR" not in os.environ and _takes_servers(MEMORY_DISK):
        os.environ["TMPDIR"] = str(MEMORY_DISK)


LONGEST = (
    "test_money_machine.py",
    "test_moved_clock.py",
    "test_local_up.py",
    "test_local_install.py",
    "test_payments_audit.py",
    "test_odd_input.py",
    "test_topup.py",
    "test_operators.py",
    "test_payments_crowded.py",
    "test_demo.py",
    "test_scenario.py",
)
"""Each of these files takes half a minute or more. The last ones of a run keep one core idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files are played first, so that no worker is alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """All tests and libraries stay until the end: the garbage collector need not visit them."""
    gc.collect()
    gc.freeze()


def _takes_servers(folder: Path) -> bool:
    return (
        os.access(folder, os.W_OK)
        and not os.statvfs(folder).f_flag & os.ST_NOEXEC
        and shutil.disk_usage(folder).free >= NEEDED_BYTES
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the statistics of property tests, also of those in another process."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "note":
                terminalreporter.write_line(str(value))
