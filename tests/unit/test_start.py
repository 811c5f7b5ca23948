"""The libraries that a service loads at its start."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("package", "needless"),
    [
        ("payments", {"aiohttp", "rich", "grpc", "requests"}),
        ("referrals", {"aiohttp", "rich", "grpc", "requests"}),
        ("vpn_provisioner", {"aiohttp", "rich", "requests"}),
        ("notifier", {"rich", "grpc", "requests"}),
        ("bot_gateway", {"rich", "grpc", "requests"}),
    ],
)
def test_a_service_imports_no_needless_library(package: str, needless: set[str]) -> None:
    """Each of these costs megabytes in every replica, and time at every restart."""
    script = f"import sys, {package}.__main__; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600
    )
    assert not needless & set(imported.stdout.split())


def test_a_deferred_library_can_be_imported_later() -> None:
    script = (
        "import shared, structlog, nats, rich, aiohttp; "
        "print(structlog.dev.rich, aiohttp.ClientSession)"
    )
    imported = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600
    )
    assert imported.stdout.split()[0] == "None"
