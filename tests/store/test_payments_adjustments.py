"""Credits and debits by operators, on a real PostgreSQL."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from payments.commands.adjust_balance import adjust_balance
from payments.domain import ledger
from payments.domain.ledger import Holdings
from payments.queries import answer_trial_balance
from shared.contracts.message import Refused, Value
from shared.contracts.payments import TrialBalanceQuery
from shared.contracts.payments_acts import AdjustBalance, Adjusted
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.operators import by_operator
from tests.kit.payments import balance, pay_by_balance, placed, wallet

pytestmark = pytest.mark.usefixtures("invariants_hold")

ROWS = """
select outcome, before::text as before, after::text as after
from commands
where request ->> 'person' = $1 and topic = 'payments.adjust_balance'
order by seq
"""
TRANSFERS = "select count(*) from transfers where person = $1 and reason = 'adjustment'"


def adjusting(person: UUID, amount_minor: int) -> AdjustBalance:
    return AdjustBalance(**by_operator("admin"), person=person, amount_minor=amount_minor)


async def adjust(person: UUID, amount_minor: int, database: Database) -> Value:
    return await execute(database, adjusting(person, amount_minor), adjust_balance)


async def sums(database: Database) -> dict[str, int]:
    """The trial balance in rubles, by account."""
    lines = (await answer_trial_balance(TrialBalanceQuery(), database)).lines
    return {one.account: one.amount_minor for one in lines if one.currency == "RUB"}


async def states(person: UUID, database: Database) -> list[tuple[str, int, int]]:
    """Of each act about the person: its outcome, and the wallet before and after."""
    return [
        (
            row["outcome"],
            json.loads(row["before"])["wallet_minor"],
            json.loads(row["after"])["wallet_minor"],
        )
        for row in await database.fetch(ROWS, str(person))
    ]


async def test_repeated_credit_is_one_credit(payments_db: Database) -> None:
    """R-89: the command's id is the cause of the transfer, so ten tries are one effect."""
    person = uuid4()
    command = adjusting(person, 5_000)
    tries = (execute(payments_db, command, adjust_balance) for _ in range(10))
    answers = await asyncio.gather(*tries)
    assert (
        answers
        == [
            Adjusted(
                person=person, amount_minor=5_000, wallet_minor=5_000, earned_minor=0, owed_minor=0
            )
        ]
        * 10
    )
    assert await wallet(person, payments_db) == 5_000
    assert await payments_db.fetchval(TRANSFERS, person) == 1
    assert await states(person, payments_db) == [("done", 0, 5_000)]


async def test_two_debits_take_no_more_than_there_is(payments_db: Database) -> None:
    """M-03, R-89: two operators at once; the second sees what the first left."""
    person = uuid4()
    await adjust(person, 50_000, payments_db)
    answers = await asyncio.gather(*(adjust(person, -30_000, payments_db) for _ in range(2)))
    assert [one for one in answers if isinstance(one, Refused)] == [
        Refused(reason="balance_short", detail="10000")
    ]
    assert await wallet(person, payments_db) == 20_000
    assert sorted((await states(person, payments_db))[1:]) == [
        ("done", 50_000, 20_000),
        ("refused", 20_000, 20_000),
    ]


async def test_a_debit_of_nobody_leaves_nothing(payments_db: Database) -> None:
    """R-89: the refusal is a row, and no account was opened."""
    person = uuid4()
    assert await adjust(person, -1, payments_db) == Refused(reason="balance_short", detail="1")
    assert await states(person, payments_db) == [("refused", 0, 0)]
    opened = "select count(*) from accounts where owner = $1"
    assert await payments_db.fetchval(opened, person) == 0


async def test_a_credit_buys_and_is_listed(payments_db: Database) -> None:
    """R-89: it is money as any in the wallet, and the balance says why it came."""
    person = uuid4()
    order = await placed(person, payments_db)
    await adjust(person, 20_000, payments_db)
    await pay_by_balance(person, order.order, payments_db)
    held = await balance(person, payments_db)
    assert held.wallet_minor == 5_100
    lines = {(line.reason, line.amount_minor) for line in held.lines}
    assert lines == {("adjustment", 20_000), ("purchase", -14_900)}


@pytest.mark.parametrize("source", ["adjustments", "promotions", "opening"])
async def test_a_credit_names_its_source(payments_db: Database, source: Any) -> None:
    """R-89: the other side of the transfer; the audit compares it with the act."""
    before = await sums(payments_db)
    command = AdjustBalance(**by_operator(), person=uuid4(), amount_minor=700, source=source)
    assert isinstance(await execute(payments_db, command, adjust_balance), Adjusted)
    after = await sums(payments_db)
    moved = {name: after[name] - before.get(name, 0) for name in after}
    assert {name: minor for name, minor in moved.items() if minor} == {"wallet": 700, source: -700}


def test_a_credit_settles_the_debt_first() -> None:
    """R-89: the rest of the credit stays in the wallet."""
    held = Holdings(uuid4(), owed_minor=700)
    credit = ledger.adjustment(held, "act:1", 1_000)
    after = held.after(credit)
    settled = ledger.owed_settled(after, credit.cause)
    assert settled is not None
    assert after.after(settled).wallet_minor == 300


def test_a_debit_beyond_the_wallet_is_a_bug() -> None:
    """M-03: rewards are not taken by a debit."""
    with pytest.raises(AssertionError):
        ledger.adjustment(Holdings(uuid4(), wallet_minor=5, earned_minor=100), "act:1", -6)


@pytest.mark.parametrize("amount", [0, 10**9 + 1, -(10**9) - 1, 1.5, "many"])
def test_an_odd_adjustment_is_malformed(amount: Any) -> None:
    with pytest.raises(ValidationError):
        adjusting(uuid4(), amount)
