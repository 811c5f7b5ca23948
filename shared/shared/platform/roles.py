"""The separation of the services in PostgreSQL: a schema, an owner role and an app role each.

`python -m shared.platform.roles DATABASE | psql …` creates them in an operator's database, without
passwords.
"""

import re
import sys
from collections.abc import Mapping
from typing import Literal

from shared.contracts.owners import OWNERS

SCHEMAS = tuple(OWNERS)

Duty = Literal["owner", "app"]
DUTIES: tuple[Duty, ...] = ("owner", "app")

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PASSWORD = re.compile(r"[A-Za-z0-9_.~-]{8,200}")

# Only the grants below apply. Before PostgreSQL 15 every role could write into `public`.
_DATABASE = """
revoke all on database {database} from public;
revoke all on schema public from public;
"""

# A role that is no superuser must be a member of the role that it gives a schema to. Before
# PostgreSQL 16 only a superuser could run this. The time-outs end transactions that would hold
# locks for ever. Migrations, run by the owner, set their own. Each statement of a service has one
# good plan, by an index: a session makes it once, and makes the same one of an empty table.
_SCHEMA = """
do $$
begin
  if not exists (select from pg_roles where rolname = '{schema}_owner') then
    create role {schema}_owner login;
  end if;
  if not exists (select from pg_roles where rolname = '{schema}_app') then
    create role {schema}_app login;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute 'grant {schema}_owner to current_user with inherit true, set true';
  end if;
end
$$;
alter role {schema}_owner set search_path = {schema};
alter role {schema}_app set search_path = {schema};
alter role {schema}_app set statement_timeout = '10s';
alter role {schema}_app set lock_timeout = '5s';
alter role {schema}_app set idle_in_transaction_session_timeout = '10s';
alter role {schema}_app set plan_cache_mode = force_generic_plan;
alter role {schema}_app set enable_seqscan = off;
alter role {schema}_app set jit = off;
grant connect on database {database} to {schema}_owner, {schema}_app;
create schema if not exists {schema} authorization {schema}_owner;
grant usage on schema {schema} to {schema}_app;
"""

# PostgreSQL logs a failed statement with its password otherwise.
_UNLOGGED = "set log_min_error_statement = panic;\n"
_LOGIN = "alter role {role} password '{password}';\n"


def role(schema: str, duty: Duty) -> str:
    """The role that owns the schema, or the role that the service runs as."""
    return f"{schema}_{duty}"


def separation(database: str, schemas: tuple[str, ...] = SCHEMAS) -> str:
    """The SQL that creates roles, schemas and grants in `database`. It may be run again.

    A superuser runs it in that database, or from PostgreSQL 16 on its owner with the right to
    create roles. Tables get their grants from the migration that creates them.
    """
    for name in (database, *schemas):
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"not a plain lower case identifier: {name!r}")
    parts = [_SCHEMA.format(schema=schema, database=database) for schema in schemas]
    return _DATABASE.format(database=database) + "".join(parts)


def passwords(by_role: Mapping[str, str]) -> str:
    """The SQL that sets the roles' passwords.

    Raises ValueError for a password that needs quoting in SQL or in a DSN.
    """
    for name, password in by_role.items():
        if not _IDENTIFIER.fullmatch(name) or not _PASSWORD.fullmatch(password):
            raise ValueError(f"the password of {name!r} must be 8 to 200 of A-Z a-z 0-9 _ . ~ -")
    return _UNLOGGED + "".join(_LOGIN.format(role=name, password=by_role[name]) for name in by_role)


if __name__ == "__main__":
    sys.stdout.write(separation(sys.argv[1] if len(sys.argv) > 1 else "turnpike"))
