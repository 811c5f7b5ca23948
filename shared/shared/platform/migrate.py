"""Migrations: numbered SQL files, in order, each applied once, by one runner at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

import asyncpg

from shared.platform.db import Database, forget_libpq_variables


class MigrationError(Exception):
    """The schema and the files disagree."""


@dataclass(frozen=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_of(package: str) -> Iterator[Migration]:
    """The migrations of `shared` first, then those of the service, each by number."""
    for origin in ("shared", package):
        folder = resources.files(origin).joinpath("migrations")
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".sql"):
                yield Migration(f"{origin}/{file.name}", file.read_text(encoding="utf-8"))


# One runner at a time. One that waits longer for another fails with PostgreSQL's own error.
BOUND_THE_WAIT = "set lock_timeout = '60s'"

LOCK = "select pg_advisory_lock(hashtext('turnpike migrations'), hashtext(current_schema()))"

ENSURE_TABLE = """
create table if not exists migrations (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
)
"""

LET_THE_APP_READ = """
do $$
begin
  execute format('grant select on migrations to %I', current_schema() || '_app');
end $$
"""

IS_THERE = "select to_regclass('migrations') is not null"

APPLIED = "select name, checksum from migrations"

REMEMBER = "insert into migrations (name, checksum) values ($1, $2)"


async def migrate(owner_dsn: str, package: str) -> list[str]:
    """Apply missing migrations as the schema's owner; returns their names.

    Raises MigrationError when a file was changed after it had been applied.
    """
    forget_libpq_variables()
    connection = await asyncpg.connect(owner_dsn, timeout=10)
    try:
        await connection.execute(BOUND_THE_WAIT)
        await connection.execute(LOCK)
        await connection.execute(ENSURE_TABLE)
        await connection.execute(LET_THE_APP_READ)
        known = {row["name"]: row["checksum"] for row in await connection.fetch(APPLIED)}
        applied = []
        for migration in migrations_of(package):
            if migration.name in known:
                if known[migration.name] != migration.checksum:
                    raise MigrationError(f"{migration.name} was changed after it had been applied")
                continue
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(REMEMBER, migration.name, migration.checksum)
            applied.append(migration.name)
        return applied
    finally:
        await connection.close()


async def missing(database: Database, package: str) -> list[str]:
    """The migrations that the code expects and the schema lacks, as the app role sees it."""
    begun = await database.fetchval(IS_THERE)
    applied = {row["name"] for row in await database.fetch(APPLIED)} if begun else set()
    return [migration.name for migration in migrations_of(package) if migration.name not in applied]
