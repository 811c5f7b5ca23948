"""All messages about a purchase appear as one message in the chat, for any order of events."""

import asyncio
from uuid import uuid4

import pytest

from notifier.store.claims import LEASE_S
from notifier.subscribers import (
    notifier_notifies_confirmed,
    notifier_notifies_granted,
    notifier_notifies_rewards,
)
from notifier.workers import dispatcher
from tests.kit.notifier import (
    ISSUING_AFTER_S,
    HeldCall,
    Shop,
    confirmed,
    delete,
    granted,
    key_of,
    received,
    rewarded,
)

ONE_MESSAGE = {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_a_purchase_gives_one_message_with_the_key(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.handle(notifier_notifies_granted, granted(person, order))
        message = await chat.receives("Your access is ready")
        await shop.settled(person)
    assert message.code == [key_of(person)]
    assert "22 December 2026, 12:00 UTC" in message.text
    assert [button.data for button in message.buttons] == ["go:qr", "go:access"]
    assert len(await received(chat)) == 1
    assert await shop.states(person) == ONE_MESSAGE


async def test_a_grant_before_its_payment_gives_one_message(shop: Shop) -> None:
    person, chat = await shop.person(language="ru")
    order = uuid4()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await chat.receives("Доступ готов")
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.settled(person)
        await shop.time_passes(60)
    assert len(await received(chat)) == 1
    assert await shop.states(person) == ONE_MESSAGE


async def test_the_key_waits_for_no_poll(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 3600.0)
    person, chat = await shop.person()
    async with shop.dispatcher() as worker:
        await worker.has_looked()
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await chat.receives("Your access is ready")


async def test_the_issuing_message_is_edited_into_the_key(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.time_passes(ISSUING_AFTER_S)
        first = await chat.receives("is being set up")
        await shop.settled(person)
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await shop.time_passes(1)
        second = await chat.receives("Your access is ready")
        await shop.settled(person)
    assert first.id == second.id
    assert len(await received(chat)) == 1
    assert await shop.states(person) == {"paid_issuing": "sent", "access_ready": "sent"}


async def test_a_second_message_replaces_a_deleted_one(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.time_passes(ISSUING_AFTER_S)
        first = await chat.receives("is being set up")
        await shop.settled(person)
        await delete(shop, chat, first)
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await shop.time_passes(1)
        second = await chat.receives("Your access is ready")
        await shop.settled(person)
    assert second.id != first.id
    reason = await shop.database.fetchval(
        "select reason from deliveries where person = $1 and kind = 'access_ready'", person
    )
    assert "message to edit not found" in reason


async def test_the_key_edits_a_message_in_flight(shop: Shop) -> None:
    """The two are never in flight together: the second needs the message id of the first."""
    person, chat = await shop.person()
    order, held = uuid4(), HeldCall(shop.sandbox.url)
    async with shop.dispatcher(telegram=held):
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.time_passes(ISSUING_AFTER_S)
        await held.began.wait()
        async with shop.dispatcher():
            await shop.handle(notifier_notifies_granted, granted(person, order))
            await asyncio.sleep(0.3)
            assert await received(chat) == []
            held.may_go.set()
            await shop.settled(person)
    (message,) = await received(chat)
    assert message.code == [key_of(person)]


async def test_the_key_supersedes_an_abandoned_message(shop: Shop) -> None:
    """A process died while it sent the first message, and the key itself is not ready yet."""
    person, chat = await shop.person()
    order, held = uuid4(), HeldCall(shop.sandbox.url)
    async with shop.dispatcher(telegram=held, dies=True):
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.time_passes(ISSUING_AFTER_S)
        await held.began.wait()
    shop.peers.issuing.add(person)
    await shop.handle(notifier_notifies_granted, granted(person, order))
    await shop.time_passes(LEASE_S)
    async with shop.dispatcher():
        await shop.becomes_true("select max(waits) > 0 from deliveries where person = $1", person)
        await shop.time_passes(1)
        await asyncio.sleep(0.2)
        assert await received(chat) == []
        shop.peers.issuing.clear()
        await shop.settled(person)
    (message,) = await received(chat)
    assert message.code == [key_of(person)]
    assert await shop.states(person) == ONE_MESSAGE


async def test_the_issuing_message_never_follows_the_key(shop: Shop) -> None:
    """It was under way when the key came, and Telegram answered 429."""
    person, chat = await shop.person()
    order, held = uuid4(), HeldCall(shop.sandbox.url)
    await shop.client.plan_fault("429", method="sendMessage", retry_after_s=1)
    async with shop.dispatcher(telegram=held):
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order))
        await shop.time_passes(ISSUING_AFTER_S)
        await held.began.wait()
        await shop.handle(notifier_notifies_granted, granted(person, order))
        held.may_go.set()
        await shop.settled(person)
    (message,) = await received(chat)
    assert message.code == [key_of(person)]
    assert await shop.states(person) == ONE_MESSAGE


async def test_repeated_events_give_one_message(shop: Shop) -> None:
    """N-02: a message is written once, however often its event is delivered."""
    person, chat = await shop.person()
    partner, partners_chat = await shop.person()
    order = uuid4()
    payment, access, reward = confirmed(person, order), granted(person, order), rewarded(partner)
    async with shop.dispatcher(), shop.dispatcher(), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(shop.handle(notifier_notifies_confirmed, payment, payment))
            group.create_task(shop.handle(notifier_notifies_granted, access, access))
            group.create_task(shop.handle(notifier_notifies_rewards, reward, reward))
        await chat.receives("Your access is ready")
        await partners_chat.receives("earned")
        await shop.settled(person, partner)
    assert (len(await received(chat)), len(await received(partners_chat))) == (1, 1)
