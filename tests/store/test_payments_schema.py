"""The guarantees of the schema: insert-only tables, balanced entries, and signs of balances."""

from uuid import uuid4

import asyncpg
import pytest

from bot_gateway.chats.buttons import Pay, packed
from payments.domain.ledger import Account
from shared.contracts.payments import MAX_MONTHS, MAX_PLAN_CHARACTERS
from shared.platform.db import Database
from tests.kit.payments import paid, placed, report
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("invariants_hold")

INSERT_ONLY = {
    "transfers": "at",
    "entries": "amount_minor",
    "receipts": "amount_minor",
    "bookings": "outcome",
    "resolutions": "outcome",
    "price_versions": "stars",
    "rates": "kopecks",
    "late_arrivals": "fee_minor",
    "card_charges": "charge",
    "closed_days": "closed_at",
    "account_days": "balance_minor",
}
"""By table: a column."""

HALF_A_TRANSFER = """
with t as (
  insert into transfers (id, cause, reason, person) values ($1, 'x', 'reward', $2) returning id
)
insert into entries (transfer, account, amount_minor, currency)
select t.id, a.id, 1, 'RUB' from t, accounts a where a.owner = $2 limit 1
"""

ENTRIES = """
insert into entries (transfer, account, amount_minor, currency)
values ($1, $2, 1, $4), ($1, $3, -1, $4)
"""

OVERDRAW = "update accounts set balance_minor = -1 where owner = $1 and kind = 'wallet'"


@pytest.mark.parametrize("table", INSERT_ONLY)
async def test_history_is_insert_only_for_the_app(payments_db: Database, table: str) -> None:
    """D-10, M-32: by grant."""
    column = INSERT_ONLY[table]
    for statement in (
        f"delete from {table}",
        f"update {table} set {column} = {column}",
        f"truncate {table}",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await payments_db.execute(statement)


async def test_unbalanced_entries_are_refused(payments_db: Database) -> None:
    """D-10: by the trigger."""
    person = uuid4()
    await report(payments_db, paid(await placed(person, payments_db), person))
    with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
        await payments_db.execute(HALF_A_TRANSFER, uuid4(), person)


@pytest.mark.parametrize("missing", ["transfer", "account", "currency"])
async def test_entry_needs_its_transfer_and_account(payments_db: Database, missing: str) -> None:
    """M-19: an entry without them would be in the sums but in no balance."""
    person = uuid4()
    await report(payments_db, paid(await placed(person, payments_db), person))
    of_person = "select id from transfers where person = $1 limit 1"
    transfer = await payments_db.fetchval(of_person, person)
    account, other = (Account(kind, person).id for kind in ("earned", "owed"))
    if missing == "transfer":
        transfer = uuid4()
    if missing == "account":
        account = uuid4()
    currency = "XTR" if missing == "currency" else "RUB"
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="does not exist"):
        await payments_db.execute(ENTRIES, transfer, account, other, currency)


async def test_wallet_never_goes_below_zero(payments_db: Database) -> None:
    """M-03: by a check constraint of the database."""
    person = uuid4()
    await report(payments_db, paid(await placed(person, payments_db), person, amount=98))
    with pytest.raises(asyncpg.CheckViolationError, match="only_owed_balances_are_negative"):
        await payments_db.execute(OVERDRAW, person)


LONGEST = "x" * MAX_PLAN_CHARACTERS
INSERT_PLAN = "insert into plans values ($1, 9, 5, null, 'default')"
SAY_WHAT = "update orders set what = $2 where id = $1"
INSERT_PRICE = "insert into prices values ('basic', $1, $2, $3)"


@pytest.mark.parametrize("plan", ["", "ba:sic", "Basic", "ба", "a b", LONGEST + "x"])
async def test_plan_code_fits_a_button(payments_schema: FreshDatabase, plan: str) -> None:
    """D-16: refused where it is written, and not when a person taps."""
    with pytest.raises(asyncpg.CheckViolationError, match="plan_codes_fit_a_button"):
        await as_owner(payments_schema, INSERT_PLAN, plan)


@pytest.mark.parametrize(
    ("price", "rule"),
    [
        ((MAX_MONTHS + 1, 100, 1), "months_fit_a_button"),
        ((2, 100, 100_001), "prices_can_be_charged"),
        ((2, 10**10 + 1, 1), "prices_can_be_charged"),
    ],
)
async def test_price_can_be_charged(
    payments_schema: FreshDatabase, price: tuple[int, int, int], rule: str
) -> None:
    """D-16: more months than a button holds, or an amount that is a slip of the hand."""
    with pytest.raises(asyncpg.CheckViolationError, match=rule):
        await as_owner(payments_schema, INSERT_PRICE, *price)


async def test_longest_plan_is_sold_by_a_button(payments_schema: FreshDatabase) -> None:
    """D-16, R-23: the constraints and the buttons agree; packing raises beyond 64 bytes."""
    await as_owner(payments_schema, INSERT_PLAN, LONGEST)
    command = packed(uuid4())
    button = Pay(plan=LONGEST, months=MAX_MONTHS, way="missing", command=command).pack()
    assert Pay.unpack(button).plan == LONGEST


@pytest.mark.parametrize(
    ("what", "rule"), [("topup", "subscriptions_have_terms"), ("gift", "orders_what_check")]
)
async def test_an_order_says_what_is_bought(
    payments_db: Database, payments_schema: FreshDatabase, what: str, rule: str
) -> None:
    """M-40: money in the wallet has no terms, and a product that nobody sells has no orders."""
    placed_order = await placed(uuid4(), payments_db)
    with pytest.raises(asyncpg.CheckViolationError, match=rule):
        await as_owner(payments_schema, SAY_WHAT, placed_order.order, what)


async def as_owner(schema: FreshDatabase, statement: str, *arguments: object) -> None:
    """Run it as the schema's owner, who changes plans and prices; undone at the end."""
    owner = await asyncpg.connect(schema.dsn("payments_owner"))
    transaction = owner.transaction()
    await transaction.start()
    try:
        await owner.execute(statement, *arguments)
    finally:
        await transaction.rollback()
        await owner.close()
