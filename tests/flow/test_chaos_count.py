"""The count of the chaos matrix on a small real shop: exact as played, and off by each damage."""

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

from shared.contracts.catalogue import COMMANDS
from shared.contracts.message import Refused
from shared.contracts.payments import PlaceOrder
from tests.chaos.count import LIVE_KEYS, count_effects
from tests.chaos.counted import Count
from tests.chaos.load import ACQUIRERS, AT_ONCE_PER_S, Kind, Load, PaidPurchase
from tests.chaos.shop import Shop
from tests.chaos.triggers import NOTHING_THERE, harmless_command
from tests.kit.sessions import end_session_unseen
from vpn_provisioner.domain.panel import Wanted
from vpn_provisioner.panels.xray.panel import XrayPanel

PEOPLE, FRIENDS = 12, 4  # Two of each partner who has any: a chat gets one message a second.
SEED = 4  # It draws every kind of payment for twelve people.
QUIESCENT_WITHIN_S = 120.0


@dataclass
class Played:
    """A quiescent shop, and the payments that were made in it."""

    shop: Shop
    paid: list[PaidPurchase]

    async def count(self) -> Count:
        return await count_effects(self.shop, self.paid, 0)

    async def damaged(self, *statements: str) -> Count:
        """Count in a transaction that is rolled back: the services see none of the damage."""
        await self.shop.fetch("begin")
        try:
            for statement in statements:
                await self.shop.fetch(statement)
            return await self.count()
        finally:
            await self.shop.fetch("rollback")

    @contextmanager
    def stand_in(self, name: str, do: str, undo: str) -> Iterator[None]:
        """Change a stand-in's own data during the block: `sandbox`, `yookassa` or `cryptopay`."""
        file = self.shop.state_dir / "sandbox" / f"{name}.sqlite3"
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
        await shop.fetch(NOT_RECONCILED, shop.environment("bot")["TURNPIKE_BOT_TOKEN"])
        load = Load(shop, Random(SEED))
        partners = await load.register(["/start"] * (PEOPLE - FRIENDS))
        texts = [f"/start r_{partners[nth % 2].code}" for nth in range(FRIENDS)]
        load.buyers = partners + await load.register(texts)
        paid = await load.pay(await load.place_orders(PEOPLE), AT_ONCE_PER_S)
        assert {one.purchase.kind for one in paid} == set(get_args(Kind))
        assert {one.purchase.acquirer for one in paid} == set(ACQUIRERS.values())
        assert await shop.until_quiescent(QUIESCENT_WITHIN_S) == {}
        await shop.tills.watch()
        assert await shop.until_quiescent(QUIESCENT_WITHIN_S) == {}
        assert await count_effects(shop, paid, 0) == Count(payments=PEOPLE)
        yield Played(shop, paid)


@pytest.fixture(autouse=True)
async def undamaged(played: Played) -> AsyncIterator[None]:
    """Each test leaves the shop as it was, and lasts less than ten minutes."""
    await played.shop.fetch(STILL_HELD)
    yield
    assert await played.count() == Count(payments=PEOPLE)


# The walk over Telegram's listing would book the charge that a test adds there.
NOT_RECONCILED = """
insert into bot.star_walks (bot, since, holder, held_until)
values (split_part($1, ':', 1)::bigint, now(), gen_random_uuid(), now() + interval '10 minutes')
"""
STILL_HELD = "update bot.star_walks set held_until = now() + interval '10 minutes'"


def contains(count: Count, sentence: str) -> bool:
    return any(sentence in example for example in count.examples)


A_RECEIPT = (
    "(select receipt from referrals.rewards where outcome = 'rewarded' order by seq limit 1)"
)
A_PAYER = "(select payer from referrals.rewards where outcome = 'rewarded' order by seq limit 1)"
A_PARTNER = """(
  select partner
  from referrals.rewards
  where percent > 0
  group by partner
  having count(*) > 1
  limit 1
)"""
A_USER = "(select person from vpn.subscriptions where state = 'live' limit 1)"

NOT_GRANTED = f"update vpn.grants set announced_at = null where person = {A_USER}"
WORTH_LESS = (
    f"update payments.bookings set value_minor = value_minor - 1 where receipt = {A_RECEIPT}"
)
DEARER = f"update payments.orders set price_minor = price_minor + 1 where person = {A_PAYER}"
SIGN_FLIPPED = "update payments.entries set amount_minor = -amount_minor"
LESS_TAKEN = f"update payments.receipts set amount_minor = amount_minor - 1 where id = {A_RECEIPT}"
ANOTHER_CHARGE = """
update payments.receipts set charge = charge || '?' where acquirer = '{acquirer}'
"""
CLEARED_LESS = """
update payments.entries e
set amount_minor = amount_minor + 1
from payments.accounts a
where a.id = e.account and a.kind = 'clearing:{acquirer}'
"""
POORER = "update payments.accounts set balance_minor = balance_minor - 1 where balance_minor > 0"
RICHER = "update payments.accounts set balance_minor = balance_minor + 1 where balance_minor > 0"
SMALLER_REWARD = f"""
update referrals.rewards
set value_minor = 1000, reward_minor = 10 * percent
where receipt = {A_RECEIPT}
"""
OTHER_LEVEL = f"""
update referrals.rewards
set percent = 25, reward_minor = value_minor * 25 / 100
where receipt = {A_RECEIPT}
"""
RECEIPT_WITHOUT_CHARGE = f"""
insert into payments.receipts
  (id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
select gen_random_uuid(), acquirer, 'untaken', payer, currency, amount_minor, payload, digest,
  paid_at
from payments.receipts
where id = {A_RECEIPT}
"""
UPDATE_FAILED = "update bot.updates set state = 'failed', reason = 'damage' where state = 'done'"
UNREACHABLE = f"update bot.people set reachable = false where person = {A_PAYER}"
UNBOUND = f"update referrals.people set partner = null where person = {A_PAYER}"
OTHER_FRIEND = """
update notifier.deliveries set cause = cause || '?' where kind = 'friend_registered'
"""
OTHER_KEY = f"update vpn.subscriptions set key = gen_random_uuid() where person = {A_USER}"
ENDED = f"update vpn.subscriptions set state = 'ended' where person = {A_USER}"
IN_NO_CHAT = f"""
update notifier.deliveries
set message_id = 0
where kind = 'access_ready' and person = {A_USER}
"""
IN_ONE_MESSAGE = f"""
update notifier.deliveries d
set message_id = (
  select min(message_id)
  from notifier.deliveries
  where person = d.person and kind = 'reward_earned'
)
where kind = 'reward_earned' and person = {A_PARTNER}
"""
MAY_BE_TWICE = "alter table notifier.deliveries drop constraint messages_are_written_once"
TWICE = """
insert into notifier.deliveries
  (id, person, cause, kind, priority, thread, rank, details, state, not_before, message_id,
   settled_at)
select gen_random_uuid(), person, cause, kind, priority, thread, rank, details, state, not_before,
  message_id, settled_at
from notifier.deliveries
where kind = '{kind}'
"""


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (NOT_GRANTED, "lacks ['granted']"),
        (WORTH_LESS, "worth_minor is"),
        (DEARER, "price_minor is"),
        (SIGN_FLIPPED, "lacks ['cleared']"),
        (LESS_TAKEN, "was taken as"),
        (ANOTHER_CHARGE.format(acquirer="yookassa"), "was taken as"),
        (ANOTHER_CHARGE.format(acquirer="cryptobot"), "was taken as"),
        (CLEARED_LESS.format(acquirer="yookassa"), "lacks ['cleared']"),
        (CLEARED_LESS.format(acquirer="cryptobot"), "lacks ['cleared']"),
        (POORER, "holds"),
        (SMALLER_REWARD, "reward_minor is"),
        (OTHER_LEVEL, "it earned by percent"),
        (UPDATE_FAILED, "failed: damage"),
        (UNREACHABLE, "arrived, and is"),
        (UNBOUND, "arrived, and is"),
        (OTHER_FRIEND, "arrived, and is"),
        (OTHER_KEY, "the node lets them in"),
        (IN_NO_CHAT, "where access_ready was sent"),
        (IN_ONE_MESSAGE, "is two deliveries"),
    ],
)
async def test_missing_and_wrong_rows_are_lost(
    played: Played, statement: str, sentence: str
) -> None:
    count = await played.damaged(statement)
    assert count.lost
    assert contains(count, sentence), count.examples


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        ([RICHER], "holds"),
        ([RECEIPT_WITHOUT_CHARGE], "was taken as None"),
        ([ENDED], "has a key: False, and the node lets them in: True"),
        ([MAY_BE_TWICE, TWICE.format(kind="access_ready")], "has too often ['keys']"),
        ([MAY_BE_TWICE, TWICE.format(kind="reward_earned")], "has too often ['reward_messages']"),
        ([MAY_BE_TWICE, TWICE.format(kind="friend_registered")], "arrived, and is"),
    ],
)
async def test_surplus_rows_are_doubled(
    played: Played, statements: list[str], sentence: str
) -> None:
    count = await played.damaged(*statements)
    assert count.doubled
    assert contains(count, sentence), count.examples


# In the sandbox's own file.
TAKEN_UNREPORTED = """
insert into star_transactions (charge, direction, person_id, amount, payload, made_at)
select 'unreported', direction, person_id, amount, payload, made_at
from star_transactions
limit 1
"""
UNTAKEN = "delete from star_transactions where charge = 'unreported'"
SWAPPED = "update messages set chat_id = -chat_id where abs(chat_id) = {chat}"
SENT_AGAIN = """
insert into messages (message_id, chat_id, author, sent_at, body)
select 9999999, chat_id, author, sent_at, json_set(body, '$.message_id', 9999999)
from messages
where author = 'bot' and json_extract(body, '$.text') like '👋 A friend%'
limit 1
"""
UNSENT = "delete from messages where message_id = 9999999"


async def test_charge_without_receipt_is_lost(played: Played) -> None:
    with played.stand_in("sandbox", TAKEN_UNREPORTED, UNTAKEN):
        count = await played.count()
    assert count.lost
    assert contains(count, "charge unreported was taken as")


NOT_PAID = "update payments set status = 'unpaid' where status = 'succeeded'"
PAID = "update payments set status = 'succeeded' where status = 'unpaid'"


async def test_receipt_unknown_to_its_provider_is_doubled(played: Played) -> None:
    """The listing of every acquirer is compared, both ways."""
    with played.stand_in("yookassa", NOT_PAID, PAID):
        count = await played.count()
    assert count.doubled
    assert contains(count, "was taken as None")


async def test_messages_missing_in_a_chat_are_lost(played: Played) -> None:
    chat = played.paid[0].purchase.buyer.chat
    swapped = SWAPPED.format(chat=chat)
    with played.stand_in("sandbox", swapped, swapped):
        count = await played.count()
    assert count.lost
    assert contains(count, f"chat {chat} shows ''")


NO_REST = "update messages set body = replace(body, 'left over', 'LEFT OVER')"
REST_AGAIN = "update messages set body = replace(body, 'LEFT OVER', 'left over')"


async def test_unnamed_rest_of_a_payment_is_lost(played: Played) -> None:
    with played.stand_in("sandbox", NO_REST, REST_AGAIN):
        count = await played.count()
    assert count.lost
    assert contains(count, "does not name the rest")


async def test_message_without_delivery_was_sent_again(played: Played) -> None:
    with played.stand_in("sandbox", SENT_AGAIN, UNSENT):
        count = await played.count()
    assert (count.lost, count.doubled, count.sent_again) == (0, 0, 1)


async def test_users_of_the_node_are_compared(played: Played) -> None:
    """A user missing on the node is lost; an unknown user on the node is doubled."""
    later = datetime.now(UTC) + timedelta(days=1)
    rows = await played.shop.fetch(LIVE_KEYS)
    missing = Wanted(rows[0]["person"], rows[0]["key"], later)
    unknown = Wanted(uuid4(), uuid4(), later)
    async with played.node() as node:
        await node.remove([missing.person_id])
        await node.ensure([unknown])
        try:
            count = await played.count()
        finally:
            await node.remove([unknown.person_id])
            await node.ensure([missing])
    assert (count.lost, count.doubled) == (1, 1)
    in_database = f"{missing.person_id} has a key: True, and the node lets them in: False"
    on_node = f"{unknown.person_id} has a key: False, and the node lets them in: True"
    assert contains(count, in_database)
    assert contains(count, on_node)


async def test_fetch_survives_a_terminated_session(played: Played) -> None:
    """M-17, of the proof itself: whichever part of the server's farewell has arrived by then."""
    shop = played.shop
    for turns_of_the_loop in range(5):
        end_session_unseen(shop.postgres.dsn(), await shop.fetch_value("select pg_backend_pid()"))
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        assert await shop.fetch_value("select 1") == 1


async def test_harmless_commands_are_answered_as_expected(played: Played) -> None:
    """W-24: each is executed, or refused for a reason that a row of commands expects."""
    unexpected = {}
    for kind in COMMANDS:
        if kind is not PlaceOrder:
            answer = await played.shop.bus.execute(harmless_command(kind))
            if isinstance(answer, Refused) and answer.reason not in NOTHING_THERE:
                unexpected[kind.topic] = answer.reason
    assert unexpected == {}
