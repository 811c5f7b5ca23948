"""The commands that return money, as processes, against the acts of payments."""

import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from payments.domain.confirmation import Receipt
from shared.contracts.owners import OWNERS
from tests.contract.test_cli_acts import WHY, Shop
from tests.kit.commands import living
from tests.kit.payments import NOW, report, stars, wallet
from tests.kit.servers import MakeDatabase
from turnpike_local.broker import Broker

REVIEW = """
update outgoing_refunds
set state = 'pending_review', claim = null, reason = 'TimeoutError'
where receipt = $1
"""


@pytest.fixture(scope="module")
async def shop(fresh_database: MakeDatabase, broker: Broker) -> AsyncIterator[Shop]:
    """bot-gateway returns no Stars here: a refund stays under way."""
    await broker.wipe()
    subject = Shop(await fresh_database(*OWNERS), broker.url)
    async with living(list(subject.services.values())):
        yield subject


async def paid(shop: Shop, person: UUID | None = None, amount: int = 99) -> Receipt:
    receipt = stars(person or uuid4(), amount)
    await report(shop.payments, receipt)
    return receipt


async def under_way(shop: Shop, receipt: Receipt) -> str:
    """The id of the refund of this receipt."""
    listed = json.loads(await shop.done("refunds", "list", "--json"))["refunds"]
    [found] = [one["refund"] for one in listed if one["charge"] == receipt.charge]
    return str(found)


async def test_a_refund_is_asked_and_listed(shop: Shop) -> None:
    """R-100, R-104: the whole payment, by its charge; the act is in the audit log."""
    person = await shop.person(21)
    receipt = await paid(shop, person)
    out = await shop.done("refund", receipt.charge, *WHY)
    assert out.startswith(f"99 XTR of {receipt.charge} are being returned; 148.50 RUB of the wal")
    assert await wallet(person, shop.payments) == 0
    again = await shop.turnpike("refund", receipt.charge, *WHY)
    said = "Refused: another refund of it has not ended; see turnpike refunds list.\n"
    assert again == (1, "", said)
    shown = await shop.done("refunds", "list")
    assert receipt.charge in shown
    assert max(len(line) for line in shown.splitlines()) <= 100
    acts = await shop.done("acts", "--of", "21")
    assert "wallet 148.50 RUB → 0.00 RUB" in acts


async def test_support_returns_nothing(shop: Shop) -> None:
    """R-86, R-100: neither a refund nor its end by hand."""
    receipt = await paid(shop)
    await shop.done("operators", "set", "sara", "support", *WHY)
    refused = (1, "", "Refused: your role does not allow it.\n")
    assert await shop.turnpike("refund", receipt.charge, *WHY, operator="sara") == refused
    release = ("refunds", "release", str(uuid4()), *WHY)
    assert await shop.turnpike(*release, operator="sara") == refused


async def test_a_refund_before_its_payment_gets_a_sentence(shop: Shop) -> None:
    """R-101"""
    answer = await shop.turnpike("refund", "nobody-paid", *WHY)
    assert answer == (2, "", "payments knows no payment nobody-paid.\n")


async def test_an_odd_amount_gets_a_sentence(shop: Shop) -> None:
    """R-101, R-102: of another form, more than was paid, or a part of Stars."""
    receipt = await paid(shop)
    status, out, err = await shop.turnpike("refund", receipt.charge, "--amount", "5.5", *WHY)
    assert (status, out) == (2, "")
    assert "'5.5' is not an amount in XTR" in err
    more = await shop.turnpike("refund", receipt.charge, "--amount", "100", *WHY)
    assert more == (1, "", "Refused: only 99 XTR are left of this payment.\n")
    part = await shop.turnpike("refund", receipt.charge, "--amount", "50", *WHY)
    said = "Refused: Stars and parked money are returned whole only: leave --amount out.\n"
    assert part == (1, "", said)


async def test_a_way_without_refunds_names_another(shop: Shop) -> None:
    """R-102"""
    receipt = Receipt("cryptobot", uuid4().hex, uuid4(), "RUB", 500, "free", NOW)
    await report(shop.payments, receipt)
    status, _, err = await shop.turnpike("refund", receipt.charge, *WHY)
    assert status == 1
    assert "turnpike balance add" in err


@pytest.mark.parametrize("outcome", ["settle", "release"])
async def test_an_unknown_outcome_is_ended_by_hand(shop: Shop, outcome: str) -> None:
    """R-107: once, and only while it waits for that."""
    person = uuid4()
    receipt = await paid(shop, person)
    await shop.done("refund", receipt.charge, *WHY)
    refund = (await under_way(shop, receipt))[:18]
    early = await shop.turnpike("refunds", outcome, refund, *WHY)
    assert early[0] == 1
    assert "only a refund in pending_review can be ended by hand." in early[2]
    await shop.payments.execute(REVIEW, receipt.id)
    listed = await shop.done("refunds", "list", "--state", "pending_review")
    assert "TimeoutError" in listed
    state = f"{outcome}d"
    out = await shop.done("refunds", outcome, refund, *WHY)
    assert out == f"99 XTR of {receipt.charge}: the refund is {state}.\n"
    assert await wallet(person, shop.payments) == (0 if outcome == "settle" else 14_850)
    again = await shop.turnpike("refunds", outcome, refund, *WHY)
    assert again[2].startswith(f"Refused: it is {state}:")
