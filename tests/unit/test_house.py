"""The six house tests: rules that matter enough for a test to know them."""

import ast
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from shared.settings import variable_of
from shared.streams import LISTENING

ROOT = Path(__file__).parents[2]
SERVICES = {
    "bot_gateway": ROOT / "services/bot-gateway/bot_gateway",
    "payments": ROOT / "services/payments/payments",
    "referrals": ROOT / "services/referrals/referrals",
    "vpn_provisioner": ROOT / "services/vpn-provisioner/vpn_provisioner",
    "notifier": ROOT / "services/notifier/notifier",
}
PACKAGES = SERVICES | {
    "shared": ROOT / "shared/shared",
    "turnpike_cli": ROOT / "deploy/cli/turnpike_cli",
    "turnpike_local": ROOT / "deploy/local/turnpike_local",
}
DECISIONS_MAY_NOT = ("asyncio", "asyncpg", "random", "secrets", "logging", "structlog", "time", "aiogram", "aiohttp")
DOORS_AND_CELLARS = ("store", "subscribers", "answers", "ticks", "webhooks", "app", "settings", "audit", "__main__")


def files(package: str) -> Iterator[Path]:
    for path in sorted(PACKAGES[package].rglob("*.py")):
        if "_pb2" not in path.name:
            yield path


def imports(path: Path) -> set[str]:
    """Every module that a file imports, whole: `shared.db`, `payments.ledger`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_services_import_shared_and_never_each_other(package: str) -> None:
    allowed = {"turnpike_local": {"turnpike_cli", "turnpike_local"}}.get(package, {package}) | {"shared", package}
    for path in files(package):
        strangers = tops(path) & set(PACKAGES) - allowed
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


@pytest.mark.parametrize("package", SERVICES)
def test_decisions_touch_nothing_but_values(package: str) -> None:
    """A module that is no door, cellar, window or fuse box has no await, clock, random or log."""
    for path in decisions(package):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in ast.walk(tree)), path
        assert not tops(path) & set(DECISIONS_MAY_NOT), path
        clocks = {name for name in imports(path) if name in ("shared.clock", "shared.db", "shared.outbox")}
        assert not clocks, f"{path} imports {clocks}"


def decisions(package: str) -> list[Path]:
    """The files that a service lists as its decisions, by its passport: `Decides in: a.py, b.py`."""
    passport = (PACKAGES[package].parent / "README.md").read_text()
    listed = re.search(r"^Decides in: (.+)$", passport, re.MULTILINE)
    assert listed, f"the passport of {package} names its decisions: 'Decides in: `a.py`, …'"
    names = re.findall(r"`([\w/]+\.py)`", listed.group(1))
    assert names
    return [PACKAGES[package] / name for name in names]


def test_only_two_files_know_nats() -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files(package)
        if any(name == "nats" or name.startswith(("nats.", "faststream.nats")) for name in imports(path))
    }
    assert knowing == {"shared/shared/bus.py", "shared/shared/outbox.py"}


SQL = re.compile(r"^\s*(select|insert|update|delete|with)\b.*\b(from|into|set|select)\b", re.DOTALL)


def test_sql_lives_in_constants_and_is_never_put_together() -> None:
    """An f-string with SQL is an injection that waits for its day."""
    for package in (*SERVICES, "shared"):
        for path in files(package):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
                    assert not SQL.match(text), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_settings_and_their_example_name_the_same_variables() -> None:
    named = set(re.findall(r"^#? ?(TURNPIKE_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    wanted = set()
    for package in SERVICES:
        settings = import_module(f"{package}.settings").Settings
        wanted |= {variable_of(settings, field) for field in settings.model_fields}
    assert wanted <= named, f"missing in .env.example: {wanted - named}"
    extra = named - wanted - {"TURNPIKE_SANDBOX_PORT", "TURNPIKE_STATE_DIR"}
    assert {name for name in extra if not name.endswith("_OWNER_DSN")} == set()


def test_handler_names_are_literals_in_the_committed_list() -> None:
    """A renamed handler would hear three days again: the list only grows, and every name is wired once."""
    committed = json.loads((ROOT / "docs/handlers.json").read_text())
    declared = {entry.handler: entry.since for entry in LISTENING}
    assert committed == declared, "docs/handlers.json lists every handler with the day it was added"
    wired = [
        str(node.args[0].value)
        for package in SERVICES
        for node in ast.walk(ast.parse((PACKAGES[package] / "app.py").read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "hears"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert sorted(wired) == sorted(declared)


def test_the_project_names_no_machine_and_no_index() -> None:
    """Paths of one machine and addresses of package indexes have no place in a public repository."""
    suspicious = re.compile(
        r"(?<![\w./-])/(?:work|root|home)/|file://|simple/?\s*$|--(?:extra-)?index-url", re.MULTILINE
    )
    for path in written():
        found = suspicious.search(path.read_text(errors="replace"))
        assert not found, f"{path.relative_to(ROOT)}: {found.group(0)!r}"


def written() -> Iterator[Path]:
    """Every file that people wrote: none that a tool left behind."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in (".ci", ".env.example", ".gitignore") for part in parts)
        made = "__pycache__" in parts or path.suffix in (".png", ".pyc")
        if path.is_file() and not hidden and not made and path != Path(__file__):
            yield path
