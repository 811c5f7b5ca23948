"""Operators in bot-gateway: roles as rows, and the owners of the setting."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr, ValidationError

from bot_gateway.commands import set_operator as module
from bot_gateway.commands.set_operator import set_operator
from bot_gateway.queries import answer_operator, answer_operators
from bot_gateway.settings import Settings
from shared.contracts.bot import (
    Operator,
    OperatorChanged,
    OperatorQuery,
    OperatorsQuery,
    SetOperator,
)
from shared.contracts.message import Refused, Value
from shared.contracts.operators import Role
from shared.messaging.idempotency import execute
from shared.platform.db import Database, Tx
from shared.platform.settings import mistakes
from tests.kit.operators import by_operator
from tests.kit.servers import MakeDatabase

OWNERS = ("olga",)
CHANGES = """
select outcome, before ->> 'role' as before, after ->> 'role' as after
from commands
where request ->> 'operator' = $1
order by seq
"""


@pytest.fixture(scope="module")
async def bot(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    place = await fresh_database("bot")
    database = Database(place.dsn("bot_app"), name="test")
    await database.open()
    yield database
    await database.close()


async def give(bot: Database, name: str, new_role: Role | None, by: Role = "owner") -> Value:
    async def action(command: SetOperator, tx: Tx) -> Any:
        return await set_operator(command, tx, owners=OWNERS)

    command = SetOperator(**by_operator(by), operator=name, new_role=new_role)
    return await execute(bot, command, action)


async def role_of(bot: Database, name: str) -> Role | None:
    answer = await answer_operator(OperatorQuery(operator=name), bot, owners=OWNERS)
    return answer.role if isinstance(answer, Operator) else None


async def test_an_operator_comes_rises_and_goes(bot: Database) -> None:
    """R-87: each step is a row with the role before and after."""
    name = uuid4().hex
    assert await role_of(bot, name) is None
    for role in ("support", "admin", None):
        assert await give(bot, name, role) == OperatorChanged(operator=name, role=role)
        assert await role_of(bot, name) == role
    assert [tuple(row) for row in await bot.fetch(CHANGES, name)] == [
        ("done", None, "support"),
        ("done", "support", "admin"),
        ("done", "admin", None),
    ]
    assert await give(bot, name, None) == Refused(reason="operator_unknown")


@pytest.mark.parametrize("role", ["admin", "support"])
async def test_only_owners_change_operators(bot: Database, role: Role) -> None:
    """R-86: an admin who could add an owner would be one."""
    name = uuid4().hex
    assert await give(bot, name, "owner", by=role) == Refused(reason="not_allowed")
    assert await role_of(bot, name) is None


@pytest.mark.parametrize("role", ["support", None])
async def test_owners_of_the_setting_stay_owners(bot: Database, role: Role | None) -> None:
    """R-88: nobody can lock the first owners out, not even by a row of another role."""
    assert await give(bot, "olga", role) == Refused(reason="owner_by_setting")
    await bot.execute("insert into operators values ('olga', 'support', now(), 'x')")
    assert await role_of(bot, "olga") == "owner"
    listed = await answer_operators(OperatorsQuery(), bot, owners=OWNERS)
    assert [one.role for one in listed.operators if one.operator == "olga"] == ["owner"]
    await bot.execute("delete from operators where operator = 'olga'")


async def test_two_operators_at_once_keep_the_bound(
    bot: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-88: the second act sees what the first left."""
    present = await bot.fetchval("select count(*) from operators")
    monkeypatch.setattr(module, "MAX_OPERATORS", present + 1)
    names = [uuid4().hex for _ in range(6)]
    answers = await asyncio.gather(*(give(bot, name, "support") for name in names))
    assert sum(isinstance(answer, OperatorChanged) for answer in answers) == 1
    assert answers.count(Refused(reason="too_many_operators")) == 5


@pytest.mark.parametrize("name", ["", "two words", "a" * 65, "o'neil", "a\n"])
def test_an_odd_name_is_no_operator(name: str) -> None:
    with pytest.raises(ValidationError):
        SetOperator(**by_operator(), operator=name, new_role="support")


def with_owners(owners: str) -> Settings:
    return Settings(
        dsn=SecretStr("postgresql://"),
        nats_url=SecretStr("nats://localhost"),
        bot_token=SecretStr("42:" + "a" * 35),
        owners=owners,
    )


def test_owners_are_listed_once() -> None:
    assert with_owners(" olga, 777000,,olga ").first_owners == ("olga", "777000")
    assert with_owners("").first_owners == ()


@pytest.mark.parametrize("owners", ["two words", "olga;ivan", ",".join(map(str, range(21)))])
def test_wrong_owners_are_one_sentence(owners: str) -> None:
    with pytest.raises(ValidationError) as refused:
        with_owners(owners)
    [sentence] = mistakes(Settings, refused.value)
    assert sentence.startswith("TURNPIKE_OWNERS is not usable: ")
    assert owners not in sentence
