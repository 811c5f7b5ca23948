"""The SQL of operators: their roles, and since when and by whom they have them."""

from shared.contracts.bot import MAX_OPERATORS
from shared.contracts.operators import Role
from shared.platform.db import Database, Row, Tx

OPERATOR = "select operator, role, since, by from operators where operator = $1"


async def operator(name: str, database: Database) -> Row | None:
    return await database.fetchrow(OPERATOR, name)


ALL_OPERATORS = "select operator, role, since, by from operators order by operator limit $1"


async def operators(database: Database) -> list[Row]:
    return await database.fetch(ALL_OPERATORS, MAX_OPERATORS)


# Two acts about operators run one after the other: the second sees what the first left.
LOCK_OPERATORS = """
select pg_advisory_xact_lock(hashtext('operators'), hashtext(current_schema()))
"""


async def lock(tx: Tx) -> None:
    await tx.execute(LOCK_OPERATORS)


ROLE_OF = "select role from operators where operator = $1"


async def role_of(name: str, tx: Tx) -> Role | None:
    role: Role | None = await tx.fetchval(ROLE_OF, name)
    return role


COUNT_OPERATORS = "select count(*) from operators"


async def count(tx: Tx) -> int:
    counted: int = await tx.fetchval(COUNT_OPERATORS)
    return counted


GIVE_ROLE = """
insert into operators (operator, role, by)
values ($1, $2, $3)
on conflict (operator) do update
set role = excluded.role, since = shop_now(), by = excluded.by
"""


async def give(name: str, role: Role, by: str, tx: Tx) -> None:
    await tx.execute(GIVE_ROLE, name, role, by)


REMOVE_OPERATOR = "delete from operators where operator = $1"


async def remove(name: str, tx: Tx) -> None:
    await tx.execute(REMOVE_OPERATOR, name)
