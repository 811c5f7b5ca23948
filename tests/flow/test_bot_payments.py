"""bot-gateway and payments together, both real, with the sandbox as Telegram."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from bot_gateway.chats.buttons import PayRest
from payments.app import build as build_payments
from payments.domain.confirmation import Receipt
from payments.settings import Settings as PaymentsSettings
from payments.subscribers import confirm_receipts
from shared.contracts.payload import write_payload
from shared.platform.db import Database
from tests.kit.bot import TOKEN, UNHURRIED, living, open_sheet, opened, running, settings
from tests.kit.bot_shop import no_update_waits
from tests.kit.sandbox import bot_of
from tests.kit.servers import MakeDatabase
from tests.kit.stars import hasten
from tests.kit.waiting import until
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient

CHARGED = "select exists (select from checkout_holds where charged_at is not null)"
RESTS = "select exists (select from star_walks where holder is null and due_at > now())"
WALK = "update star_walks set due_at = now(), gap_nanostars = null, gap_changed_at = null"
HAS_WALKED = "select exists (select from star_walks where gap_nanostars is not null)"
CONFIRMED = """
select body::text as body
from events
where topic = 'payments.payment.confirmed'
order by seq
"""
ONE_ORDER = """
select o.id as order_id, o.person, i.id as invoice
from orders o
join invoices i on i.order_id = o.id
"""


@dataclass
class Shop:
    people: SandboxClient
    chats: Database
    ledger: Database
    sandbox: Sandbox

    async def at_the_invoice(self) -> PersonClient:
        """A person whose next step is to press "pay"."""
        person = await self.people.new_person("Ann")
        await person.say("/start")
        for button in ("accept", "Buy", "Basic", "1 month", "Stars"):
            await person.press(button)
        await person.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
        return person

    async def receives_too_little(self, stars: int) -> UUID:
        """Stars come for the one order, and not enough. Telegram charges only what was asked."""
        row = await self.ledger.fetchrow(ONE_ORDER)
        assert row is not None
        payload = write_payload(row["order_id"], row["invoice"], None)
        charge = Receipt(
            "telegram_stars", "part", row["person"], "XTR", stars, payload, datetime.now(UTC)
        )
        async with self.ledger.transaction() as tx:
            await confirm_receipts([charge], tx)
        return UUID(int=row["order_id"].int)

    async def refund(self, person: int, charge: str) -> None:
        async with bot_of(self.sandbox, TOKEN) as bot:
            await bot.refund_star_payment(person, charge)

    async def has_refunded(self, *charges: tuple[str, int]) -> bool:
        rows = await self.ledger.fetch("select charge, booked_minor from refunds")
        return [tuple(row) for row in rows] == list(charges)

    async def walks(self) -> None:
        """Telegram's listing is walked once more, from now on to its end."""
        await until(lambda: self.holds(RESTS))
        await self.chats.execute(WALK)
        await until(lambda: self.holds(HAS_WALKED))

    async def holds(self, condition: str) -> bool:
        return bool(await self.chats.fetchval(condition))

    async def confirmed(self) -> list[dict[str, Any]]:
        rows = await self.ledger.fetch(CONFIRMED)
        return [json.loads(row["body"]) for row in rows]

    async def is_paid(self) -> bool:
        return bool(
            await self.ledger.fetchval("select exists (select from orders where state = 'paid')")
        )

    async def knows_the_charge(self) -> bool:
        return bool(await self.chats.fetchval(CHARGED))

    async def is_quiescent(self) -> bool:
        return await no_update_waits(self.people, self.chats)

    async def has_refused(self) -> bool:
        return bool(await self.chats.fetchval("select exists (select from refusals)"))


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    place = await fresh_database("bot", "payments")
    payments = PaymentsSettings(
        dsn=SecretStr(place.dsn("payments_app")),
        nats_url=SecretStr(nats_url),
        http_port=free_port(),
    )
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        SandboxClient(sandbox.url) as people,
        opened(place.dsn("bot_app")) as chats,
        opened(place.dsn("payments_app")) as ledger,
        living(build_payments(payments)),
        running(settings(place.dsn("bot_app"), nats_url, sandbox.url)),
    ):
        yield Shop(people, chats, ledger, sandbox)


async def test_a_refund_by_hand_reaches_the_ledger(shop: Shop) -> None:
    """M-41: an operator returns Stars at Telegram, which tells the bot by a message."""
    ann = await shop.at_the_invoice()
    charge = (await ann.pay()).charge
    assert charge is not None
    await until(shop.is_paid)
    await shop.refund(ann.id, charge)
    await until(lambda: shop.has_refunded((charge, 99)))
    assert not await shop.is_paid()


@pytest.fixture
def hastened(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.mark.usefixtures("hastened")
async def test_a_payment_without_update_is_booked(shop: Shop) -> None:
    """R-16, R-60: Telegram takes the charge and never reports it; its listing has it.

    The payment is booked, pays its order, and is published with both halves: the reward follows
    from what was received, the access from what was bought. Telegram refuses the walk once.
    """
    ann = await shop.at_the_invoice()
    await shop.people.lose_reports(1)
    charge = (await ann.pay()).charge
    await shop.people.plan_fault("429", method="getStarTransactions", retry_after_s=1)
    await shop.walks()
    await until(shop.is_paid)
    assert await shop.ledger.fetchval("select charge from receipts") == charge
    [confirmed] = await shop.confirmed()
    assert confirmed["received"]["charge"] == charge
    assert confirmed["bought"] is not None
    assert await shop.chats.fetchval("select count(*) from updates where lane = 'money'") == 0


@pytest.mark.usefixtures("hastened")
async def test_a_listed_payment_is_booked_once(shop: Shop) -> None:
    """R-60, M-02: it was reported by its update too; and its refund twice as well."""
    ann = await shop.at_the_invoice()
    charge = (await ann.pay()).charge
    assert charge is not None
    await until(shop.is_paid)
    await shop.walks()
    await shop.refund(ann.id, charge)
    await until(lambda: shop.has_refunded((charge, 99)))
    await shop.walks()
    assert await shop.ledger.fetchval("select count(*) from receipts") == 1
    assert len(await shop.confirmed()) == 1
    assert await shop.chats.fetchval("select walked from star_walks") == 2
    assert await shop.chats.fetchval("select gap_nanostars from star_walks") == 0
    assert await shop.chats.fetchval("select count(*) from conflicts") == 0


@pytest.mark.usefixtures("hastened")
async def test_a_refund_without_update_is_booked(shop: Shop) -> None:
    """R-18: Telegram's listing has it, and no update."""
    ann = await shop.at_the_invoice()
    charge = (await ann.pay()).charge
    assert charge is not None
    await until(shop.is_paid)
    await shop.people.lose_reports(1)
    await shop.refund(ann.id, charge)
    await shop.walks()
    await until(lambda: shop.has_refunded((charge, 99)))


async def test_an_open_pay_sheet_cannot_pay_twice(shop: Shop) -> None:
    """R-05: the second charge is refused before it is taken, with its reason."""
    ann = await shop.at_the_invoice()
    sheet = await open_sheet(ann)
    assert (await ann.pay()).paid
    await until(shop.is_paid)
    again = await ann.pay_invoice(sheet)
    assert again.charge is None
    assert again.error is not None
    assert "Nothing was charged" in again.error
    await until(shop.has_refused)  # Telegram is answered first; the row follows.
    refused = await shop.chats.fetch("select what, reason from refusals")
    assert [row["what"] for row in refused] == ["charge"]
    assert await shop.ledger.fetchval("select count(*) from receipts") == 1


async def test_the_rest_of_an_order_can_be_paid(shop: Shop) -> None:
    """R-55: by the button of the message about too little, pressed twice, with one pay sheet."""
    ann = await shop.at_the_invoice()
    order = await shop.receives_too_little(33)
    menu = (await ann.chat()).last
    assert menu is not None
    for _ in range(2):
        await ann.press_data(menu.id, PayRest(order=order).pack())
    rest = await ann.receives("Still missing")
    await until(shop.is_quiescent)  # A tap that finds the money shows no invoice.
    assert "66" in rest.text
    assert (await ann.pay()).paid
    await until(shop.is_paid)
    assert await shop.ledger.fetchval("select count(*) from invoices") == 2
    await ann.receives("What would you like to do?")


async def test_the_rest_of_a_paid_order_is_nothing(shop: Shop) -> None:
    """R-55: an old button says so; a forged one is refused."""
    ann = await shop.at_the_invoice()
    assert (await ann.pay()).paid
    await until(shop.is_paid)
    menu = await ann.receives("What would you like to do?")
    order = await shop.ledger.fetchval("select id from orders")
    await ann.press_data(menu.id, PayRest(order=order).pack())
    await ann.receives("This order is already paid")
    await ann.press_data(menu.id, PayRest(order=uuid4()).pack())
    await until(shop.has_refused)


async def test_no_second_rest_while_one_is_booked(shop: Shop) -> None:
    """R-55: the rest is charged in the last minute of its invoice, and payments is slow."""
    ann = await shop.at_the_invoice()
    order = PayRest(order=await shop.receives_too_little(33)).pack()
    menu = (await ann.chat()).last
    assert menu is not None
    await ann.press_data(menu.id, order)
    await ann.receives("Still missing")
    await shop.ledger.execute("update invoices set expires_at = now() + interval '55 seconds'")
    async with shop.ledger.transaction() as tx:
        await tx.fetch("select from accounts for update")
        assert (await ann.pay()).paid
        await until(shop.knows_the_charge)
        menu = await ann.receives("What would you like to do?")
        await ann.press_data(menu.id, order)
        await ann.receives("Your payment for this order has arrived")
    await until(shop.is_paid)


async def test_an_old_part_paid_order_names_the_wallet(shop: Shop) -> None:
    """R-55: its price is honoured no more, and the part that came is not lost."""
    ann = await shop.at_the_invoice()
    order = await shop.receives_too_little(33)
    await shop.ledger.execute("update orders set state = 'expired', honoured_until = now()")
    menu = (await ann.chat()).last
    assert menu is not None
    await ann.press_data(menu.id, PayRest(order=order).pack())
    await ann.receives("What you paid is in your wallet")
