"""The house tests: rules that matter enough for a test to know them."""

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
# The rooms that touch something, by name and what; whatever module of a service is in none of them is a decision.
ROOMS = {
    "__init__": "nothing, or the order of imports",
    "__main__": "the process",
    "app": "construction",
    "settings": "the environment",
    "store": "SQL",
    "audit": "SQL",
    "subscribers": "facts",
    "answers": "questions and commands",
    "ticks": "time",
    "webhooks": "HTTP",
    "metrics": "Prometheus",
    "telegram": "Telegram",
    "panels": "nodes",
    "chats": "taps and messages",
    "lanes": "updates on lease",
    "migrations": "the schema",
    "texts": "words",
}
# What one service has and no other, with what it touches.
OTHER_ROOMS = {
    "bot_gateway/buttons": "aiogram, whose callback data buttons carry",
    "bot_gateway/introduction": "Telegram, until it knows the commands",
    "bot_gateway/lazy_aiogram": "the import system",
    "bot_gateway/pace": "buckets, and waiting for them",
    "bot_gateway/polling": "Telegram and a session lock",
    "bot_gateway/receiving": "updates on their way into the store",
    "bot_gateway/waiting": "the event loop",
    "notifier/courier": "deliveries on lease, and Telegram",
    "vpn_provisioner/conclude": "subscriptions under their lock, and the outbox",
    "vpn_provisioner/fleet": "the loops of every node",
    "vpn_provisioner/live": "one node's panel",
    "vpn_provisioner/watch": "what a node holds, against what it should",
    "vpn_provisioner/work": "jobs on lease, and a node",
}
VALUES = {f"shared.{name}" for name in ("contract", "facts", "questions", "inspection", "commands", "money", "texts")}
DECISIONS_MAY_NOT = {
    *("asyncio", "asyncpg", "random", "secrets", "logging", "structlog", "time", "os", "sys", "socket", "pathlib"),
    *("aiogram", "aiohttp", "grpc", "nats", "faststream", "opentelemetry", "prometheus_client"),
}
ASKS_THE_CLOCK_OR_CHANCE = {"now", "utcnow", "today", "uuid1", "uuid4"}


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


def decisions(package: str) -> list[Path]:
    """Every module of a service that is no door, cellar, window or fuse box."""
    return [path for path in files(package) if not set(rooms_of(package, path)) & (set(ROOMS) | set(OTHER_ROOMS))]


def rooms_of(package: str, path: Path) -> Iterator[str]:
    """The names a module may be listed by: each of its folders, its own, and its own with the service's."""
    inside = path.relative_to(PACKAGES[package]).with_suffix("")
    yield from inside.parts
    yield f"{package}/{inside}"


@pytest.mark.parametrize("package", SERVICES)
def test_decisions_touch_nothing_but_values(package: str) -> None:
    """What nobody declared to touch something has no await, clock, chance or log, and imports values only."""
    there = PACKAGES[package].parent
    deciding = {".".join(path.relative_to(there).with_suffix("").parts) for path in decisions(package)}
    # What rides in a button is a value, though its base class is a library's; so is what a window may answer.
    known = deciding | VALUES | {f"{package}.buttons", f"{package}.panels.protocol"}
    for path in decisions(package):
        where, nodes = path.relative_to(ROOT), list(ast.walk(ast.parse(path.read_text())))
        waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
        assert not any(isinstance(node, waiting) for node in nodes), f"{where} waits"
        assert not tops(path) & DECISIONS_MAY_NOT, f"{where} imports {tops(path) & DECISIONS_MAY_NOT}"
        called = {ast.unparse(node.func).split(".")[-1] for node in nodes if isinstance(node, ast.Call)}
        asked = called & (ASKS_THE_CLOCK_OR_CHANCE | {"open", "print"})
        assert not asked, f"{where} calls {asked}"
        rooms = {name for name in modules(path) if name.split(".")[0] in ("shared", package)}
        assert rooms <= known, f"{where} imports {rooms - known}, which are no values"


def modules(path: Path) -> Iterator[str]:
    """The modules that a file imports from, each as far as it is a file: `shared.db`, never `shared.db.Tx`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = "." not in node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if folder else (node.module,)


@pytest.mark.parametrize("package", SERVICES)
def test_the_passport_names_every_decision_and_nothing_else(package: str) -> None:
    passport = (PACKAGES[package].parent / "README.md").read_text()
    listed = re.search(r"^Decides in: (.+?)\n\n", passport, re.MULTILINE | re.DOTALL)
    assert listed, f"the passport of {package} names its decisions: 'Decides in: `a.py`, …'"
    there = {str(path.relative_to(PACKAGES[package])) for path in decisions(package)}
    assert set(re.findall(r"`([\w/]+\.py)`", listed.group(1))) == there


def test_every_room_that_is_listed_exists() -> None:
    """A list that outlives its rooms would hide a decision of the same name."""
    there = {name for package in SERVICES for path in files(package) for name in rooms_of(package, path)}
    assert set(ROOMS) | set(OTHER_ROOMS) <= there


def test_only_two_files_know_nats() -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files(package)
        if any(name == "nats" or name.startswith(("nats.", "faststream.nats")) for name in imports(path))
    }
    assert knowing == {"shared/shared/bus.py", "shared/shared/outbox.py"}


SQL = re.compile(r"^\s*(select|insert|update|delete|with)\b.*\b(from|into|set|select)\b", re.DOTALL)
STATEMENT = re.compile(
    r"^\s*(select\b.*\bfrom\b|insert\s+into\b|update\s+\S+\s+(\w+\s+)?set\b|delete\s+from\b|with\s+\w+\s+as\b)",
    re.DOTALL,
)
RUNS_SQL = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany", "prepare", "cursor"}


def test_sql_lives_in_constants_and_is_never_put_together() -> None:
    """An f-string with SQL is an injection that waits for its day; SQL within a function is prepared by no test."""
    for package in (*SERVICES, "shared"):
        for path in files(package):
            for line in sql_out_of_place(ast.parse(path.read_text())):
                pytest.fail(
                    f"{path.relative_to(ROOT)}:{line}: SQL stands in a constant above the function that runs it"
                )


@pytest.mark.parametrize(
    "code",
    [
        "def f(): tx.execute('vacuum')",
        "def f(): tx.fetch(f'select {x}')",
        "def f(): tx.fetchval('select ' + x)",
        "def f(): tx.execute(SQL.format(x))",
        "def f(): tx.execute(query='select 1')",
        "def f():\n  sql = 'select a from b'\n  tx.execute(sql)",
        "SQL = f'delete from {x}'",
    ],
)
def test_sql_out_of_place_is_found(code: str) -> None:
    assert list(sql_out_of_place(ast.parse(code)))


def sql_out_of_place(tree: ast.Module) -> Iterator[int]:
    """The lines of SQL that is no module-level constant, or that is put together where it is run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            if SQL.match(text):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNS_SQL:
            said = [*node.args[:1], *(word.value for word in node.keywords if word.arg in ("sql", "query"))]
            if any(not isinstance(one, ast.Name | ast.Attribute | ast.Starred) for one in said):
                yield node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            for inner in ast.walk(node):
                if not isinstance(inner, ast.Constant) or not isinstance(inner.value, str):
                    continue
                if inner.value != docstring and STATEMENT.match(inner.value):
                    yield inner.lineno


def test_settings_and_their_example_name_the_same_variables() -> None:
    named = set(re.findall(r"^#? ?((?:TURNPIKE|OTEL)_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    wanted = set()
    for package in SERVICES:
        settings = import_module(f"{package}.settings").Settings
        wanted |= {variable_of(settings, field) for field in settings.model_fields}
    assert wanted <= named, f"missing in .env.example: {wanted - named}"
    of_libraries = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}
    extra = named - wanted - {"TURNPIKE_SANDBOX_PORT", "TURNPIKE_STATE_DIR"} - of_libraries
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


ESCAPE = re.compile(r"# (ruff: )?noqa|# type: ignore")
WITH_A_REASON = re.compile(r"# (ruff: )?noqa: [A-Z0-9, ]+ - \w|# type: ignore\[[a-z,-]+\]  # \w")


def test_an_escape_from_a_rule_has_its_reason_on_the_line() -> None:
    for path in written():
        if path.suffix == ".py" and "_pb2" not in path.name:
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                assert not escapes_without_a_reason(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def escapes_without_a_reason(line: str) -> bool:
    return len(ESCAPE.findall(line)) > len(WITH_A_REASON.findall(line))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("x = 1  # noqa", True),
        ("x = 1  # noqa: S311", True),
        ("x = 1  # noqa: S311 - no secret.", False),
        ("# ruff: noqa: F401", True),
        ("x = f(1)  # type: ignore", True),
        ("x = f(1)  # type: ignore  # Any one.", True),
        ("x = f(1)  # type: ignore[arg-type,misc]", True),
        ("x = f(1)  # type: ignore[arg-type,misc]  # It checks them itself.", False),
        ("x = f(1)  # type: ignore[arg-type]  # noqa: S311 - no secret.", True),
    ],
)
def test_an_escape_without_a_reason_is_found(line: str, found: bool) -> None:
    assert escapes_without_a_reason(line) is found


THE_PROCESS_S_CLOCK = re.compile(r"\b(datetime\.(now|utcnow|today)|date\.today|time\.time(_ns)?)\b")


def test_no_service_asks_the_process_for_the_time() -> None:
    """W-16, R-21: a process whose clock is an hour off sells, ends and expires as its database says."""
    for package in (*SERVICES, "shared"):
        for path in files(package):
            found = THE_PROCESS_S_CLOCK.search(path.read_text())
            assert not found, f"{path.relative_to(ROOT)}: {found.group(0)}"
