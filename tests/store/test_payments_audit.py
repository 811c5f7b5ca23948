"""The book's own audit: each of its checks sees what breaks it."""

from uuid import uuid4

import asyncpg
import pytest

from payments.audit import CHECKS
from payments.confirmation import Receipt
from shared.db import Database
from tests.kit.payments import NOW, paid, placed, report
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("book_holds")

UNBOOKED = """
insert into receipts (id, acquirer, charge, currency, amount_minor, payload, digest, paid_at)
values (gen_random_uuid(), 'telegram_stars', 'unbooked', 'XTR', 5, '', 0, now())
"""

OVERDRAWN = """
alter table accounts drop constraint nobody_spends_what_is_not_there;
update accounts set balance_minor = -1 where kind = 'wallet'
"""

BREAKAGES = {
    "every transfer balances to zero per currency": "update entries set amount_minor = amount_minor + 1 "
    "where account in (select id from accounts where kind = 'revenue')",
    "receipts, bookings, transfers and entries are insert-only": "grant update on entries to payments_app",
    "every balance equals the sum of its entries": "update accounts set balance_minor = balance_minor + 5 "
    "where kind = 'wallet'",
    "no balance is negative, but for what is owed": OVERDRAWN,
    "one receipt and one transfer per charge": UNBOOKED,
    "every paid order was paid by exactly one transfer of its price, no other by any": "update orders "
    "set state = 'open', paid_at = null",
    "every receipt is booked": UNBOOKED,
    "every booking was told": "update bookings set told_as = gen_random_uuid()",
    "an order that has bought is paid for ever": "update orders set state = 'closed', paid_at = null",
    "an order is closed only by a newer one that was paid": "update orders set state = 'closed', paid_at = null",
    "an invoice is open with its order, and paid by what it bought": "update invoices set state = 'open'",
    "what was confirmed is what the invoice asked, or is booked by its ratio": "update bookings "
    "set value_minor = value_minor + 1 where because = 'not_yours'",
    "what no invoice asked is booked by the rate of its day": "update bookings "
    "set value_minor = value_minor + 1 where because = 'no_order'",
}
"""By the truth, what makes it false."""


async def test_every_check_of_the_audit_can_fail(book_place: FreshDatabase, book: Database) -> None:
    """Each truth is broken by hand in a transaction that is rolled back, and its check sees it."""
    payer = uuid4()
    await report(book, paid(await placed(payer, book), payer))
    foreign = paid(await placed(uuid4(), book), payer)
    without_order = Receipt("telegram_stars", uuid4().hex, payer, "XTR", 7, "free", NOW)
    await report(book, foreign, without_order)
    assert BREAKAGES.keys() == {check.truth for check in CHECKS}
    owner = await asyncpg.connect(book_place.dsn("payments_owner"))
    try:
        for check in CHECKS:
            breaking = owner.transaction()
            await breaking.start()
            await owner.execute(BREAKAGES[check.truth])
            assert await owner.fetch(check.sql, *check.arguments(None)), f"nobody sees that it is false: {check.truth}"
            await breaking.rollback()
    finally:
        await owner.close()


async def test_what_was_booked_by_the_rate_of_its_day_stays_right_under_the_next(
    book_place: FreshDatabase, book: Database
) -> None:
    """I9: a rate that begins later says nothing of what was booked before; unlike one that is dated back."""
    await report(book, Receipt("telegram_stars", uuid4().hex, uuid4(), "XTR", 10, "free", NOW))
    (check,) = (check for check in CHECKS if check.truth == "what no invoice asked is booked by the rate of its day")
    owner = await asyncpg.connect(book_place.dsn("payments_owner"))
    try:
        for from_at, seen in (("now()", False), ("'2026-01-02'", True)):
            adding = owner.transaction()
            await adding.start()
            await owner.execute(f"insert into rates values ('XTR', {from_at}, 175, 1)")
            assert bool(await owner.fetch(check.sql, *check.arguments(None))) == seen, from_at
            await adding.rollback()
    finally:
        await owner.close()
