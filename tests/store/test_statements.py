"""PostgreSQL is asked to prepare and to plan every statement that the code holds."""

import ast
import re
from importlib import import_module
from pathlib import Path

import asyncpg
import pytest

from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.unit.test_house import PACKAGES, files

SCHEMAS = {
    "bot_gateway": ("bot",),
    "payments": ("payments",),
    "referrals": ("referrals",),
    "vpn_provisioner": ("vpn",),
    "notifier": ("notifier",),
    "shared": ("bot", "payments", "referrals", "vpn", "notifier"),
}
RUN_BY_THE_OWNER = {"shared.migrate.REMEMBER"}
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
async def fresh(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*sorted({schema for schemas in SCHEMAS.values() for schema in schemas}))


async def refused(dsn: str, found: list[tuple[str, str]]) -> list[str]:
    """What PostgreSQL refuses to plan for this role, and why. A plan, unlike a prepared statement, asks for grants."""
    connection, refusals = await asyncpg.connect(dsn), []
    for name, sql in found:
        try:
            await connection.prepare(sql)
            await connection.execute(f"explain (generic_plan) {sql}")
        except asyncpg.PostgresError as error:
            refusals.append(f"{name}: {error}")
    await connection.close()
    return refusals


@pytest.mark.parametrize("package", SCHEMAS)
async def test_every_statement_is_planned_as_the_role_that_runs_it(fresh: FreshDatabase, package: str) -> None:
    """D-02, D-05: a column or a grant that is missing, or an argument too many, is found here, not by a payment."""
    found = statements(package)
    assert found, f"{package} has no statements?"
    owners = [(name, sql) for name, sql in found if name in RUN_BY_THE_OWNER]
    apps = [(name, sql) for name, sql in found if name not in RUN_BY_THE_OWNER]
    for schema in SCHEMAS[package]:
        assert await refused(fresh.dsn(f"{schema}_owner"), owners) == []
        assert await refused(fresh.dsn(f"{schema}_app"), apps) == []


async def test_a_grant_that_is_missing_is_seen(fresh: FreshDatabase) -> None:
    book = [("take", "select id from receipts where id = $1 for update"), ("undo", "delete from entries")]
    assert [refusal.split(":")[0] for refusal in await refused(fresh.dsn("payments_app"), book)] == ["take", "undo"]


def test_sql_stands_in_cellars_audits_and_the_street() -> None:
    for package in SCHEMAS:
        for name, _ in statements(package):
            room = Path(*name.split(".")[:-1])
            cellar = any(part in ("store", "audit", "ticks") or part.endswith("store") for part in room.parts)
            assert cellar or package == "shared", f"{name} belongs into a cellar"
