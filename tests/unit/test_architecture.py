"""The architecture: import direction, purity by path, where SQL and NATS may be, and file sizes."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from shared.contracts.streams import SUBSCRIPTIONS
from shared.platform.settings import variable_of
from tests.kit.tree import ROOT, texts

THE_PATTERN = {"tests/unit/test_architecture.py", "tests/unit/test_repository.py"}
"""Files that hold what these tests search for."""
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
# From the lowest package of `shared` to the highest: each imports itself and lower ones only.
SHARED = ("contracts", "platform", "messaging", "operations")

# `domain/` holds values and decisions. It may import these modules of `shared`, and itself.
VALUES = ("shared.contracts.", "shared.platform.backoff", "shared.platform.texts")
EFFECTS = {
    *("asyncio", "asyncpg", "random", "secrets", "logging", "structlog", "time", "os", "sys"),
    *("socket", "pathlib", "aiogram", "aiohttp", "grpc", "nats", "faststream", "opentelemetry"),
    "prometheus_client",
}
CLOCK_OR_CHANCE = {"now", "utcnow", "today", "uuid1", "uuid4"}


def files(package: str) -> Iterator[Path]:
    for path in sorted(PACKAGES[package].rglob("*.py")):
        if "_pb2" not in path.name:
            yield path


def imports(path: Path) -> set[str]:
    """The modules that a file imports from, each as far as it is a file: `shared.platform.db`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{one.name}" for one in node.names if is_module(node, one)}
    return found


def is_module(node: ast.ImportFrom, alias: ast.alias) -> bool:
    package, *inside = (node.module or "").split(".")
    if package not in PACKAGES:
        return False
    folder = PACKAGES[package].joinpath(*inside)
    return (folder / f"{alias.name}.py").exists() or (folder / alias.name).is_dir()


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def name_of(package: str, path: Path) -> str:
    return ".".join(path.relative_to(PACKAGES[package].parent).with_suffix("").parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_services_never_import_each_other(package: str) -> None:
    allowed = {"turnpike_local": {"turnpike_cli", "turnpike_local"}}.get(package, {package})
    for path in files(package):
        others = tops(path) & set(PACKAGES) - allowed - {"shared", package}
        assert not others, f"{path.relative_to(ROOT)} imports {others}"


def test_shared_packages_import_downwards_only() -> None:
    for path in files("shared"):
        inside = path.relative_to(PACKAGES["shared"]).parts
        if inside[0] not in SHARED:
            continue
        lower = SHARED[: SHARED.index(inside[0]) + 1]
        reached = {one.split(".")[1] for one in imports(path) if one.startswith("shared.")}
        assert reached <= set(lower), f"{path.relative_to(ROOT)} imports {reached - set(lower)}"


def test_shared_modules_import_in_no_circle() -> None:
    graph = {
        name_of("shared", path): {one for one in imports(path) if one.startswith("shared.")}
        for path in files("shared")
        if path.name != "__init__.py"
    }
    left = {name: reached & graph.keys() for name, reached in graph.items()}
    while leaves := [name for name, reached in left.items() if not reached & left.keys()]:
        for name in leaves:
            del left[name]
    assert not left, f"these import each other: {sorted(left)}"


def test_writing_an_event_imports_no_nats() -> None:
    program = "import sys, shared.messaging.outbox; sys.exit('nats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_only_messaging_imports_nats() -> None:
    importing = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files(package)
        if any(
            one == "nats" or one.startswith(("nats.", "faststream.nats")) for one in imports(path)
        )
    }
    assert importing == {"shared/shared/messaging/nats.py"}


def test_only_one_file_speaks_the_jetstream_api() -> None:
    speaking = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files(package)
        if "$JS.API" in path.read_text()
    }
    assert speaking == {"shared/shared/messaging/jetstream.py"}


@pytest.mark.parametrize("package", SERVICES)
def test_domain_modules_are_pure(package: str) -> None:
    """The path is the rule: a module of `domain/` has no await, clock, chance, log or SQL."""
    modules = sorted((PACKAGES[package] / "domain").rglob("*.py"))
    assert modules, f"{package} has no domain"
    for path in modules:
        where, nodes = path.relative_to(ROOT), list(ast.walk(ast.parse(path.read_text())))
        waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
        assert not any(isinstance(node, waiting) for node in nodes), f"{where} waits"
        assert not tops(path) & EFFECTS, f"{where} imports {tops(path) & EFFECTS}"
        calls = {ast.unparse(one.func).split(".")[-1] for one in nodes if isinstance(one, ast.Call)}
        asked = calls & (CLOCK_OR_CHANCE | {"open", "print"})
        assert not asked, f"{where} calls {asked}"
        for one in imports(path):
            if one.split(".")[0] in PACKAGES:
                values = (*VALUES, f"{package}.domain")
                assert f"{one}.".startswith(tuple(f"{name.rstrip('.')}." for name in values)) or (
                    one == package
                ), f"{where} imports {one}, which holds more than values"


@pytest.mark.parametrize("package", SERVICES)
def test_a_store_never_imports_a_worker(package: str) -> None:
    """A store runs SQL: it knows no entry point, no worker and no client of an outside API."""
    above = {"subscribers", "commands", "queries", "workers", "ticks", "webhooks", "chats", "app"}
    above |= {"panels", "providers", "telegram"}
    for path in sorted((PACKAGES[package] / "store").rglob("*.py")):
        reached = {one for one in imports(path) if one.startswith(f"{package}.")}
        wrong = {one for one in reached if one.split(".")[1] in above}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


SQL = re.compile(r"^\s*(select|insert|update|delete|with)\b.*\b(from|into|set|select)\b", re.DOTALL)
STATEMENT = re.compile(
    r"^\s*(select\b.*\bfrom\b|insert\s+into\b|update\s+\S+\s+(\w+\s+)?set\b"
    r"|delete\s+from\b|with\s+\w+\s+as\b)",
    re.DOTALL,
)
RUN_SQL = {
    *("execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany", "prepare"),
    "cursor",
}


def test_sql_is_a_constant_above_its_function() -> None:
    """An f-string with SQL is an injection, and no test can prepare SQL inside a function."""
    for package in (*SERVICES, "shared"):
        for path in files(package):
            for line in sql_out_of_place(ast.parse(path.read_text())):
                pytest.fail(f"{path.relative_to(ROOT)}:{line}: SQL is not a constant of the module")


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
    """The lines of SQL that is no constant of the module, or that is composed where it is run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(one.value) for one in node.values if isinstance(one, ast.Constant))
            if SQL.match(text):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in RUN_SQL:
                named = [one.value for one in node.keywords if one.arg in ("sql", "query")]
                if any(not is_reference(one) for one in [*node.args[:1], *named]):
                    yield node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            for inner in ast.walk(node):
                if not isinstance(inner, ast.Constant) or not isinstance(inner.value, str):
                    continue
                if inner.value != docstring and STATEMENT.match(inner.value):
                    yield inner.lineno


def is_reference(argument: ast.expr) -> bool:
    return isinstance(argument, ast.Name | ast.Attribute | ast.Starred)


@pytest.mark.parametrize("package", SERVICES)
def test_sql_is_only_in_stores_and_audits(package: str) -> None:
    for path in files(package):
        inside = path.relative_to(PACKAGES[package]).parts
        if inside[0] in ("store", "audit.py"):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                value = node.value.value
                is_sql = isinstance(value, str) and STATEMENT.match(value)
                assert not is_sql, f"{path.relative_to(ROOT)}:{node.lineno}: SQL outside a store"


def test_settings_and_their_example_agree() -> None:
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#? ?((?:TURNPIKE|OTEL)_\w+)=", example, re.MULTILINE))
    wanted = set()
    for package in SERVICES:
        settings = import_module(f"{package}.settings").Settings
        wanted |= {variable_of(settings, field) for field in settings.model_fields}
    assert wanted <= named, f"missing in .env.example: {wanted - named}"
    of_libraries = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}
    of_commands = {"TURNPIKE_SANDBOX_PORT", "TURNPIKE_STATE_DIR", "TURNPIKE_OPERATOR"}
    extra = named - wanted - of_commands - of_libraries
    assert {name for name in extra if not name.endswith("_OWNER_DSN")} == set()


def test_handler_names_are_committed() -> None:
    """The list only grows: a renamed handler would receive three days again."""
    committed = json.loads((ROOT / "docs/handlers.json").read_text())
    declared = {entry.handler: entry.since for entry in SUBSCRIPTIONS}
    assert committed == declared, "docs/handlers.json lists every handler and its first day"
    wired = [
        str(node.args[0].value)
        for package in SERVICES
        for node in ast.walk(ast.parse((PACKAGES[package] / "app.py").read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "subscribes"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert sorted(wired) == sorted(declared)


def test_the_project_names_no_machine_or_index() -> None:
    """A public repository holds no path of a machine and no address of a package index."""
    suspicious = re.compile(
        r"(?<![\w./-])/(?:work|root|home)/|file://|simple/?\s*$|--(?:extra-)?index-url",
        re.MULTILINE,
    )
    for name, text in texts().items():
        found = suspicious.search(text)
        assert not found or name in THE_PATTERN, f"{name}: {found.group(0)!r}"


ESCAPE = re.compile(r"# (ruff: )?noqa|# type: ignore")
WITH_A_REASON = re.compile(r"# (ruff: )?noqa: [A-Z0-9, ]+ - \w|# type: ignore\[[a-z,-]+\]  # \w")


def test_an_escape_has_its_reason_on_the_line() -> None:
    for name, text in texts().items():
        if name.endswith(".py") and "_pb2" not in name and name not in THE_PATTERN:
            for number, line in enumerate(text.splitlines(), start=1):
                assert not escapes_without_a_reason(line), f"{name}:{number}: {line.strip()}"


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
def test_an_escape_without_a_reason_is_found(line: str, *, found: bool) -> None:
    assert escapes_without_a_reason(line) is found


PROCESS_CLOCK = re.compile(r"\b(datetime\.(now|utcnow|today)|date\.today|time\.time(_ns)?)\b")


def test_services_take_time_from_the_database() -> None:
    """W-16, R-21: a process with a wrong clock sells, ends and expires as its database says."""
    for package in (*SERVICES, "shared"):
        for path in files(package):
            found = PROCESS_CLOCK.search(path.read_text())
            assert not found, f"{path.relative_to(ROOT)}: {found.group(0)}"


DATABASE_CLOCK = re.compile(
    r"\b(now|(clock|statement|transaction)_timestamp|timeofday)\(\)"
    r"|\b(current_(date|time|timestamp)|localtime(stamp)?)\b",
    re.IGNORECASE,
)
THE_TIME_ITSELF = {
    "shared/shared/migrations/0001_shared.sql": 2,  # The two functions of the shop's time.
    "shared/shared/platform/migrate.py": 1,  # The table of migrations is older than they are.
    "shared/shared/platform/waits.py": 1,  # The server's own clock is watched for a step back.
}


def test_sql_asks_for_the_time_of_the_shop() -> None:
    """W-79: a clock that a sandbox moves is moved for every statement, or for none."""
    found: dict[str, int] = {}
    for package in (*SERVICES, "shared"):
        for path in sorted(PACKAGES[package].rglob("*.*")):
            if times := sum(len(DATABASE_CLOCK.findall(sql)) for sql in sql_texts(path)):
                found[str(path.relative_to(ROOT))] = times
    assert found == THE_TIME_ITSELF


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select now()", True),
        ("default pg_catalog.now()", True),
        ("at < CURRENT_TIMESTAMP", True),
        ("localtimestamp - at", True),
        ("clock_timestamp()", True),
        ("select shop_now() - shop_clock()", False),
        ("select tokens_now(a, b, c, d)", False),
    ],
)
def test_bare_time_in_sql_is_found(sql: str, *, found: bool) -> None:
    assert bool(DATABASE_CLOCK.search(sql)) is found


def sql_texts(path: Path) -> Iterator[str]:
    """Texts that may be SQL: a migration without its comments, and the strings of a module."""
    if path.suffix == ".sql":
        yield re.sub(r"--.*", "", path.read_text())
    elif path.suffix == ".py":
        nodes = list(ast.walk(ast.parse(path.read_text())))
        prose = {id(one.value) for one in nodes if isinstance(one, ast.Expr)}
        for one in nodes:
            if isinstance(one, ast.Constant) and id(one) not in prose:
                yield str(one.value)
