"""The book on a real PostgreSQL: once per charge, balanced, insert-only, whoever races."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import Counter

from payments.answers import answer_balance, answer_checkout, answer_plans, answer_receipts, place_order
from payments.confirmation import Receipt, payload_of
from payments.ledger import REVENUE, Account
from payments.store import book as book_store
from payments.store import placing
from payments.subscribers import confirm_receipts, payments_books_rewards
from shared import telemetry
from shared.commands import Invoice
from shared.contract import Refused
from shared.db import Database
from shared.obey import obey
from shared.questions import AskBalance, AskCheckout, AskPlans, AskReceipts
from tests.kit.payments import NOW, command, paid, placed, report, reward, wallet
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("book_holds")


def counted(counter: Counter) -> float:
    return float(counter.labels("receipts")._value.get())


async def test_many_reports_of_one_charge_book_it_once(book: Database) -> None:
    """M-02, R-11: a hundred concurrent reports of one charge are one receipt, one purchase and one fact."""
    person = uuid4()
    receipt = paid(await placed(person, book), person)
    await asyncio.gather(*(report(book, receipt, receipt) for _ in range(100)))
    assert await book.fetchval("select count(*) from receipts where payer = $1", person) == 1
    assert await book.fetchval("select count(*) from transfers where person = $1", person) == 2
    assert await book.fetchval("select count(*) from facts where body ->> 'about' = $1", str(person)) == 1
    assert await wallet(person, book) == 0


async def test_what_is_booked_at_one_moment_is_told_with_its_place_in_it(book: Database) -> None:
    """N-16: the facts of one transaction share their moment, and each says what the wallet held after it."""
    person = uuid4()
    receipts = [
        Receipt("telegram_stars", uuid4().hex, person, "XTR", 1, "", NOW + timedelta(seconds=second))
        for second in range(4)
    ]
    await report(book, *receipts[::-1])
    assert [fact["wallet_minor"] for fact in await told_of(person, book)] == [150, 300, 450, 600]


async def told_of(person: UUID, book: Database) -> list[dict[str, Any]]:
    """The facts about a person that were told at one moment, by their place in it."""
    sql = "select body from facts where body ->> 'about' = $1 order by coalesce((body ->> 'place')::int, 0)"
    return [json.loads(row["body"]) for row in await book.fetch(sql, str(person))]


async def test_the_fact_says_why_money_bought_nothing_and_what_came_beyond_the_price(book: Database) -> None:
    """N-17: paid with twice the price, and once more."""
    person = uuid4()
    invoice = await placed(person, book)
    twice = paid(invoice, person, amount=2 * invoice.asked_minor)
    await report(book, twice, replace(paid(invoice, person), paid_at=NOW + timedelta(seconds=1)))
    first, second = await told_of(person, book)
    assert (first["over_minor"], first.get("reason")) == (14900, None)
    assert (second["reason"], second.get("over_minor")) == ("order_closed", None)


async def test_a_charge_reported_with_another_amount_is_an_alarm_and_books_nothing(book: Database) -> None:
    """M-22: the first report counts; the same charge with other fields is a contradiction, never a second booking."""
    person = uuid4()
    invoice = await placed(person, book)
    await report(book, paid(invoice, person, charge="forged"))
    await report(book, paid(invoice, person, charge="forged", amount=5000))
    assert await wallet(person, book) == 0
    assert await book.fetchval("select count(*) from contradictions where where_seen = 'receipts'") == 1


async def test_of_two_reports_in_one_batch_the_earlier_counts_and_the_other_is_an_alarm(book: Database) -> None:
    """M-22: the same charge with other fields is a contradiction within a batch too, whichever was given first."""
    person = uuid4()
    invoice = await placed(person, book)
    early = paid(invoice, person, charge=uuid4().hex)
    late = replace(early, amount_minor=5000, paid_at=NOW + timedelta(seconds=1))
    contradictions, repeats = counted(telemetry.CONTRADICTIONS), counted(telemetry.DUPLICATES_REFUSED)
    await report(book, late, early, early)
    assert await book.fetchval("select amount_minor from receipts where id = $1", early.id) == early.amount_minor
    assert await book.fetchval("select count(*) from contradictions where fact_id = $1", early.id) == 1
    assert counted(telemetry.CONTRADICTIONS) == contradictions + 1
    assert counted(telemetry.DUPLICATES_REFUSED) == repeats + 1, "a contradiction is no plain repeat"
    assert await wallet(person, book) == 0


async def test_of_two_reports_of_one_moment_the_first_given_counts(book: Database) -> None:
    """M-22: where the times agree, the order in which they were given decides."""
    person = uuid4()
    first = paid(await placed(person, book), person, charge=uuid4().hex)
    await report(book, first, replace(first, amount_minor=5000))
    assert await book.fetchval("select amount_minor from receipts where id = $1", first.id) == first.amount_minor


async def test_a_contradiction_is_counted_only_when_it_is_committed(book: Database) -> None:
    person = uuid4()
    receipt = paid(await placed(person, book), person, charge=uuid4().hex)
    before = counted(telemetry.CONTRADICTIONS)

    async def rolled_back() -> None:
        async with book.transaction() as tx:
            await confirm_receipts([receipt, replace(receipt, amount_minor=5000)], tx)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rolled_back()
    assert counted(telemetry.CONTRADICTIONS) == before


async def test_shuffled_batches_that_share_people_do_not_deadlock(book: Database) -> None:
    people = [uuid4() for _ in range(12)]
    receipts = [paid(await placed(person, book), person) for person in people for _ in range(3)]
    await asyncio.gather(*(report(book, *receipts[start::2], *reversed(receipts[::3])) for start in (0, 1) * 4))
    assert await book.fetchval("select count(*) from receipts where payer = any($1)", people) == len(receipts)


async def test_a_command_obeyed_twice_is_one_order_with_one_answer(book: Database) -> None:
    """M-04: a double tap is one order, also when both taps arrive at once and one after the deadline."""
    person = uuid4()
    tap = command(person)
    answers = await asyncio.gather(*(obey(book, tap, place_order) for _ in range(5)))
    late = tap.model_copy(update={"deadline_at": datetime.now(UTC) - timedelta(hours=1)})
    answers.append(await obey(book, late, place_order))
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert await book.fetchval("select count(*) from orders where person = $1", person) == 1


async def test_two_deliberate_orders_are_two(book: Database) -> None:
    """M-05: other command ids are other purchases."""
    person = uuid4()
    first, second = await placed(person, book), await placed(person, book)
    assert first.order != second.order


async def test_a_command_after_its_deadline_is_refused_and_its_id_stays_usable(book: Database) -> None:
    person = uuid4()
    late = command(person).model_copy(update={"deadline_at": datetime.now(UTC) - timedelta(seconds=1)})
    assert await obey(book, late, place_order) == Refused(reason="too_late")
    again = late.model_copy(update={"deadline_at": datetime.now(UTC) + timedelta(minutes=1)})
    assert isinstance(await obey(book, again, place_order), Invoice)
    assert await book.fetchval("select count(*) from commands where id = $1", late.id) == 2


async def test_a_command_id_used_for_another_wish_is_refused(book: Database) -> None:
    person = uuid4()
    first = command(person)
    await obey(book, first, place_order)
    other = first.model_copy(update={"months": 12})
    assert await obey(book, other, place_order) == Refused(reason="id_reused")


async def test_what_is_not_on_sale_is_refused_by_name(book: Database) -> None:
    refused = await obey(book, command(uuid4(), "gold"), place_order)
    assert isinstance(refused, Refused)
    assert refused.reason == "plan_unknown"


async def test_checkout_says_yes_only_to_the_invoice_as_it_was_asked(book: Database) -> None:
    """R-05, R-17: a stale, foreign or altered invoice is refused before the charge."""
    person = uuid4()
    invoice = await placed(person, book)

    async def checked(payer: UUID | None = person, **changed: object) -> str | None:
        wanted = {"payload": invoice.payload, "currency": "XTR", "amount_minor": invoice.asked_minor} | changed
        answer = await answer_checkout(AskCheckout(payer=payer, **wanted), book)
        assert answer.ok == (answer.reason is None)
        return answer.reason

    assert await checked() is None
    assert await checked(payer=uuid4()) == "not_yours"
    assert await checked(payer=None) == "not_yours"
    assert await checked(payload="x") == "payload_unknown"
    assert await checked(currency="RUB") == "currency_differs"
    assert await checked(amount_minor=1) == "amount_differs"
    newer = uuid4()
    async with book.transaction() as tx:
        await placing.insert_invoice(newer, invoice.order, "stars", 99, "XTR", tx)
    assert await checked() == "invoice_superseded"
    assert await checked(payload=payload_of(invoice.order, newer, None)) is None
    await book.execute("update invoices set opened_at = opened_at - interval '1 h' where id = $1", newer)
    await book.execute("update invoices set expires_at = now() - interval '1 s' where id = $1", invoice.invoice)
    assert await checked() == "invoice_expired"
    await report(book, paid(invoice, person))
    assert await checked() == "order_closed"


async def test_an_expired_invoice_that_is_paid_all_the_same_buys(book: Database) -> None:
    """R-28: money that was taken buys what it was taken for."""
    person = uuid4()
    invoice = await placed(person, book)
    await book.execute("update invoices set expires_at = now() - interval '1 h' where id = $1", invoice.invoice)
    await report(book, paid(invoice, person))
    assert await book.fetchval("select state from orders where id = $1", invoice.order) == "paid"
    assert await book.fetchval("select state from invoices where id = $1", invoice.invoice) == "paid"


async def test_whatever_else_could_pay_a_finished_order_is_superseded(book: Database) -> None:
    """The other invoice of the order that was paid, and that of the older order which the purchase closed."""
    person, other = uuid4(), uuid4()
    older, invoice = await placed(person, book), await placed(person, book)
    async with book.transaction() as tx:
        await placing.insert_invoice(other, invoice.order, "stars", 99, "XTR", tx)
    await report(book, paid(invoice, person))
    rows = await book.fetch(
        "select id, state from invoices where id = any($1)", [older.invoice, invoice.invoice, other]
    )
    assert {row["id"]: row["state"] for row in rows} == {
        older.invoice: "superseded",
        invoice.invoice: "paid",
        other: "superseded",
    }


async def test_an_invoice_says_how_many_seconds_it_has_left_by_the_databases_clock(book: Database) -> None:
    assert (await placed(uuid4(), book)).expires_in_s == 30 * 60


async def test_a_rate_counts_from_its_beginning(book_place: FreshDatabase, book: Database) -> None:
    """The newest begun version of a rate is today's; one of tomorrow is worth nothing yet."""
    owner = await asyncpg.connect(book_place.dsn("payments_owner"))
    await owner.execute("""
        insert into rates (currency, from_at, kopecks, per_minor)
        values ('AAA', now() - interval '2 d', 1, 1), ('AAA', now() - interval '1 d', 2, 1),
          ('AAA', now() + interval '1 d', 3, 1), ('BBB', now() + interval '1 d', 3, 1)
    """)
    await owner.close()
    person = uuid4()
    known, unknown = (
        Receipt("telegram_stars", uuid4().hex, person, currency, 100, "free", NOW) for currency in ("AAA", "BBB")
    )
    await report(book, known, unknown)
    assert await book.fetchval("select value_minor from bookings where receipt = $1", known.id) == 200
    assert await book.fetchval("select because from bookings where receipt = $1", unknown.id) == "no_rate"


async def test_a_reward_leaves_what_an_open_order_waits_for(book_place: FreshDatabase, book: Database) -> None:
    """A reward pays the partner's debt from what he earned, never from the part payment of his open order."""
    person, transfer = uuid4(), uuid4()
    invoice = await placed(person, book)
    await report(book, paid(invoice, person, amount=50))
    owed = Account("owed", person)
    async with book.transaction() as tx:
        await tx.fetch(book_store.OPEN_ACCOUNTS, *book_store.account_columns({owed, REVENUE}))
        await tx.execute("update accounts set balance_minor = -9000 where id = $1", owed.id)
        await tx.execute(
            "insert into transfers (id, cause, reason, person) values ($1, $2, 'purchase', $3)",
            transfer,
            str(transfer),
            person,
        )
        await tx.execute(
            "insert into entries values ($1, $2, -9000, 'RUB'), ($1, $3, 9000, 'RUB')", transfer, owed.id, REVENUE.id
        )
    async with book.transaction() as tx:
        await payments_books_rewards([reward(person, uuid4(), 100)], tx)
    balance = await answer_balance(AskBalance(person=person), book)
    assert (balance.wallet_minor, balance.earned_minor, balance.owed_minor) == (50 * 14900 // 99, 0, 8900)
    await report(book, paid(invoice, person, amount=50))
    assert await book.fetchval("select state from orders where id = $1", invoice.order) == "paid"


async def test_a_person_may_name_his_last_payments_and_nobody_elses(book: Database) -> None:
    """R-30: the newest first, whatever each came to; a reward is no payment."""
    person, other = uuid4(), uuid4()
    for day in range(4):
        receipt = Receipt("telegram_stars", f"{person}:{day}", person, "XTR", 50 + day, "", NOW + timedelta(days=day))
        await report(book, receipt)
    await report(book, Receipt("telegram_stars", uuid4().hex, other, "XTR", 7, "", NOW))
    async with book.transaction() as tx:
        await payments_books_rewards([reward(person, uuid4())], tx)
    answer = await answer_receipts(AskReceipts(person=person), book)
    assert [(line.charge, line.amount_minor, line.currency) for line in answer.lines] == [
        (f"{person}:{day}", 50 + day, "XTR") for day in (3, 2, 1)
    ]
    assert (await answer_receipts(AskReceipts(person=uuid4()), book)).lines == ()


async def test_a_reward_may_leave_after_21_days(book_place: FreshDatabase, book: Database) -> None:
    partner, old, young = uuid4(), uuid4(), uuid4()
    async with book.transaction() as tx:
        await payments_books_rewards([reward(partner, old, 1000), reward(partner, young, 300)], tx)
    owner = await asyncpg.connect(book_place.dsn("payments_owner"))
    for receipt, age in ((old, timedelta(days=21, minutes=1)), (young, timedelta(days=20, hours=23))):
        await owner.execute("update transfers set at = now() - $2::interval where cause = $1", f"reward:{receipt}", age)
    await owner.close()
    balance = await answer_balance(AskBalance(person=partner), book)
    assert (balance.earned_minor, balance.withdrawable_minor) == (1300, 1000)


async def test_money_of_nobody_rests_in_suspense_and_is_told(book: Database) -> None:
    receipt = Receipt("telegram_stars", uuid4().hex, None, "XTR", 7, "?", NOW)
    await report(book, receipt)
    assert await book.fetchval("select outcome from bookings where receipt = $1", receipt.id) == "suspense"
    assert await book.fetchval(
        "select count(*) from facts where topic = 'payments.receipt.parked' and body ->> 'charge' = $1", receipt.charge
    )


async def test_a_reward_is_booked_once_per_receipt_however_it_comes(book: Database) -> None:
    """M-16: twenty concurrent bookings of one reward leave one, beside another that shares the partner."""
    partner, first, second = uuid4(), uuid4(), uuid4()

    async def book_rewards() -> None:
        async with book.transaction() as tx:
            await payments_books_rewards([reward(partner, first), reward(partner, second), reward(partner, first)], tx)

    await asyncio.gather(*(book_rewards() for _ in range(20)))
    await book_rewards()
    balance = await answer_balance(AskBalance(person=partner), book)
    assert balance.earned_minor == 2980
    assert balance.withdrawable_minor == 0, "rewards of the last 21 days do not leave"
    assert [line.reason for line in balance.lines] == ["reward", "reward"]


async def test_the_app_role_can_neither_change_nor_unbalance_the_book(book: Database) -> None:
    """D-10: history is insert-only by grant, and a transfer that does not balance is refused by the database."""
    columns = {"transfers": "at", "entries": "amount_minor", "receipts": "amount_minor", "bookings": "outcome"}
    for table, column in columns.items():
        for statement in (f"delete from {table}", f"update {table} set {column} = {column}", f"truncate {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await book.execute(statement)
    person = uuid4()
    await report(book, paid(await placed(person, book), person))
    half = """
        with t as (insert into transfers (id, cause, reason, person) values ($1, 'x', 'reward', $2) returning id)
        insert into entries (transfer, account, amount_minor, currency)
        select t.id, a.id, 1, 'RUB' from t, accounts a where a.owner = $2 limit 1
    """
    with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
        await book.execute(half, uuid4(), person)


@pytest.mark.parametrize("missing", ["transfer", "account", "currency"])
async def test_an_entry_names_a_transfer_and_accounts_that_are_there(book: Database, missing: str) -> None:
    """M-19: an entry that hangs in the air would be in the sums and on nobody's balance."""
    person = uuid4()
    await report(book, paid(await placed(person, book), person))
    transfer = await book.fetchval("select id from transfers where person = $1 limit 1", person)
    account, other = (Account(kind, person).id for kind in ("earned", "owed"))
    if missing == "transfer":
        transfer = uuid4()
    if missing == "account":
        account = uuid4()
    entries = """
        insert into entries (transfer, account, amount_minor, currency)
        values ($1, $2, 1, $4), ($1, $3, -1, $4)
    """
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="is not there"):
        await book.execute(entries, transfer, account, other, "XTR" if missing == "currency" else "RUB")


async def test_nobody_goes_below_zero(book: Database) -> None:
    """M-03: the balance check of the database keeps the last promise."""
    person = uuid4()
    await report(book, paid(await placed(person, book), person, amount=98))
    with pytest.raises(asyncpg.CheckViolationError, match="nobody_spends_what_is_not_there"):
        await book.execute("update accounts set balance_minor = -1 where owner = $1 and kind = 'wallet'", person)


async def test_the_shipped_plans_are_shown_in_order(book: Database) -> None:
    plans = (await answer_plans(AskPlans(), book)).plans
    assert [(plan.plan, plan.devices, [price.months for price in plan.prices]) for plan in plans] == [
        ("basic", 5, [1, 3, 6, 12]),
        ("plus", 10, [1, 3, 6, 12]),
    ]
