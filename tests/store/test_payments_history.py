"""The pages of a balance, on a real PostgreSQL."""

from uuid import UUID, uuid4

from payments.queries import LINES_OF_PAGE, answer_balance
from shared.contracts.payments import Balance, BalanceQuery
from shared.platform.db import Database
from tests.kit.payments import paid, pay_by_balance, placed, report, stars, topup


async def page(person: UUID, database: Database, **cursor: UUID | None) -> Balance:
    return await answer_balance(BalanceQuery(person=person, **cursor), database)


async def test_a_history_is_read_page_by_page(payments_db: Database) -> None:
    """R-84: to the end and back, each movement once, also those of one moment."""
    ann = uuid4()
    for moment in range(5):
        await report(
            payments_db, *(stars(ann, 10 + moment, charge=f"{ann}{moment}{n}") for n in range(5))
        )
    first = await page(ann, payments_db)
    assert (len(first.lines), first.later) == (LINES_OF_PAGE, None)
    second = await page(ann, payments_db, before=first.earlier)
    third = await page(ann, payments_db, before=second.earlier)
    assert (len(second.lines), len(third.lines), third.earlier) == (LINES_OF_PAGE, 5, None)
    amounts = [line.amount_minor for one in (first, second, third) for line in one.lines]
    assert sorted(amounts, reverse=True) == amounts
    assert len(amounts) == 25
    assert await page(ann, payments_db, after=third.later) == second
    assert await page(ann, payments_db, after=second.later) == first


async def test_an_unknown_cursor_shows_the_newest_page(payments_db: Database) -> None:
    """R-84, S-08: a forged button, or the movement of somebody else."""
    ann, eve = uuid4(), uuid4()
    for person in (ann, eve):
        charges = (stars(person, 1, charge=f"{person}{n}") for n in range(15))
        await report(payments_db, *charges)
    newest, others = await page(ann, payments_db), await page(eve, payments_db)
    for cursor in (uuid4(), others.earlier):
        assert await page(ann, payments_db, before=cursor) == newest
        assert await page(ann, payments_db, after=cursor) == newest


async def test_a_history_names_topups_and_purchases(payments_db: Database) -> None:
    """R-84: what came for a top-up is no payment for an order."""
    ann = uuid4()
    await report(payments_db, paid(await topup(ann, payments_db), ann))
    await pay_by_balance(ann, (await placed(ann, payments_db)).order, payments_db)
    await report(payments_db, stars(ann, 1, charge=f"{ann} stray"))
    lines = (await page(ann, payments_db)).lines
    assert [line.reason for line in lines] == ["receipt", "purchase", "topup"]
