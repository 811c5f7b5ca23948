"""Dispatchers that race or die: no message is lost, and none is sent twice without a fault."""

import asyncio
from uuid import uuid4

import pytest

from notifier.store import claims
from notifier.store.claims import LEASE_S
from notifier.subscribers import (
    notifier_notifies_confirmed,
    notifier_notifies_granted,
    notifier_notifies_rewards,
)
from notifier.workers import dispatcher
from notifier.workers.dispatcher import claim
from tests.kit.notifier import (
    ISSUING_AFTER_S,
    HeldCall,
    LostAnswer,
    Shop,
    confirmed,
    granted,
    key_of,
    received,
    rewarded,
)

TAKE_OVER = """
update recipients
set claim = $2, due_at = now() + interval '1 hour'
where person = $1
"""
RENEWED = """
select due_at > now() + interval '50 seconds' from recipients where person = $1
"""
A_WHILE_S = 600.0
"""By so much the lease of a dead worker is lengthened: it must not end while a test looks."""


async def test_a_crash_after_sending_sends_again(shop: Shop) -> None:
    """N-01: at least once. The claim of a dead process ends with its lease."""
    person, chat = await shop.person()
    dying = LostAnswer(shop.sandbox.url)
    async with shop.dispatcher(telegram=dying, dies=True):
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await dying.sent.wait()
    assert await shop.states(person) == {"access_ready": "claimed"}
    await shop.time_passes(-A_WHILE_S)
    async with shop.dispatcher() as worker:
        await worker.has_looked()
        assert await shop.holder(person) not in (None, worker.worker), "the lease holds"
        assert len(await received(chat)) == 1
        await shop.time_passes(A_WHILE_S + LEASE_S)
        await shop.settled(person)
    assert len(await received(chat)) == 2
    assert await shop.states(person) == {"access_ready": "sent"}


async def test_a_crash_after_editing_shows_one_message(shop: Shop) -> None:
    """N-01: an edit may be repeated."""
    person, chat = await shop.person()
    order = uuid4()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.time_passes(ISSUING_AFTER_S)
        await shop.settled(person)
    dying = LostAnswer(shop.sandbox.url)
    await shop.handle(notifier_notifies_granted, granted(person, order))
    await shop.time_passes(1)
    async with shop.dispatcher(telegram=dying, dies=True):
        await dying.sent.wait()
    await shop.time_passes(6)
    async with shop.dispatcher():
        await shop.settled(person)
    (message,) = await received(chat)
    assert message.code == [key_of(person)]


async def test_two_workers_share_one_bucket(shop: Shop) -> None:
    people = [await shop.person() for _ in range(30)]
    loop = asyncio.get_running_loop()
    async with shop.dispatcher(per_s=20), shop.dispatcher(per_s=20):
        began = loop.time()
        await shop.handle(notifier_notifies_rewards, *(rewarded(person) for person, _ in people))
        await shop.settled(*(person for person, _ in people))
    assert loop.time() - began >= (30 - 5 - 1) / 20


async def test_ten_claims_share_one_token(shop: Shop) -> None:
    people = [(await shop.person())[0] for _ in range(30)]
    await shop.handle(notifier_notifies_rewards, *(rewarded(person) for person in people))

    async def claimed() -> int:
        async with shop.database.transaction() as tx:
            return len((await claim(uuid4(), (), 30, 0.01, tx)).deliveries)

    assert sum(await asyncio.gather(*(claimed() for _ in range(10)))) == 1
    await shop.time_passes(LEASE_S)
    async with shop.dispatcher():
        await shop.settled(*people)


async def test_a_chat_gets_its_key_first(shop: Shop) -> None:
    """And one message a second."""
    person, chat = await shop.person()
    loop = asyncio.get_running_loop()
    await shop.handle(notifier_notifies_rewards, *(rewarded(person) for _ in range(3)))
    await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
    async with shop.dispatcher():
        began = loop.time()
        await shop.settled(person)
        assert loop.time() - began >= 3
    messages = await received(chat)
    assert len(messages) == 4
    assert messages[0].code == [key_of(person)]


async def test_two_workers_send_each_message_once(shop: Shop) -> None:
    """W-08: a claim is a row, locked in a transaction."""
    people = [await shop.person() for _ in range(100)]
    async with shop.dispatcher(), shop.dispatcher():
        for start in range(0, 100, 10):
            await shop.handle(
                notifier_notifies_granted,
                *(granted(person, uuid4()) for person, _ in people[start : start + 10]),
            )
        await shop.settled(*(person for person, _ in people))
    assert [len(await received(chat)) for _, chat in people] == [1] * 100


async def test_a_slow_call_keeps_its_claim(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-02: no transaction is open during the call, and its lease is renewed."""
    monkeypatch.setattr(claims, "LEASE_S", 60.0)
    monkeypatch.setattr(dispatcher, "RENEW_EVERY_S", 0.1)
    person, chat = await shop.person()
    held = HeldCall(shop.sandbox.url)
    async with shop.dispatcher(telegram=held):
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await held.began.wait()
        async with shop.dispatcher():
            for _ in range(3):  # Twice the lease, and never all that is left of it.
                await shop.time_passes(40)
                await shop.becomes_true(RENEWED, person)
            assert await received(chat) == []
            held.may_go.set()
            await shop.settled(person)
    assert len(await received(chat)) == 1


async def test_a_verdict_after_its_lease_is_dropped(shop: Shop) -> None:
    """The new holder of the chat decides. At worst the person gets a second message."""
    person, chat = await shop.person()
    held, other = HeldCall(shop.sandbox.url), uuid4()
    async with shop.dispatcher(telegram=held):
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await held.began.wait()
        await shop.database.execute(TAKE_OVER, person, other)
        held.may_go.set()
        await chat.receives("Your access is ready")
    assert await shop.states(person) == {"access_ready": "claimed"}
    assert await shop.holder(person) == other
    await shop.time_passes(3600)
    async with shop.dispatcher():
        await shop.settled(person)
