"""The audit of payments: every check finds the violation that it is for."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from payments.audit import CHECKS, COUNTS
from payments.commands.adjust_balance import adjust_balance
from shared.contracts.payments_acts import AdjustBalance
from shared.messaging.idempotency import execute
from shared.operations.audit import audited
from shared.platform.db import Database
from tests.kit.closing import closed, days_pass
from tests.kit.operators import by_operator
from tests.kit.payments import (
    book_rewards,
    give_back,
    paid,
    placed,
    refund_of,
    report,
    reward,
    rubles,
    stars,
    topup,
    wallet,
)
from tests.kit.servers import FreshDatabase, MakeDatabase

INSERT_UNBOOKED = """
insert into receipts (id, acquirer, charge, currency, amount_minor, payload, digest, paid_at)
values (gen_random_uuid(), 'telegram_stars', 'unbooked', 'XTR', 5, '', 0, now())
"""

INSERT_REFUND = """
insert into refunds (
  id, receipt, acquirer, charge, reference, currency, amount_minor, refunded_at, reported_at
)
values (
  gen_random_uuid(), gen_random_uuid(), 'telegram_stars', 'returned', 'returned', 'XTR', 5, now(),
  now() - interval '11 minutes'
)
"""

INSERT_RESOLUTION = """
insert into resolutions (receipt, person, outcome, because, value_minor, published_as, act)
select receipt, gen_random_uuid(), 'wallet', 'no_order', 1, gen_random_uuid(), gen_random_uuid()
from bookings
"""

INSERT_ADJUSTMENT = """
insert into transfers (id, cause, reason)
values (gen_random_uuid(), 'act:' || gen_random_uuid(), 'adjustment')
"""

OVERDRAW = """
alter table accounts drop constraint only_owed_balances_are_negative;
update accounts set balance_minor = -1 where kind = 'wallet'
"""

CHANGE_REVENUE = """
update entries
set amount_minor = amount_minor + 1
where account in (select id from accounts where kind = 'revenue')
"""

CHANGE_WALLETS = "update accounts set balance_minor = balance_minor + 5 where kind = 'wallet'"
BOUGHT_UNSEEN = "update bookings set because = 'too_little' where because = 'paid'"
INTO_A_TOPUP = """
update orders
set what = 'topup', plan = null, months = null, devices = null, node_group = null,
    list_month_minor = null
"""
CLOSE_ORDERS = "update orders set state = 'closed', paid_at = null where state = 'paid'"
CHANGE_VALUE = "update bookings set value_minor = value_minor + 1 where because = '{}'"

UNWATCHED = """
alter table invoices drop constraint open_invoices_have_a_reference;
update invoices set state = 'open', acquirer = 'yookassa'
"""

OVERDUE = """
insert into invoice_jobs (invoice, acquirer, step, due_at)
select id, 'yookassa', 'open', now() - interval '2 hours' from invoices
"""

NOTICE = """
insert into notices (acquirer, reference, kind, known, body, state, received_at)
values ('yookassa', 'r', 'payment', true, '', '{}', now() - interval '2 hours')
"""

OUTGOING = """
insert into outgoing_refunds (
  id, receipt, acquirer, charge, person, actor, currency, amount_minor, held_minor, state, due_at
)
select gen_random_uuid(), id, acquirer, charge, payer, 'operator:olga', currency, 5, 5, '{}',
  now() - interval '2 hours'
from receipts
"""

FISCAL = """
insert into fiscal_receipts (
  id, acquirer, kind, person, order_id, payment, service_minor, advance_minor, item, subject,
  vat_code, state, reason, made_at
)
select gen_random_uuid(), 'yookassa', 'offset', person, id, 'p', 1, 0, 'VPN', 'service', 1, '{}',
  'unclear', now() - interval '2 hours'
from orders
"""

VIOLATIONS = {
    "every transfer balances to zero per currency": CHANGE_REVENUE,
    "receipts, late arrivals, bookings, resolutions, transfers, entries, undone orders, old prices "
    "and closed days are insert-only": ("grant update on entries to payments_app"),
    "a resolved receipt has one transfer out of suspense": INSERT_RESOLUTION,
    "every resolution was published": INSERT_RESOLUTION,
    "every adjustment and withdrawal is that of an act": INSERT_ADJUSTMENT,
    "every balance equals the sum of its entries": CHANGE_WALLETS,
    "a transfer moves no other person's balance": (
        "update transfers set person = gen_random_uuid() where reason = 'purchase'"
    ),
    "no balance is negative except owed": OVERDRAW,
    "there is one receipt and one transfer per charge": INSERT_UNBOOKED,
    "every paid order was paid by one transfer of its price, and no other order by any": (
        "update orders set state = 'open', paid_at = null where state = 'paid'"
    ),
    "every receipt is booked": INSERT_UNBOOKED,
    "every booking was published": "update bookings set published_as = gen_random_uuid()",
    "every purchase from the balance was published": BOUGHT_UNSEEN,
    "a top-up is paid by the money of one receipt": INTO_A_TOPUP,
    "an order that has bought or topped up is paid for ever, or refunded": CLOSE_ORDERS,
    "an order is closed only by a newer one that was paid": CLOSE_ORDERS,
    "an order is superseded only by a newer one": (
        "update orders set state = 'superseded', paid_at = null where state = 'paid'"
    ),
    "an order expires only after its price was honoured": (
        "update orders set state = 'expired', paid_at = null where state = 'paid'"
    ),
    "an invoice is open only while its order is, and paid by the payment that bought": (
        "update invoices set state = 'open'"
    ),
    "no more is returned of a charge than was paid": (
        "update refunds set amount_minor = amount_minor + 1"
    ),
    "what is returned of a charge left its account": (
        "update refunded_receipts set returned_minor = 1"
    ),
    "a refund took its value from the payer, or is owed": (
        "update refunds set value_minor = value_minor + 1"
    ),
    "no refund waits over ten minutes for its payment": INSERT_REFUND,
    "an order is undone by what its refunds returned": "update undone_orders set undone_minor = 1",
    "a restored order takes the place of an undone one": (
        "update orders set restores = id where state = 'paid' and what = 'subscription'"
    ),
    "a top-up is undone by what was returned of it": (
        "update orders set state = 'partly_refunded', undone_minor = 1 where what = 'topup'"
    ),
    "a refund under way holds what its transfers say": OUTGOING.format("held"),
    "no receipt for the tax office has failed": FISCAL.format("failed"),
    "no offset of an advance waits for an hour": FISCAL.format("waiting"),
    "the account `outgoing` holds what refunds under way hold": OUTGOING.format("held"),
    "every refund of an operator has its act": OUTGOING.format("held"),
    "no refund under way is overdue by an hour": OUTGOING.format("calling"),
    "no refund waits for an operator's review": OUTGOING.format("pending_review"),
    "every refund was published": "update refunds set published_as = gen_random_uuid()",
    "the parts of an invoice are worth their sum by its ratio": CHANGE_VALUE.format("paid"),
    "money of others for an invoice is booked by its ratio": CHANGE_VALUE.format("not_yours"),
    "money without a matching invoice is booked by the day's rate": (
        CHANGE_VALUE.format("no_order")
    ),
    "a clearing account holds what arrived, less the fee": (
        "update receipts set arrived_currency = currency, arrived_minor = amount_minor + 1"
    ),
    "a fee that was told late is booked once": (
        "insert into late_arrivals (receipt, arrived_currency, arrived_minor, fee_minor) "
        "select id, currency, amount_minor - 1, 1 from receipts"
    ),
    "an open invoice of a provider has a job": UNWATCHED,
    "no job of an invoice is overdue by an hour": OVERDUE,
    "no notice of a provider waits for an hour": NOTICE.format("waiting"),
    "no notice of a provider is parked": NOTICE.format("parked"),
    "every closed day balances to zero per currency": (
        "update account_days set balance_minor = balance_minor + 1 where account = 'wallet'"
    ),
    "a closed day continues the day before": (
        "delete from account_days where day = (select max(day) from closed_days)"
    ),
    "a closed day equals its entries": (
        "update account_days set debit_minor = debit_minor + 1, credit_minor = credit_minor + 1"
    ),
    "the closed sums continue the last closed day": (
        "update closed_sums set amount_minor = amount_minor + 1"
    ),
    "the open day equals its entries": "update ledger_closing set closed_at = now()",
}
"""By truth: statements that violate it."""


@pytest.fixture
async def fresh(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("payments")


@pytest.fixture
async def database(fresh: FreshDatabase) -> AsyncIterator[Database]:
    opened = Database(fresh.dsn("payments_app"), name="test", size=2)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def owner(fresh: FreshDatabase) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(fresh.dsn("payments_owner"))
    yield connection
    await connection.close()


async def broken(database: Database, hours: float | None) -> set[str]:
    """The truths that do not hold. No relay runs here."""
    audit = await audited(database, CHECKS, COUNTS, hours=hours)
    found = {one.truth for one in audit.findings if one.violations}
    return found - {"no event is pending in the outbox"}


def test_every_truth_is_violated_once() -> None:
    assert VIOLATIONS.keys() == {check.truth for check in CHECKS}


@pytest.mark.parametrize("truth", VIOLATIONS)
async def test_every_check_can_fail(
    fresh: FreshDatabase, database: Database, owner: Any, truth: str
) -> None:
    """Each truth is violated past every constraint, and its check finds that."""
    payer = uuid4()
    await report(database, stars(uuid4(), 7))
    await closed(await days_pass(3, fresh), database)
    await report(database, paid(await placed(payer, database), payer))
    foreign = paid(await placed(uuid4(), database), payer)
    await report(database, foreign, stars(payer, 7))
    returned = paid(await placed(person := uuid4(), database), person)
    added = paid(await topup(person, database), person)
    await report(database, returned, added)
    await give_back(database, refund_of(returned), refund_of(added))
    assert await broken(database, None) == await broken(database, 1) == set()
    await owner.execute(VIOLATIONS[truth])
    assert truth in await broken(database, None)
    if truth != "no balance is negative except owed":  # A constraint of the table itself.
        assert truth in await broken(database, 1)


async def test_long_histories_are_summed_in_pages(database: Database, owner: Any) -> None:
    """W-50: a partner with more transfers than a statement reads is audited in pages."""
    partner, others = uuid4(), [uuid4() for _ in range(3)]
    for _ in range(3):
        await book_rewards(database, *(reward(partner, uuid4()) for _ in range(50)))
    await book_rewards(database, *(reward(one, uuid4()) for one in others))
    assert await broken(database, None) == set()
    await owner.execute(
        "update accounts set balance_minor = 1 where owner = $1 and kind = 'earned'", partner
    )
    assert await broken(database, None) == {"every balance equals the sum of its entries"}
    assert await broken(database, 1) == set(), "the hourly audit sums up to a hundred transfers"


@pytest.mark.parametrize(("from_at", "found"), [("now()", False), ("'2026-01-02'", True)])
async def test_later_rate_leaves_earlier_bookings_right(
    database: Database, owner: Any, from_at: str, found: bool
) -> None:
    """I9: a rate applies from its beginning. A rate that is dated back is a finding."""
    await report(database, stars(uuid4(), 10))
    await owner.execute(f"insert into rates values ('XTR', {from_at}, 175, 1)")
    truth = "money without a matching invoice is booked by the day's rate"
    assert (truth in await broken(database, None)) == found


async def test_refund_beyond_its_payment_is_found(database: Database) -> None:
    """R-64: at most what was paid is booked; the rest is an alarm, and so is another currency."""
    receipt, other = rubles(person := uuid4(), 1000), rubles(uuid4(), 1000)
    await report(database, receipt, other, rubles(person, 5000))
    await give_back(database, refund_of(receipt, 400, reference="one"))
    await give_back(database, refund_of(receipt, 900, reference="another"))
    await give_back(database, refund_of(other, currency="XTR"))
    assert await wallet(person, database) == 5000
    assert await broken(database, None) == {
        "no more is returned of a charge than was paid",
        "the same id never came with other fields",
    }


@pytest.mark.parametrize("forgery", ["'{\"amount_minor\": 600}'", '\'{"source": "promotions"}\''])
async def test_an_act_of_another_sum_is_found(database: Database, owner: Any, forgery: str) -> None:
    """R-89: a credit must be the sum that its act names, from the account that it names."""
    command = AdjustBalance(**by_operator(), person=uuid4(), amount_minor=500)
    await execute(database, command, adjust_balance)
    assert await broken(database, None) == set()
    await owner.execute(f"update commands set request = (request::jsonb || {forgery}::jsonb)::json")
    assert await broken(database, 1) == {"every adjustment and withdrawal is that of an act"}
