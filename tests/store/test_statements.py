"""PostgreSQL prepares and plans every statement of the code, as the role that runs it."""

import ast
import re
from importlib import import_module

import asyncpg
import pytest

from shared.contracts.owners import OWNERS
from tests.bounds.reasons import REASONS
from tests.bounds.table import AGED, BOUNDS
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.unit.test_architecture import PACKAGES, files

SCHEMAS = {
    "bot_gateway": ("bot",),
    "payments": ("payments",),
    "referrals": ("referrals",),
    "vpn_provisioner": ("vpn",),
    "notifier": ("notifier",),
    "shared": ("bot", "payments", "referrals", "vpn", "notifier"),
}
RUN_BY_THE_OWNER = {"shared.platform.migrate.REMEMBER"}
NAME = re.compile(r"\w+")
CONSTANT = re.compile(r"_?[A-Z][A-Z_0-9]*")
BEGINS = re.compile(r"^\s*(select|insert|update|delete|with)\s")


def statements(package: str) -> list[tuple[str, str]]:
    """The module-level constants of a package that are SQL, each with its full name."""
    found = []
    for path in files(package):
        module = ".".join(path.relative_to(PACKAGES[package].parent).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            target = (
                node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            )
            name = ast.unparse(target) if target is not None else ""
            value = getattr(import_module(module), name) if NAME.fullmatch(name) else None
            if isinstance(value, str) and BEGINS.match(value):
                assert CONSTANT.fullmatch(name), f"{module}.{name} is SQL: use upper case"
                found.append((f"{module}.{name}", value))
    return found


@pytest.fixture(scope="module")
async def fresh(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(
        *sorted({schema for schemas in SCHEMAS.values() for schema in schemas})
    )


async def refusals_of(dsn: str, found: list[tuple[str, str]]) -> list[str]:
    """The statements that PostgreSQL refuses to plan for this role, with the error.

    Planning checks the grants; preparing does not.
    """
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
async def test_every_statement_is_planned_by_its_role(fresh: FreshDatabase, package: str) -> None:
    """D-02, D-05: a missing column or grant, or a wrong argument, is found before a payment."""
    found = statements(package)
    assert found, f"{package} has no statements"
    owners = [(name, sql) for name, sql in found if name in RUN_BY_THE_OWNER]
    apps = [(name, sql) for name, sql in found if name not in RUN_BY_THE_OWNER]
    for schema in SCHEMAS[package]:
        assert await refusals_of(fresh.dsn(f"{schema}_owner"), owners) == []
        assert await refusals_of(fresh.dsn(f"{schema}_app"), apps) == []


# Statements that read a table from its beginning, by the reason why they may.
SCANS = {
    "a table of a few rows": {
        "bot_gateway.audit.BALANCE_DIFFERS",
        "bot_gateway.audit.NOT_WALKED",
        "bot_gateway.store.waits.PULL_BACK_DUE_WALKS",
        "bot_gateway.store.waits.PULL_BACK_STAR_WALKS",
        "notifier.store.waits.PULL_BACK_BUCKET",
        "notifier.store.waits.PULL_BACK_PAUSE",
        "payments.store.offers.ALL_PLANS",
        "payments.store.offers.ALL_WAYS",
        "payments.audit.CLOSING_PAGE",
        "payments.store.closing.CLOSE",
        "payments.store.closing.CLOSE_DAY",
        "payments.store.closing.CLOSING",
        "payments.store.closing.LOCK_CLOSING",
        "payments.store.reconciliations.CLEARED",
        "payments.audit.OUTGOING_OTHERWISE",
        "payments.store.balances.TRIAL_BALANCE",
        "payments.store.catalogue.WAYS",
        "payments.store.waits.PULL_BACK_PACE",
        "payments.store.reconciliation_leases.PULL_BACK_LEASES",
        "payments.store.reconciliation_leases.PULL_BACK_PAUSES",
        "shared.messaging.outbox.FORGET_STREAMS",
        "shared.operations.anti_entropy.ALL_ARE_DUE",
        "shared.operations.anti_entropy.PULL_BACK_COMPARISONS",
        "shared.operations.anti_entropy.PULL_BACK_WHOLE_COMPARISONS",
        "shared.operations.anti_entropy.STATE",
        "shared.platform.migrate.APPLIED",
        "vpn_provisioner.audit.NODES_DRIFT",
        "vpn_provisioner.store.jobs.WANT",
        "vpn_provisioner.store.nodes.SERVING",
    },
    "it stops after a number of rows": {
        "notifier.audit.COUNTS",
        "payments.audit.COUNTS",
        "referrals.audit.COUNTS",
        "shared.operations.audit.FAILING",
        "shared.operations.audit.MISSING",
        "shared.operations.audit.UNKNOWN_EVENTS",
    },
    "it runs at a start, after a restore, or after a step of the clock": {
        "bot_gateway.store.intake.RELEASE_CHATS",
        "bot_gateway.store.waits.PULL_BACK_CHATS",
        "bot_gateway.store.waits.PULL_BACK_PAUSES",
        "shared.operations.anti_entropy.NO_DIFFERENCES",
        "shared.operations.anti_entropy.PULL_BACK_DIFFERENCES",
    },
}


async def plan_of_an_empty_table(connection: asyncpg.Connection, sql: str) -> list[str]:
    """The lines of the plan that a session keeps, as the settings of its role make it."""
    parameters = (await connection.prepare(sql)).get_parameters()
    nothing = "(" + ", ".join(["null"] * len(parameters)) + ")" if parameters else ""
    await connection.execute(f"prepare kept as {sql}")
    plan = [row[0] for row in await connection.fetch(f"explain execute kept{nothing}")]
    await connection.execute("deallocate kept")
    return plan


@pytest.mark.parametrize("package", SCHEMAS)
async def test_plan_of_an_empty_table_scans_nothing(fresh: FreshDatabase, package: str) -> None:
    """W-39: the table grows, and the plan that was made while it was empty still fits."""
    connection = await asyncpg.connect(
        fresh.dsn(f"{SCHEMAS[package][0]}_app"), statement_cache_size=0
    )
    scanning = {}
    try:
        for name, sql in statements(package):
            if name not in RUN_BY_THE_OWNER:
                plan = await plan_of_an_empty_table(connection, sql)
                if any("Seq Scan" in step for step in plan):
                    scanning[name] = plan
    finally:
        await connection.close()
    excused = {name for names in SCANS.values() for name in names if name.startswith(package)}
    unexpected = [line for name in scanning.keys() - excused for line in (name, *scanning[name])]
    assert not unexpected, "\n".join(unexpected)
    assert excused - scanning.keys() == set(), "these scan nothing now"


async def test_a_missing_grant_is_found(fresh: FreshDatabase) -> None:
    forbidden = [
        ("lock", "select id from receipts where id = $1 for update"),
        ("undo", "delete from entries"),
    ]
    refusals = await refusals_of(fresh.dsn("payments_app"), forbidden)
    assert [refusal.split(":")[0] for refusal in refusals] == ["lock", "undo"]


def test_every_statement_has_a_bound_or_a_reason() -> None:
    """W-50: a new statement is measured in a large shop, or says why it cannot grow."""
    excused = [name for names in REASONS.values() for name in names]
    listed = [*BOUNDS, *AGED, *excused]
    assert len(listed) == len(set(listed)), "a statement is listed twice"
    present = {name for package in SCHEMAS for name, _ in statements(package)}
    assert set(listed) - present == set()
    assert present - set(listed) - set(statements_of_checks()) == set()


def statements_of_checks() -> list[str]:
    """The queries of checks and their pages: `tests/bounds` reads them from the list of checks."""
    found = []
    for module in (*(f"{package}.audit" for package in OWNERS.values()), "shared.operations.audit"):
        audit = import_module(module)
        checks = [*getattr(audit, "CHECKS", []), *getattr(audit, "COMMON_CHECKS", [])]
        used = {check.sql for check in checks} | {one.walk.page for one in checks if one.walk}
        names = [name for name, value in vars(audit).items() if isinstance(value, str)]
        found += [f"{module}.{name}" for name in names if getattr(audit, name) in used]
    return found


def test_services_hold_sql_in_stores_and_audits() -> None:
    for package in SCHEMAS:
        for name, _ in statements(package):
            modules = name.split(".")[:-1]
            allowed = package == "shared" or {"store", "audit"} & set(modules)
            assert allowed, f"{name} belongs into a store"
