"""No statement grows with the shop: its buffers are counted in a large one."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import asyncpg
import pytest

from shared.contracts.owners import OWNERS
from shared.operations.audit import BEGIN_PAGE, COMMON_CHECKS, Check, audited
from shared.platform.db import Database, Tx
from tests.bounds.table import AGED, BOUNDS, NOTHING, PRUNED, Bound
from tests.kit.servers import FreshDatabase

PACKAGES = {package: owner for owner, package in OWNERS.items()} | {"shared": "payments"}
CHECKS = [
    (owner, check)
    for owner, package in OWNERS.items()
    for check in import_module(f"{package}.audit").CHECKS
] + [("payments", check) for check in COMMON_CHECKS]
MAX_BUFFERS_OF_A_PAGE = 12_000
"""Most read 2 000 to 8 000: a few per row. The large tables have about 10 000 pages."""
ROWS = 5_000
BACKLOGS = {
    "shared.messaging.retries.TAKE_DUE": (
        2_000,
        """
update failed_attempts set run_at = now() - interval '1 hour'
where run_at < now() + interval '30 minutes';
analyze failed_attempts
""",
    ),
    "bot_gateway.store.intake.CLAIM_CHECKOUTS": (
        4_000,
        """
update updates set lane = 'checkout', state = 'waiting', held_until = null, ended_at = null
where seq in (select seq from updates order by seq desc limit 200000);
analyze updates
""",
    ),
    "notifier.store.claims.CLAIM_CHATS": (
        1_500,
        """
update recipients set due_at = now() - interval '1 hour' where chat_id <= 300000;
analyze recipients
""",
    ),
    "vpn_provisioner.store.jobs.CLAIM": (
        8_000,
        """
update access_jobs set state = 'waiting', tries = 0, run_at = now() - interval '1 hour'
where person < '60000000-0000-0000-0000-000000000000';
analyze access_jobs
""",
    ),
    "vpn_provisioner.store.subscriptions.EXPIRE": (
        12_000,
        """
update subscriptions set state = 'live', ends_at = now() - interval '1 hour'
where person < '60000000-0000-0000-0000-000000000000';
analyze subscriptions
""",
    ),
    "vpn_provisioner.store.subscriptions.REVIVE": (
        18_000,
        """
update subscriptions set state = 'ended', ends_at = now() + interval '1 hour'
where person < '60000000-0000-0000-0000-000000000000';
analyze subscriptions
""",
    ),
}
"""By claim: its bound, and what makes a third of its table due at once."""


def sql_of(name: str) -> str:
    module, _, constant = name.rpartition(".")
    return str(getattr(import_module(module), constant))


@asynccontextmanager
async def rolled_back(filled: FreshDatabase, name: str, role: str = "app") -> AsyncIterator[Any]:
    schema = PACKAGES[name.split(".")[0]]
    connection = await asyncpg.connect(filled.dsn(f"{schema}_{role}"), statement_cache_size=0)
    try:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


async def plan_of(connection: Any, sql: str, arguments: Sequence[object] = ()) -> dict[str, Any]:
    """Run a statement as a session does that keeps its plan; the plan, with buffers and rows.

    EXPLAIN of the statement itself would plan it for these arguments.
    """
    types = (await connection.prepare(sql)).get_parameters()
    literals = [
        await connection.fetchval(f"select quote_nullable($1::{type_.name}::text)", argument)
        for type_, argument in zip(types, arguments, strict=True)
    ]
    given = f"({', '.join(literals)})" if literals else ""
    await connection.execute("set local plan_cache_mode = force_generic_plan")
    await connection.execute("set local enable_seqscan = off")
    await connection.execute(f"prepare kept as {sql}")
    explained = f"explain (analyze, buffers, timing off, format json) execute kept{given}"
    plan: dict[str, Any] = json.loads(await connection.fetchval(explained))[0]["Plan"]
    await connection.execute("deallocate kept")
    return plan


def buffers_of(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("name", BOUNDS)
async def test_a_statement_reads_bounded_buffers(filled: FreshDatabase, name: str) -> None:
    """W-50: a statement that runs every few seconds, or for a chat, reads by an index."""
    bound: Bound = BOUNDS[name]
    async with rolled_back(filled, name) as connection:
        plan = await plan_of(connection, sql_of(name), bound.arguments)
    assert buffers_of(plan) <= bound.buffers, json.dumps(plan, indent=1)


@pytest.mark.parametrize("name", AGED)
async def test_pruning_is_bounded(filled: FreshDatabase, name: str) -> None:
    """W-51: few buffers when nothing is due, and at most a page of rows when much is."""
    async with rolled_back(filled, name, "owner") as connection:
        await connection.execute("set local statement_timeout = '60s'")
        idle = await plan_of(connection, sql_of(name), (ROWS,))
        assert buffers_of(idle) <= NOTHING
        assert int((await connection.execute(AGED[name])).split()[-1]) > ROWS * 2
        busy = await plan_of(connection, sql_of(name), (ROWS,))
        assert buffers_of(busy) <= PRUNED
        assert await connection.execute(sql_of(name), ROWS) == f"DELETE {ROWS}"


@pytest.mark.parametrize("number", range(len(CHECKS)))
async def test_a_page_of_a_check_is_bounded(filled: FreshDatabase, number: int) -> None:
    """W-50: the first page of each check of the audit, and two pages far behind it."""
    owner, check = CHECKS[number]
    connection = await asyncpg.connect(filled.dsn(f"{owner}_app"), statement_cache_size=0)
    try:
        for rows in (0, 10_000, 250_000):
            async with connection.transaction():
                await connection.execute(BEGIN_PAGE)
                assert await buffers_of_page(connection, check, rows) <= MAX_BUFFERS_OF_A_PAGE
    finally:
        await connection.close()


async def buffers_of_page(connection: Any, check: Check, rows: int) -> int:
    """The page after so many rows, or after all of them."""
    walk = check.walk
    if walk is None:
        return buffers_of(await plan_of(connection, check.counting))
    before = await connection.fetchrow(walk.page, *walk.first, rows) if rows else None
    after = walk.first if before is None else tuple(before)
    plan = await plan_of(connection, walk.page, (*after, walk.rows))
    end = await connection.fetchrow(walk.page, *after, walk.rows)
    if end is None:
        return buffers_of(plan)
    if check.look is not None:  # Its statements have bounds of their own.
        await check.look(Tx(connection), after, tuple(end))
        return buffers_of(plan)
    checked = await plan_of(connection, check.sql, (*after, *tuple(end)))
    return buffers_of(plan) + buffers_of(checked)


@pytest.mark.parametrize("owner", OWNERS)
async def test_an_hourly_audit_ends_within_its_bound(filled: FreshDatabase, owner: str) -> None:
    """W-50: every check is made, and none takes ten times as long as a statement may."""
    package = import_module(f"{OWNERS[owner]}.audit")
    database = Database(filled.dsn(f"{owner}_app"), name="test", size=1)
    await database.open()
    audit = await audited(database, package.CHECKS, package.COUNTS, hours=2)
    await database.close()
    assert [one for one in audit.findings if not one.checked] == []


@pytest.mark.parametrize("name", BACKLOGS)
async def test_a_claim_ignores_the_rest_of_a_backlog(filled: FreshDatabase, name: str) -> None:
    """W-50: what is claimed is found by its keys, however much is due.

    PostgreSQL takes an unknown limit for a tenth of what is due. A join with what was claimed then
    read the whole table for a hash; an array of keys is taken for ten. These tests come last: the
    rows that they leave dead would cost the others.
    """
    buffers, becomes_due = BACKLOGS[name]
    async with rolled_back(filled, name, "owner") as connection:
        await connection.execute("set local statement_timeout = '60s'")
        await connection.execute(becomes_due)
        plan = await plan_of(connection, sql_of(name), BOUNDS[name].arguments)
    assert buffers_of(plan) <= buffers, json.dumps(plan, indent=1)
