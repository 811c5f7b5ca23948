"""Fills the large shop in one database: several schemas at once, without indexes."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

import asyncpg

from shared.contracts.owners import OWNERS
from tests.bounds.rows import FILLED, SIZES

CONNECTIONS = 2
"""As many as the machines of CI have cores."""

# Each connection has a core to itself.
SETTINGS = """
set session_replication_role = replica;
set maintenance_work_mem = '256MB';
set max_parallel_maintenance_workers = 0;
set max_parallel_workers_per_gather = 0;
set work_mem = '64MB';
set jit = off
"""

CONSTRAINTS = """
select conrelid::regclass::text as table, conname as name,
  pg_get_constraintdef(oid) as definition, contype = 'f' as foreign
from pg_constraint
where connamespace = $1::regnamespace and contype in ('p', 'u', 'f')
order by contype <> 'f'
"""

INDEXES = """
select i.indrelid::regclass::text as table, i.indexrelid::regclass::text as name,
  pg_get_indexdef(i.indexrelid) as definition
from pg_index i
join pg_class c on c.oid = i.indrelid
left join pg_constraint k on k.conindid = i.indexrelid
where c.relnamespace = $1::regnamespace and k.oid is null
"""

TABLES = """
select oid::regclass::text as name
from pg_class
where relnamespace = $1::regnamespace and relkind = 'r' and relpersistence = 'p'
"""

BY_SIZE = """
select c.oid::regclass::text as name, n.nspname as schema
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any($1::text[]) and c.relkind = 'r'
order by pg_relation_size(c.oid) desc
"""

# Ids are hashes of numbers: in no order, as real ones. PostgreSQL inlines both functions, because
# their bodies are no more volatile than they are.
MAKE_ID = """
create or replace function id(what text, n bigint) returns uuid
language sql immutable parallel safe
return md5(what || n::text)::uuid;
create or replace function minutes(n bigint) returns timestamptz
language sql stable parallel safe
return now() - n * interval '1 minute';
create unlogged table ids (n bigint, person uuid, order_id uuid, receipt uuid, event uuid);
grant execute on all functions in schema public to public
"""

MAKE_IDS = """
insert into public.ids
select n, public.id('person', n), public.id('order', n), public.id('receipt', n),
  public.id('event', n)
from generate_series({first}::bigint, {last}) n
"""

Job = tuple[str, Sequence[str]]
"""A schema and statements, each a transaction of its own."""


async def fill(dsn: str) -> None:
    """Fill the migrated schemas: without indexes and triggers, which are made again at the end."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(MAKE_ID)
    made = defaultdict[str, list[str]](list)
    for schema in OWNERS:
        await _strip(connection, schema, made)
    share = SIZES["people"] // CONNECTIONS
    firsts = [number * share + 1 for number in range(CONNECTIONS)]
    ids = [MAKE_IDS.format(first=first, last=first + share - 1) for first in firsts]
    await _run(dsn, [("public", [one]) for one in ids])
    parts = [(schema, [one.format(**SIZES)]) for schema, parts in FILLED.items() for one in parts]
    await _run(dsn, parts)
    tables = await connection.fetch(BY_SIZE, list(OWNERS))
    await connection.execute("drop table public.ids")
    await connection.close()
    # The pages are visited once, before there are indexes.
    jobs = [
        (one["schema"], [f"vacuum {one['name']}", *made[one["name"]], f"analyze {one['name']}"])
        for one in tables
    ]
    await _run(dsn, jobs)


async def _strip(
    connection: asyncpg.Connection, schema: str, made: defaultdict[str, list[str]]
) -> None:
    """Drop constraints and indexes, and log no table; adds what makes each table whole."""
    constraints = await connection.fetch(CONSTRAINTS, schema)
    indexes = await connection.fetch(INDEXES, schema)
    for one in constraints:
        table, name = one["table"], one["name"]
        await connection.execute(f'alter table {table} drop constraint "{name}" cascade')
        if not one["foreign"]:
            made[table].append(f'alter table {table} add constraint "{name}" {one["definition"]}')
    for one in indexes:
        await connection.execute(f"drop index {one['name']}")
        made[one["table"]].append(one["definition"])
    for one in await connection.fetch(TABLES, schema):
        await connection.execute(f"alter table {one['name']} set unlogged")


async def _run(dsn: str, jobs: Iterable[Job]) -> None:
    """Run the jobs in their order, several at a time."""
    left = iter(jobs)

    async def work() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(SETTINGS)
        for schema, statements in left:
            await connection.execute("select set_config('search_path', $1, false)", schema)
            for statement in statements:
                await connection.execute(statement)
        await connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())
