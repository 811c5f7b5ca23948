"""People who block the bot get nothing; after they unblock it, they get keys and receipts."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from notifier.subscribers import (
    notifier_follows_people,
    notifier_notifies_confirmed,
    notifier_notifies_granted,
    notifier_notifies_registered,
    notifier_notifies_rewards,
)
from tests.kit.notifier import (
    ISSUING_AFTER_S,
    NOW,
    CountingCalls,
    HeldAnswer,
    Shop,
    changed,
    confirmed,
    granted,
    received,
    registered,
    rewarded,
)

WRITTEN_LONG_AGO = """
update deliveries
set written_at = now() - interval '8 days'
where person = $1
"""

CALLS = "select (max(tries), max(waits)) from deliveries where person = $1"
TOPICS = "select topic from events where body ->> 'about' = $1 order by recorded_at"


async def topics_about(shop: Shop, person: UUID) -> list[str]:
    return [row["topic"] for row in await shop.database.fetch(TOPICS, str(person))]


async def test_a_person_who_blocked_gets_nothing(shop: Shop) -> None:
    """N-15, W-20: until bot-gateway publishes that they are reachable; nothing asks Telegram."""
    person, chat = await shop.person()
    await chat.block()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.settled(person)
        await chat.unblock()  # It is not published yet.
        await shop.handle(notifier_notifies_registered, registered(person))
        await shop.settled(person)
        assert await received(chat) == []
        assert await shop.states(person) == {
            "reward_earned": "unreachable",
            "friend_registered": "unreachable",
        }
        await shop.handle(notifier_follows_people, changed(person, reachable=True))
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await chat.receives("earned")


async def test_a_payer_is_tried_despite_a_known_block(shop: Shop) -> None:
    """N-15."""
    person, chat = await shop.person()
    await shop.handle(notifier_follows_people, changed(person, reachable=False))
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await chat.receives("Your access is ready")
        await shop.settled(person)
    assert await shop.reachable(person)


async def test_an_unblock_sends_missed_keys_and_receipts(shop: Shop) -> None:
    """N-15: the person paid and blocked the bot at once.

    They get the key, no "being issued" after it, and the reward, but no outdated message.
    """
    person, chat = await shop.person()
    order = uuid4()
    async with shop.dispatcher():
        await chat.block()
        await shop.handle(notifier_notifies_confirmed, confirmed(person, order), confirmed(person))
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.handle(notifier_notifies_registered, registered(person))
        for _ in range(5):
            await shop.time_passes(ISSUING_AFTER_S)
            await asyncio.sleep(0.05)
        await shop.settled(person)
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await shop.time_passes(1)
        await shop.settled(person)
        await chat.unblock()
        await shop.handle(notifier_follows_people, changed(person, reachable=True))
        await chat.receives("Your access is ready")
        await shop.time_passes(1)
        await chat.receives("which now holds")
        await shop.time_passes(1)
        await chat.receives("earned")
        await shop.settled(person)
    assert len(await received(chat)) == 3
    assert await shop.states(person) == {
        "paid_issuing": "superseded",
        "access_ready": "sent",
        "topped_up": "sent",
        "reward_earned": "sent",
        "friend_registered": "unreachable",
    }


async def test_an_unblock_sends_no_old_key(shop: Shop) -> None:
    """N-15: after a week the person looks for the key on the access screen."""
    person, chat = await shop.person()
    async with shop.dispatcher():
        await chat.block()
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.settled(person)
        await shop.database.execute(WRITTEN_LONG_AGO, person)
        await chat.unblock()
        await shop.handle(notifier_follows_people, changed(person, reachable=True))
    assert await shop.states(person) == {"access_ready": "unreachable"}


async def test_an_unblock_during_an_attempt_retries(shop: Shop) -> None:
    """N-15: the unblock was handled before the verdict "blocked" was written."""
    person, chat = await shop.person()
    await chat.block()
    held = HeldAnswer(shop.sandbox.url)
    async with shop.dispatcher(telegram=held):
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await held.answered.wait()
        await chat.unblock()
        await shop.handle(notifier_follows_people, changed(person, reachable=True))
        held.may_go.set()
        await shop.time_passes(1)
        await chat.receives("Your access is ready")
        await shop.settled(person)
    assert await shop.reachable(person)


@pytest.mark.parametrize("started", [True, False], ids=["deactivated", "never started"])
async def test_a_lost_chat_is_unreachable(shop: Shop, *, started: bool) -> None:
    """N-15: it costs one call, is no finding, and nothing is published as lost."""
    person, chat = await shop.person(started=started)
    if started:
        await chat.deactivate()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.settled(person)
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.settled(person)
    assert await shop.states(person) == {
        "access_ready": "unreachable",
        "reward_earned": "unreachable",
    }
    assert await shop.database.fetchval(CALLS, person) == (0, 0)
    assert await topics_about(shop, person) == ["notifier.recipient.refused"]


async def test_a_start_sends_what_waits_once(shop: Shop) -> None:
    """N-15: Telegram did not know the chat; now the person starts the bot."""
    person, chat = await shop.person(started=False)
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.time_passes(1)
        await shop.settled(person)
        await chat.say("/start")
        for minute in (1, 2):
            at = NOW + timedelta(minutes=minute)
            await shop.handle(notifier_follows_people, changed(person, reachable=True, at=at))
            await shop.time_passes(2)
            await shop.settled(person)
            await shop.time_passes(2)
            await shop.settled(person)
    assert len(await received(chat)) == 2
    assert set((await shop.states(person)).values()) == {"sent"}


async def test_a_refusal_without_a_block_is_undone(shop: Shop) -> None:
    """N-15: bot-gateway is told, and publishes the next visit of the person."""
    person, chat = await shop.person()
    await shop.client.plan_fault("403", method="sendMessage")
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.settled(person)
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.settled(person)
        assert await received(chat) == []
        assert await topics_about(shop, person) == ["notifier.recipient.refused"]
        await shop.handle(notifier_follows_people, changed(person, reachable=True))
        await shop.time_passes(1)
        await chat.receives("earned")
        await shop.time_passes(1)
        await shop.settled(person)
    assert len(await received(chat)) == 2


async def test_a_sent_key_proves_that_others_can_go(shop: Shop) -> None:
    """N-15: the payer is in the chat, whatever was known."""
    person, chat = await shop.person()
    await shop.client.plan_fault("403", method="sendMessage")
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.settled(person)
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.time_passes(1)
        await chat.receives("Your access is ready")
        await shop.time_passes(1)
        await chat.receives("earned")
        await shop.settled(person)
    assert len(await received(chat)) == 2


async def test_dead_chats_spend_no_token(shop: Shop) -> None:
    """W-40: 200 people who blocked the bot cost one call each, and no pace of the living."""
    dead = [await shop.person(started=False) for _ in range(200)]
    person, chat = await shop.person()
    await shop.handle(notifier_notifies_rewards, *(rewarded(each) for each, _ in dead))
    await shop.handle(notifier_notifies_rewards, rewarded(person))
    telegram = CountingCalls(shop.sandbox.url)
    # There is one token, and another one after a hundred seconds.
    async with shop.dispatcher(per_s=0.01, telegram=telegram):
        await chat.receives("earned", timeout_s=300)
    assert sorted(telegram.called) == sorted([*(lost.id for _, lost in dead), chat.id])
