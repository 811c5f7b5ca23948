"""PostgreSQL is asked to prepare every statement that the code holds."""

import ast
import re
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import asyncpg
import pytest

from tests.kit.servers import MakeDatabase
from tests.unit.test_house import PACKAGES, files

SCHEMAS = {
    "bot_gateway": "bot",
    "payments": "payments",
    "referrals": "referrals",
    "vpn_provisioner": "vpn",
    "notifier": "notifier",
    "shared": "payments",
}
NAME = re.compile(r"\w+")
CONSTANT = re.compile(r"_?[A-Z][A-Z_0-9]*")
BEGINS = re.compile(r"^\s*(select|insert|update|delete|with)\s")


def statements(package: str) -> list[tuple[str, str]]:
    """Every module-level constant of a package that is SQL, with where it stands."""
    found = []
    for path in files(package):
        module = ".".join(path.relative_to(PACKAGES[package].parent).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            name = ast.unparse(target) if target is not None else ""
            value = getattr(import_module(module), name) if NAME.fullmatch(name) else None
            if isinstance(value, str) and BEGINS.match(value):
                assert CONSTANT.fullmatch(name), f"{module}.{name} is SQL, and a constant is written in upper case"
                found.append((f"{module}.{name}", value))
    return found


@pytest.fixture(scope="module")
async def connections(fresh_database: MakeDatabase) -> AsyncIterator[dict[str, asyncpg.Connection]]:
    database = await fresh_database(*sorted(set(SCHEMAS.values())))
    opened = {schema: await asyncpg.connect(database.dsn(f"{schema}_app")) for schema in set(SCHEMAS.values())}
    yield opened
    for connection in opened.values():
        await connection.close()


@pytest.mark.parametrize("package", SCHEMAS)
async def test_every_statement_prepares_as_the_role_that_runs_it(
    connections: dict[str, asyncpg.Connection], package: str
) -> None:
    """D-02, D-05: a column that is missing or an argument too many is found here, not by a payment."""
    found = statements(package)
    assert found, f"{package} has no statements?"
    for name, sql in found:
        try:
            await connections[SCHEMAS[package]].prepare(sql)
        except asyncpg.PostgresError as error:
            pytest.fail(f"{name}: {error}")


def test_sql_stands_in_cellars_audits_and_the_street() -> None:
    for package in SCHEMAS:
        for name, _ in statements(package):
            room = Path(*name.split(".")[:-1])
            cellar = any(part in ("store", "audit", "ticks") or part.endswith("store") for part in room.parts)
            assert cellar or package == "shared", f"{name} belongs into a cellar"
