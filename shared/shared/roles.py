"""The wall between the services in PostgreSQL: each has a schema, a role that owns it and a role that runs in it.

`python -m shared.roles DATABASE | psql …` builds the wall where an operator keeps the database, without passwords.
"""

import re
import sys
from collections.abc import Mapping
from typing import Literal

from shared.owners import OWNERS

SCHEMAS = tuple(OWNERS)

Duty = Literal["owner", "app"]
DUTIES: tuple[Duty, ...] = ("owner", "app")

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PASSWORD = re.compile(r"[A-Za-z0-9_.~-]{8,200}")

# Nobody may do anything who was not granted it below. PostgreSQL before 15 let everybody write into `public`.
_DATABASE = """
revoke all on database {database} from public;
revoke all on schema public from public;
"""

# Whoever is no superuser has to be what he gives a schema to; before PostgreSQL 16 nobody else could build this.
# The time-outs end what would hold locks, or a relay's transaction, for ever. Migrations, run by the owner, set theirs.
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
grant connect on database {database} to {schema}_owner, {schema}_app;
create schema if not exists {schema} authorization {schema}_owner;
grant usage on schema {schema} to {schema}_app;
"""

# A statement that fails would be logged whole, its password too.
_UNLOGGED = "set log_min_error_statement = panic;\n"
_LOGIN = "alter role {role} password '{password}';\n"


def role(schema: str, duty: Duty) -> str:
    """The name of the role that owns the schema, or of the one that the service runs as."""
    return f"{schema}_{duty}"


def wall(database: str, schemas: tuple[str, ...] = SCHEMAS) -> str:
    """The SQL that builds roles, schemas and grants in `database`; run again, it changes nothing.

    To be run in that database by a superuser, or from PostgreSQL 16 on by its owner, where he may create roles. Tables
    get their grants from the migration that makes them.
    """
    for name in (database, *schemas):
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"not a plain lower case identifier: {name!r}")
    parts = [_SCHEMA.format(schema=schema, database=database) for schema in schemas]
    return _DATABASE.format(database=database) + "".join(parts)


def passwords(by_role: Mapping[str, str]) -> str:
    """The SQL that sets the roles' passwords. Raises `ValueError` for one that needs quoting in SQL or in a DSN."""
    for name, password in by_role.items():
        if not _IDENTIFIER.fullmatch(name) or not _PASSWORD.fullmatch(password):
            raise ValueError(f"the password of {name!r} must be 8 to 200 of A-Z a-z 0-9 _ . ~ -")
    return _UNLOGGED + "".join(_LOGIN.format(role=name, password=by_role[name]) for name in by_role)


if __name__ == "__main__":
    sys.stdout.write(wall(sys.argv[1] if len(sys.argv) > 1 else "turnpike"))
