"""The count of the chaos matrix, on a small real shop: whole as it was played, and off by whatever is hurt in it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import get_args
from uuid import uuid4

import pytest

from tests.chaos.count import LIVE, Count, counted
from tests.chaos.load import AT_ONCE_PER_S, Kind, Paid, Town
from tests.chaos.shop import Shop
from tests.kit.sessions import end_session_unseen
from vpn_provisioner.panels.protocol import Wanted
from vpn_provisioner.panels.xray import XrayPanel

PEOPLE, FRIENDS = 12, 4  # Two of each partner who has some: a chat is told one thing a second.
SEED = 4  # By this one twelve people pay in every way there is.
RESTS_WITHIN_S = 120.0


@dataclass
class Played:
    """A shop at rest, and what was paid in it."""

    shop: Shop
    paid: list[Paid]

    async def count(self) -> Count:
        return await counted(self.shop, self.paid, 0)

    async def hurt(self, *statements: str) -> Count:
        """What is counted in a transaction that is taken back: the services see nothing of it."""
        await self.shop.asked("begin")
        try:
            for statement in statements:
                await self.shop.asked(statement)
            return await self.count()
        finally:
            await self.shop.asked("rollback")

    @contextmanager
    def telegram(self, do: str, undo: str) -> Iterator[None]:
        """Telegram itself holds something else meanwhile."""
        file = self.shop.state_dir / "sandbox" / "sandbox.sqlite3"
        with closing(sqlite3.connect(file, isolation_level=None)) as opened:
            opened.execute(do)
            try:
                yield
            finally:
                opened.execute(undo)

    @asynccontextmanager
    async def node(self) -> AsyncIterator[XrayPanel]:
        panel = XrayPanel(self.shop.node.xray.api, self.shop.node.xray.inbound, flow="")
        try:
            yield panel
        finally:
            await panel.close()


@pytest.fixture(scope="module")
async def played(servers_dir: Path) -> AsyncIterator[Played]:
    async with Shop(servers_dir / "chaos-count") as shop:
        town = Town(shop, Random(SEED))
        partners = await town.arrive(["/start"] * (PEOPLE - FRIENDS))
        said = [f"/start r_{partners[nth % 2].code}" for nth in range(FRIENDS)]
        town.members = partners + await town.arrive(said)
        paid = await town.pay(await town.orders(PEOPLE), AT_ONCE_PER_S)
        assert {one.wanted.kind for one in paid} == set(get_args(Kind))
        assert await shop.rests(RESTS_WITHIN_S) == {}
        assert await counted(shop, paid, 0) == Count(payments=PEOPLE)
        yield Played(shop, paid)


@pytest.fixture(autouse=True)
async def whole_again(played: Played) -> AsyncIterator[None]:
    """What the next test sees is its own."""
    yield
    assert await played.count() == Count(payments=PEOPLE)


def says(count: Count, sentence: str) -> bool:
    return any(sentence in example for example in count.examples)


A_RECEIPT = "(select receipt from referrals.rewards where outcome = 'rewarded' order by seq limit 1)"
A_PAYER = "(select payer from referrals.rewards where outcome = 'rewarded' order by seq limit 1)"
A_PARTNER = "(select partner from referrals.rewards where percent > 0 group by partner having count(*) > 1 limit 1)"
A_GUEST = "(select person from vpn.subscriptions where state = 'live' limit 1)"

NOT_GRANTED = f"update vpn.grants set told_at = null where person = {A_GUEST}"
WORTH_LESS = f"update payments.bookings set value_minor = value_minor - 1 where receipt = {A_RECEIPT}"
DEARER = f"update payments.orders set price_minor = price_minor + 1 where person = {A_PAYER}"
ANOTHER_WAY = "update payments.entries set amount_minor = -amount_minor"
LESS_TAKEN = f"update payments.receipts set amount_minor = amount_minor - 1 where id = {A_RECEIPT}"
POORER = "update payments.accounts set balance_minor = balance_minor - 1 where balance_minor > 0"
RICHER = "update payments.accounts set balance_minor = balance_minor + 1 where balance_minor > 0"
OF_LESS = f"""
update referrals.rewards
set value_minor = 1000, reward_minor = 10 * percent
where receipt = {A_RECEIPT}
"""
OF_ANOTHER_LEVEL = f"""
update referrals.rewards
set percent = 25, reward_minor = value_minor * 25 / 100
where receipt = {A_RECEIPT}
"""
OF_NO_CHARGE = f"""
insert into payments.receipts (id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
select gen_random_uuid(), acquirer, 'untaken', payer, currency, amount_minor, payload, digest, paid_at
from payments.receipts
where id = {A_RECEIPT}
"""
GIVEN_UP = "update bot.updates set state = 'failed', reason = 'hurt' where state = 'done'"
OUT_OF_REACH = f"update bot.people set reachable = false where person = {A_PAYER}"
UNBOUND = f"update referrals.people set partner = null where person = {A_PAYER}"
OF_SOMEBODY_ELSE = "update notifier.deliveries set cause = cause || '?' where kind = 'friend_registered'"
ANOTHER_KEY = f"update vpn.subscriptions set key = gen_random_uuid() where person = {A_GUEST}"
ENDED = f"update vpn.subscriptions set state = 'ended' where person = {A_GUEST}"
IN_NO_CHAT = f"update notifier.deliveries set message_id = 0 where kind = 'access_ready' and person = {A_GUEST}"
IN_ONE_MESSAGE = f"""
update notifier.deliveries d
set message_id = (
  select min(message_id) from notifier.deliveries where person = d.person and kind = 'reward_earned'
)
where kind = 'reward_earned' and person = {A_PARTNER}
"""
MAY_BE_TWICE = "alter table notifier.deliveries drop constraint messages_are_written_once"
TWICE = """
insert into notifier.deliveries
  (id, person, cause, kind, lane, story, rank, details, state, not_before, message_id, settled_at)
select gen_random_uuid(), person, cause, kind, lane, story, rank, details, state, not_before, message_id, settled_at
from notifier.deliveries
where kind = '{kind}'
"""


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (NOT_GRANTED, "lacks ['granted']"),
        (WORTH_LESS, "worth_minor is"),
        (DEARER, "price_minor is"),
        (ANOTHER_WAY, "lacks ['stars']"),
        (LESS_TAKEN, "was taken as"),
        (POORER, "came and went"),
        (OF_LESS, "reward_minor is"),
        (OF_ANOTHER_LEVEL, "it earned by percent"),
        (GIVEN_UP, "failed: hurt"),
        (OUT_OF_REACH, "who arrived"),
        (UNBOUND, "who arrived"),
        (OF_SOMEBODY_ELSE, "who arrived"),
        (ANOTHER_KEY, "the node lets it in"),
        (IN_NO_CHAT, "where access_ready was sent"),
        (IN_ONE_MESSAGE, "is two deliveries"),
    ],
)
async def test_what_the_shop_lacks_is_lost(played: Played, statement: str, sentence: str) -> None:
    count = await played.hurt(statement)
    assert count.lost
    assert says(count, sentence), count.examples


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        ([RICHER], "came and went"),
        ([OF_NO_CHARGE], "was taken as None"),
        ([ENDED], "has a key: False, and the node lets it in: True"),
        ([MAY_BE_TWICE, TWICE.format(kind="access_ready")], "has too often ['keys']"),
        ([MAY_BE_TWICE, TWICE.format(kind="reward_earned")], "has too often ['rewards_told']"),
        ([MAY_BE_TWICE, TWICE.format(kind="friend_registered")], "who arrived"),
    ],
)
async def test_what_the_shop_has_too_often_is_doubled(played: Played, statements: list[str], sentence: str) -> None:
    count = await played.hurt(*statements)
    assert count.doubled
    assert says(count, sentence), count.examples


# In the sandbox's own file.
TAKEN_UNHEARD = """
insert into star_transactions (charge, direction, person_id, amount, payload, made_at)
select 'unheard', direction, person_id, amount, payload, made_at
from star_transactions
limit 1
"""
UNTAKEN = "delete from star_transactions where charge = 'unheard'"
SWAPPED = "update messages set chat_id = -chat_id where abs(chat_id) = {chat}"
SAID_AGAIN = """
insert into messages (message_id, chat_id, author, sent_at, body)
select 9999999, chat_id, author, sent_at, json_set(body, '$.message_id', 9999999)
from messages
where author = 'bot' and json_extract(body, '$.text') like '👋 A friend%'
limit 1
"""
UNSAID = "delete from messages where message_id = 9999999"


async def test_a_charge_that_the_shop_never_heard_of_is_lost(played: Played) -> None:
    with played.telegram(TAKEN_UNHEARD, UNTAKEN):
        count = await played.count()
    assert count.lost
    assert says(count, "charge unheard was taken as")


async def test_a_chat_that_is_empty_has_lost_its_messages(played: Played) -> None:
    chat = played.paid[0].wanted.member.chat
    swapped = SWAPPED.format(chat=chat)
    with played.telegram(swapped, swapped):
        count = await played.count()
    assert count.lost
    assert says(count, f"chat {chat} shows ''")


async def test_a_message_of_no_delivery_was_said_again(played: Played) -> None:
    with played.telegram(SAID_AGAIN, UNSAID):
        count = await played.count()
    assert (count.lost, count.doubled, count.said_again) == (0, 0, 1)


async def test_who_is_not_on_the_node_is_lost_and_a_stranger_there_is_doubled(played: Played) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    guest, *_ = [Wanted(row["person"], row["key"], later) for row in await played.shop.asked(LIVE)]
    stranger = Wanted(uuid4(), uuid4(), later)
    async with played.node() as node:
        await node.remove([guest.person_id])
        await node.ensure([stranger])
        try:
            count = await played.count()
        finally:
            await node.remove([stranger.person_id])
            await node.ensure([guest])
    assert (count.lost, count.doubled) == (1, 1)
    assert says(count, f"{guest.person_id} has a key: True, and the node lets it in: False")
    assert says(count, f"{stranger.person_id} has a key: False, and the node lets it in: True")


async def test_who_counts_looks_again_when_its_session_ends(played: Played) -> None:
    """M-17, of the proof itself: whichever half of the farewell has arrived when it asks."""
    shop = played.shop
    for turns_of_the_loop in range(5):
        end_session_unseen(shop.postgres.dsn(), await shop.asked_one("select pg_backend_pid()"))
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        assert await shop.asked_one("select 1") == 1
