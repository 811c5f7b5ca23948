"""Refunds of top-ups, and of money that arrived in another asset, on a real PostgreSQL."""

from dataclasses import replace
from uuid import uuid4

import pytest

from payments.domain.provider import Sum
from shared.platform.db import Database
from tests.kit.payments import (
    balance,
    book_rewards,
    bought_from_balance,
    give_back,
    invoiced,
    paid,
    placed,
    refund_events,
    refund_of,
    report,
    reward,
    rubles,
    spend,
    state_of,
    topup,
    wallet,
)

pytestmark = pytest.mark.usefixtures("invariants_hold")

PRICE = 14900
CLEARED = """
select e.currency, sum(e.amount_minor)::bigint as amount_minor
from entries e
join accounts a on a.id = e.account
where a.kind = 'clearing:' || $1
group by 1
"""
UNDONE = "select undone_minor from orders where id = $1"


async def cleared(acquirer: str, database: Database) -> dict[str, int]:
    """What the acquirer holds for the shop, by asset, as a negative amount."""
    rows = await database.fetch(CLEARED, acquirer)
    return {row["currency"]: row["amount_minor"] for row in rows}


async def test_topup_undoes_what_it_paid_for(payments_db: Database) -> None:
    """R-65: the top-up is refunded, and the newest order that the balance paid since is undone."""
    order = await topup(person := uuid4(), payments_db, 50_000)
    receipt = paid(order, person)
    await report(payments_db, receipt)
    older, newer = [await bought_from_balance(person, payments_db) for _ in range(2)]
    await give_back(payments_db, refund_of(receipt))
    assert await state_of(order.order, payments_db) == "refunded"
    states = [await state_of(one, payments_db) for one in (older, newer)]
    assert states == ["refunded", "refunded"]
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (0, 0, 0)
    [event] = await refund_events(person, payments_db)
    assert [one.order for one in event.undone] == [newer, older], "the top-up bought nothing"


async def test_part_of_a_topup_is_returned(payments_db: Database) -> None:
    """R-65: the wallet pays, then `earned`; only then the newest order is undone."""
    order = await topup(person := uuid4(), payments_db, 20_000)
    receipt = paid(order, person)
    await report(payments_db, receipt)
    await book_rewards(payments_db, reward(person, uuid4(), 10_000))
    bought = await bought_from_balance(person, payments_db)
    half = receipt.amount_minor // 2
    await give_back(payments_db, refund_of(receipt, half, reference="one"))
    states = [await state_of(one, payments_db) for one in (order.order, bought)]
    assert states == ["partly_refunded", "paid"]
    assert await payments_db.fetchval(UNDONE, order.order) == 10_000
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (0, 5_100, 0)
    await give_back(payments_db, refund_of(receipt, half, reference="another"))
    states = [await state_of(one, payments_db) for one in (order.order, bought)]
    assert states == ["refunded", "refunded"]
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (4_900, 5_100, 0)


async def test_topup_that_is_gone_is_owed(payments_db: Database) -> None:
    """R-65: another top-up is no purchase, and an order of earlier money stays."""
    person = uuid4()
    await report(payments_db, paid(await topup(person, payments_db, 20_000), person))
    before = await bought_from_balance(person, payments_db)
    receipt = paid(await topup(person, payments_db, 20_000), person)
    await report(payments_db, receipt)
    other = await topup(person, payments_db, 10_000)
    await report(payments_db, paid(other, person, amount=1))
    await spend(person, 5_100 + 20_000, payments_db)
    await give_back(payments_db, refund_of(receipt))
    states = [await state_of(one, payments_db) for one in (before, other.order)]
    assert states == ["paid", "paid"]
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (0, 0, 20_000 - 149)


async def test_refunded_topup_stays_bought(payments_db: Database) -> None:
    """R-63: its refund came first. Money that comes late for it stays in the wallet."""
    order = await topup(person := uuid4(), payments_db, 20_000)
    receipt = paid(order, person)
    await give_back(payments_db, refund_of(receipt))
    await report(payments_db, receipt)
    assert await state_of(order.order, payments_db) == "refunded"
    await report(payments_db, paid(order, person))
    assert await state_of(order.order, payments_db) == "refunded"
    assert await wallet(person, payments_db) == 20_000


async def test_another_asset_goes_back_as_it_came(payments_db: Database) -> None:
    """R-64, R-72: the reverse of what came, in proportion. The fee stays paid."""
    order = await placed(person := uuid4(), payments_db)
    receipt = replace(
        rubles(person, PRICE, payload=order.payload),
        acquirer="coins",
        arrived=Sum("USDT", 901),
        fee_minor=100,
    )
    await report(payments_db, receipt)
    assert await cleared("coins", payments_db) == {"USDT": -901}
    await give_back(payments_db, refund_of(receipt, PRICE // 2, reference="one"))
    assert await cleared("coins", payments_db) == {"USDT": -901 + 500}
    assert await state_of(order.order, payments_db) == "partly_refunded"
    await give_back(payments_db, refund_of(receipt, PRICE // 2, reference="another"))
    assert await cleared("coins", payments_db) == {"USDT": 100}, "the shop gave back its fee"
    assert await state_of(order.order, payments_db) == "refunded"
    assert await wallet(person, payments_db) == 0


async def test_parked_coins_go_back_as_they_came(payments_db: Database) -> None:
    """R-64, R-72: nobody had them; suspense gives the asset back that came."""
    receipt = replace(rubles(uuid4(), PRICE), payer=None, acquirer="parked coins")
    receipt = replace(receipt, arrived=Sum("USDT", 901), fee_minor=100)
    await report(payments_db, receipt)
    await give_back(payments_db, refund_of(receipt))
    assert await cleared("parked coins", payments_db) == {"USDT": 100}


async def test_fee_of_rubles_stays_paid(payments_db: Database) -> None:
    """R-64, M-23: the person gets the whole amount back."""
    order = await placed(person := uuid4(), payments_db)
    receipt = rubles(person, PRICE, payload=order.payload)
    receipt = replace(receipt, acquirer="roubles", arrived=Sum("RUB", PRICE - 522), fee_minor=522)
    await report(payments_db, receipt)
    await give_back(payments_db, refund_of(receipt))
    assert await cleared("roubles", payments_db) == {"RUB": 522}
    assert await state_of(order.order, payments_db) == "refunded"


async def test_order_that_balance_and_money_paid(payments_db: Database) -> None:
    """R-67: the whole order is undone; what the balance paid is in the wallet again."""
    person = uuid4()
    await report(payments_db, paid(await topup(person, payments_db, 10_000), person))
    placed_order = await placed(person, payments_db)
    order = await invoiced(person, placed_order.order, payments_db, from_balance=True)
    receipt = paid(order, person)
    await report(payments_db, receipt)
    assert await state_of(order.order, payments_db) == "paid"
    kept = await wallet(person, payments_db)
    await give_back(payments_db, refund_of(receipt))
    assert await state_of(order.order, payments_db) == "refunded"
    assert (await wallet(person, payments_db), kept) == (10_000, 0)
