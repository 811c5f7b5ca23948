"""An operator returns money through the whole shop, at YooKassa and in Stars."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.messaging.rpc import Bus
from tests.kit.commands import turnpike
from tests.kit.waiting import until
from turnpike_cli.audit import audit
from turnpike_cli.querying import opened_bus
from turnpike_local.sandbox.client import PersonClient, SandboxClient
from turnpike_local.scenario import keys_in, started
from turnpike_local.stack import Stack
from turnpike_local.yookassa import YookassaControl

PATIENCE_S = 90.0
INVOICE = """
select reference
from payments.invoices
where acquirer = 'yookassa' and state = 'open'
"""
MONEY = """
select
  (
    select string_agg(o.state, ' ')
    from payments.orders o
    join bot.people p using (person)
    where p.telegram_id = $1
  ) as orders,
  (
    select string_agg(r.state, ' ')
    from payments.outgoing_refunds r
    join bot.people p using (person)
    where p.telegram_id = $1
  ) as outgoing,
  (
    select coalesce(sum(abs(a.balance_minor)), 0)::int
    from payments.accounts a
    join bot.people p on p.person = a.owner
    where p.telegram_id = $1
  ) as held,
  (
    select s.state
    from vpn.subscriptions s
    join bot.people p using (person)
    where p.telegram_id = $1
  ) as access,
  (
    select coalesce(sum(e.amount_minor), 0)::int
    from payments.entries e
    join payments.accounts a on a.id = e.account
    where a.kind = 'earned' or a.kind like 'outgoing:%'
  ) as elsewhere
"""
UNDONE = {
    "orders": "refunded",
    "outgoing": "settled",
    "held": 0,
    "access": "ended",
    "elsewhere": 0,
}


@dataclass
class Shop:
    stack: Stack
    people: SandboxClient
    bus: Bus

    async def fetch(self, sql: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.stack.postgres.dsn())
        try:
            return await connection.fetchrow(sql, *arguments)
        finally:
            await connection.close()

    async def refund(self, charge: str) -> str:
        """An operator types the command, and reads what it says."""
        why = ("--reason", "asked in the chat")
        url = {"TURNPIKE_NATS_URL": self.stack.broker.url}
        status, out, err = await turnpike("refund", charge, *why, **url)
        assert (status, err) == (0, ""), (out, err)
        return out

    async def is_undone(self, person: PersonClient) -> None:
        """The money is back, the reward is reversed, the access ended; told once; audit clean."""

        async def everything() -> bool:
            return bool(dict(await self.fetch(MONEY, person.id)) == UNDONE)

        await until(everything, within_s=PATIENCE_S)
        await person.receives("returned", timeout_s=PATIENCE_S)

        async def the_invariants_hold() -> bool:
            return not any(one.finding.violations for one in await audit(self.bus))

        await until(the_invariants_hold, within_s=PATIENCE_S)
        texts = [message.text for message in (await person.chat()).from_bot]
        assert sum("returned" in text for text in texts) == 1


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Shop]:
    async with Stack(servers_dir / "operator-refunds") as stack:
        assert stack.sandbox is not None
        async with (
            SandboxClient(stack.sandbox.url) as people,
            opened_bus(stack.broker.url) as bus,
        ):
            yield Shop(stack, people, bus)


async def invited(people: SandboxClient, name: str) -> tuple[PersonClient, PersonClient]:
    """A partner, and a person whom the partner invited."""
    partner = await people.new_person(f"Partner of {name}", language="en")
    await started(partner)
    await partner.press("Invite")
    link = (await partner.receives("start=r_")).text
    code = link[link.index("start=") + len("start=") :].split()[0]
    person = await people.new_person(name, language="en")
    await started(person, f"/start {code}")
    return partner, person


async def has_a_key(person: PersonClient, partner: PersonClient) -> None:
    await person.wait_for(lambda chat: bool(keys_in(chat)), timeout_s=PATIENCE_S, what="the key")
    await partner.receives("14.90", timeout_s=PATIENCE_S)


async def test_stars_are_returned_by_an_operator(shop: Shop) -> None:
    """R-100, R-105, R-108: bot-gateway's answer and Telegram's update book it once."""
    partner, bob = await invited(shop.people, "Bob")
    for button in ("Buy", "Basic", "1 month", "Stars"):
        await bob.press(button)
    payment = await bob.pay()
    assert payment.charge is not None
    await has_a_key(bob, partner)
    said = await shop.refund(payment.charge)
    assert said.startswith(f"99 XTR of {payment.charge} are being returned; 0.00 RUB")
    await shop.is_undone(bob)


async def test_yookassa_returns_by_an_operator(shop: Shop) -> None:
    """R-100, R-105: the answer, the notice and the listing book it once."""
    partner, carl = await invited(shop.people, "Carl")
    for button in ("Buy", "Basic", "1 month", "SBP"):
        await carl.press(button)

    async def is_open() -> bool:
        return await shop.fetch(INVOICE) is not None

    await until(is_open, within_s=PATIENCE_S)
    charge = (await shop.fetch(INVOICE))["reference"]
    async with YookassaControl(shop.stack.urls["yookassa"]) as cabinet:
        await cabinet.pay(charge)
        await has_a_key(carl, partner)
        # The first call takes effect, and its answer is an error.
        await cabinet.plan_answer("500", call="POST /v3/refunds")
        await shop.refund(charge)
        await shop.is_undone(carl)
    status, _, err = await turnpike(
        *("refund", charge, "--reason", "again"), TURNPIKE_NATS_URL=shop.stack.broker.url
    )
    assert (status, err) == (1, "Refused: all of it was returned; see turnpike why.\n")
