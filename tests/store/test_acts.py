"""Acts of operators: who may execute them, and the rows that they leave, also when refused."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from shared.contracts.acts import ActsQuery
from shared.contracts.catalogue import COMMANDS
from shared.contracts.message import Command, Refused, Value
from shared.contracts.operations import ReplayDeadLetter
from shared.contracts.operators import ALLOWED, ROLES, Act, Role
from shared.contracts.vpn import Replayed, ReplayJobs
from shared.messaging.idempotency import Changed, execute
from shared.operations import acts
from shared.operations.acts import answer_acts
from shared.platform.db import Database, Tx
from tests.chaos.triggers import harmless_command
from tests.kit.operators import by_operator

ACTS = {one.topic: one for one in COMMANDS if issubclass(one, Act)}

ROWS = """
select outcome, role, actor, reason, before::text as before, after::text as after
from commands
where id = $1
order by seq
"""


def act_of(kind: type[Command[Any]], role: Role) -> Act[Any]:
    command = harmless_command(kind)
    assert isinstance(command, Act)
    return command.model_copy(update={"role": role})


def is_expected(role: Role, topic: str) -> bool:
    """Admins name no operators and withdraw nothing; support moves no money and no price."""
    verb = topic.partition(".")[2]
    if role == "support":
        return verb.startswith("replay_") or verb == "reconcile"
    return role == "owner" or verb not in ("set_operator", "record_withdrawal")


def test_every_act_has_its_roles() -> None:
    """R-86: an act without an entry would be refused to everybody, and one more is a slip."""
    assert ALLOWED.keys() == ACTS.keys()
    assert all("owner" in roles for roles in ALLOWED.values())


@pytest.mark.parametrize("topic", sorted(ACTS))
@pytest.mark.parametrize("role", ROLES)
async def test_a_role_executes_its_acts_only(store: Database, role: Role, topic: str) -> None:
    """R-86: the owner of the act refuses, before anything is done, and the refusal is a row."""
    called: list[str] = []

    async def action(command: Act[Any], tx: Tx) -> Value:
        called.append(command.topic)
        return Refused(reason="called")

    command = act_of(ACTS[topic], role)
    answer = await execute(store, command, action)
    allowed = is_expected(role, topic)
    assert answer == Refused(reason="called" if allowed else "not_allowed")
    assert called == ([topic] if allowed else [])
    [row] = await store.fetch(ROWS, command.id)
    assert (row["outcome"], row["role"], row["before"], row["after"]) == (
        *("refused", role),
        *(None, None),
    )


def jobs(person: UUID | None = None, **changed: Any) -> ReplayJobs:
    return ReplayJobs(**by_operator() | changed, person=person)


async def raise_the_price(_: ReplayJobs, tx: Tx) -> Changed:
    return Changed(Replayed(replayed=1), before={"price_minor": 1}, after={"price_minor": 2})


async def test_an_act_keeps_before_and_after(store: Database) -> None:
    """R-87: who, as what, why, and the changed thing before and after; a repeat adds no row."""
    command = jobs()
    for _ in range(2):
        assert await execute(store, command, raise_the_price) == Replayed(replayed=1)
    [row] = await store.fetch(ROWS, command.id)
    assert tuple(row)[:4] == ("done", "owner", "operator:olga", "a mistake of ours")
    assert json.loads(row["before"]) == {"price_minor": 1}
    assert json.loads(row["after"]) == {"price_minor": 2}


async def test_a_refused_act_changes_nothing(store: Database) -> None:
    """R-87: what it saw is in its row, before and after alike, and its own writes are gone."""

    async def action(_: ReplayJobs, tx: Tx) -> Changed:
        await tx.execute("insert into streams (name, incarnation, sequence) values ('s', 'i', 0)")
        return Changed(Refused(reason="too_much"), before={"held": 5}, after={"held": 0})

    command = jobs()
    assert await execute(store, command, action) == Refused(reason="too_much")
    [row] = await store.fetch(ROWS, command.id)
    assert (row["outcome"], json.loads(row["before"]), row["after"]) == (
        *("refused", {"held": 5}),
        row["before"],
    )
    assert await store.fetchval("select count(*) from streams where name = 's'") == 0


async def test_an_act_that_fails_leaves_no_row(store: Database) -> None:
    """R-87: the row is written in the transaction of the effect, so neither is there alone."""

    async def action(_: ReplayJobs, tx: Tx) -> Value:
        raise LookupError

    command = jobs()
    with pytest.raises(LookupError):
        await execute(store, command, action)
    assert await store.fetch(ROWS, command.id) == []


@pytest.mark.parametrize("reason", [None, "", "  \n", "x" * 1_001, "a\0b"])
def test_an_act_needs_a_reason(reason: str | None) -> None:
    """R-87: an act without one is malformed."""
    with pytest.raises(ValidationError):
        jobs(reason=reason)


async def test_acts_are_answered_newest_first(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-87: page by page; commands of people and of services are no acts."""
    monkeypatch.setattr(acts, "ACTS_PER_PAGE", 2)
    person = uuid4()
    about_it = [jobs(person) for _ in range(3)]
    for command in about_it:
        await execute(store, command, raise_the_price)
    await execute(store, jobs(), raise_the_price)
    given_up = ReplayDeadLetter.of("payments")(**by_operator("support"), dead_letter=7)

    async def unknown(_: ReplayDeadLetter, tx: Tx) -> Value:
        return Refused(reason="dead_letter_unknown")

    await execute(store, given_up, unknown)
    newest = await answer_acts(ActsQuery.of("payments")(), store)
    assert [one.topic for one in newest.acts] == ["payments.replay_dead_letter", "vpn.replay_jobs"]
    assert newest.acts[0].refusal == "dead_letter_unknown"
    assert newest.acts[0].wanted == {"dead_letter": 7}
    assert newest.more
    query = ActsQuery.of("payments")
    first = await answer_acts(query(person=person), store)
    second = await answer_acts(query(person=person, before=first.acts[-1].number), store)
    found = [one.act for one in (*first.acts, *second.acts)]
    assert found == [command.id for command in reversed(about_it)]
    assert (first.more, second.more) == (True, False)
    assert second.acts[0].after == {"price_minor": 2}
