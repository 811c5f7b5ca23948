"""A refund through all five services: the sandbox returns the Stars, and everything follows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from shared.messaging.rpc import Bus
from tests.kit.quiescence import Quiescence
from tests.kit.waiting import until
from turnpike_local.sandbox.client import PersonClient, SandboxClient
from turnpike_local.scenario import keys_in, started
from turnpike_local.stack import Stack
from turnpike_local.xray import NotFetchedError, fetch_through

BOT = 4_200_000_042
SECRET_LENGTH = 35
PATIENCE_S = 60.0

MONEY = """
select
  (select state from payments.orders) as state,
  (select state from payments.refunds) as refund,
  (
    select json_object_agg(kind, balance_minor)::text
    from payments.accounts
    where owner is not null and balance_minor <> 0
  ) as held,
  (select json_agg((payer, taken))::text from (
    select v.payer = (select person from bot.people where first_name = 'Bob') as payer,
      v.reversed_minor as taken
    from referrals.reversals v
  ) r) as reversed,
  (select paying from referrals.partners) as paying,
  (select state from vpn.subscriptions) as access
"""


@dataclass
class Shop:
    stack: Stack
    people: SandboxClient

    async def fetch(self, sql: str) -> dict[str, Any]:
        connection = await asyncpg.connect(self.stack.postgres.dsn())
        try:
            row = await connection.fetchrow(sql)
            assert row is not None
            return dict(row)
        finally:
            await connection.close()

    async def refund(self, person: int, charge: str) -> None:
        """An operator returns the Stars at Telegram, by hand."""
        assert self.stack.sandbox is not None
        secret = (self.stack.state_dir / "sandbox" / "secret").read_text().strip()
        path = f"/bot{BOT}:{secret[:SECRET_LENGTH]}/refundStarPayment"
        body = {"user_id": person, "telegram_payment_charge_id": charge}
        async with (
            aiohttp.ClientSession(self.stack.sandbox.url) as http,
            http.post(path, json=body) as answer,
        ):
            assert (await answer.json())["ok"]


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Shop]:
    async with Stack(servers_dir / "refunds") as stack:
        assert stack.sandbox is not None
        async with SandboxClient(stack.sandbox.url) as people:
            yield Shop(stack, people)


async def invited(people: SandboxClient) -> tuple[PersonClient, PersonClient]:
    alice = await people.new_person("Alice", language="en")
    await started(alice)
    await alice.press("Invite")
    link = (await alice.receives("start=r_")).text
    code = link[link.index("start=") + len("start=") :].split()[0]
    bob = await people.new_person("Bob", language="en")
    await started(bob, f"/start {code}")
    return alice, bob


async def bought(bob: PersonClient) -> tuple[str, str]:
    """A month of Basic: the charge, and the key."""
    for button in ("Buy", "Basic", "1 month", "Stars"):
        await bob.press(button)
    payment = await bob.pay()
    assert payment.charge is not None
    chat = await bob.wait_for(
        lambda chat: bool(keys_in(chat)), timeout_s=PATIENCE_S, what="the key"
    )
    return payment.charge, keys_in(chat)[0]


async def test_a_refund_reaches_every_service(shop: Shop) -> None:
    """R-66, R-67, R-68: reward, access and money are undone; Bob reads one message about it."""
    alice, bob = await invited(shop.people)
    charge, key = await bought(bob)
    await alice.receives("14.90", timeout_s=PATIENCE_S)
    assert shop.stack.sandbox is not None
    page = f"{shop.stack.sandbox.url}/page"
    assert await fetch_through(key, page, 10)
    await shop.refund(bob.id, charge)
    message = await bob.receives("returned", timeout_s=PATIENCE_S)
    assert "99\u00a0⭐ returned" in message.text
    assert "Basic for 1 month" in message.text

    async def everything_is_undone() -> bool:
        found = await shop.fetch(MONEY)
        return found == {
            "state": "refunded",
            "refund": "booked",
            "held": None,
            "reversed": '[{"f1":true,"f2":1490}]',
            "paying": 0,
            "access": "ended",
        }

    await until(everything_is_undone, within_s=PATIENCE_S)
    with pytest.raises(NotFetchedError):
        await fetch_through(key, page, 5)
    texts = [message.text for message in (await bob.chat()).from_bot]
    assert sum("returned" in text for text in texts) == 1
    assert not any("access ended" in text for text in texts)
    bus = Bus(shop.stack.broker.url, "test")
    await bus.open()
    await until(Quiescence(shop.stack, bus).holds, within_s=PATIENCE_S)
    await bus.close()
