"""Faults of Telegram and of other services: no message is lost, and a rejection is reported."""

from uuid import UUID, uuid4

import pytest

from notifier.domain import deliveries
from notifier.store import buckets
from notifier.store.waits import WAITS
from notifier.subscribers import notifier_notifies_granted, notifier_notifies_rewards
from shared.platform.waits import pull_back
from tests.kit.notifier import TOKEN, BrokenWords, Shop, broken, granted, received, rewarded

FAILED_EVENT = """
select body ->> 'kind' as kind, body ->> 'reason' as reason
from events
where body ->> 'about' = $1
"""

PAUSED = "select paused_until > now() from recipients where person = $1"
STEPPED_BACK_BUCKET = """
update buckets
set tokens = 0, filled_at = now() + interval '1 day', paused_until = now() + interval '1 day'
"""
STEPPED_BACK_CHAT = """
update recipients
set due_at = now() + interval '1 day', called_at = now() + interval '1 day',
  paused_until = now() + interval '1 day'
where person = $1
"""
STEPPED_BACK_DELIVERIES = """
update deliveries set not_before = now() + interval '1 day' where person = $1
"""
WAITS_AFTER = """
select count(*) = 1 from deliveries where person = $1 and state = 'waiting' and unclear = $2
"""
RETRIED = "select bool_or(unclear > 0) from deliveries"


async def test_a_lost_answer_is_retried(shop: Shop) -> None:
    """N-01: a message that may not have arrived is sent again, and ends as sent."""
    person, chat = await shop.person()
    await shop.client.plan_fault("lost", method="sendMessage")
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.settled(person)
    assert len(await received(chat)) == 2
    assert await shop.states(person) == {"access_ready": "sent"}


async def test_a_429_pauses_only_its_chat(shop: Shop) -> None:
    """W-20: the messages of a busy chat wait, with their order; those of the others do not."""
    (busy, busy_chat), (other, other_chat) = await shop.person(), await shop.person()
    await shop.client.plan_fault("429", method="sendMessage", retry_after_s=600)
    async with shop.dispatcher(), shop.dispatcher():
        await shop.handle(notifier_notifies_rewards, rewarded(busy))
        await shop.becomes_true(PAUSED, busy)
        await shop.handle(notifier_notifies_granted, granted(busy, uuid4()))
        await shop.handle(notifier_notifies_granted, granted(other, uuid4()))
        await other_chat.receives("Your access is ready")
        await shop.settled(other)
        await shop.time_passes(500)
        assert await shop.database.fetchval(PAUSED, busy)
        assert await received(busy_chat) == []
        await shop.time_passes(101)
        await busy_chat.receives("Your access is ready")
        await shop.time_passes(1)
        await shop.settled(busy)
    assert len(await received(busy_chat)) == 2
    tries = "select max(tries) from deliveries where person = $1"
    assert await shop.database.fetchval(tries, busy) == 0


async def test_a_second_refused_chat_pauses_every_worker(shop: Shop) -> None:
    """W-20: the limit is the bot's then. `retry_after` is honoured, and nothing is lost."""
    people = [await shop.person() for _ in range(6)]
    refused, others = people[:2], people[2:]
    await shop.client.plan_fault("429", calls=2, method="sendMessage", retry_after_s=600)
    async with shop.dispatcher() as one, shop.dispatcher() as another:
        await shop.handle(notifier_notifies_rewards, *(rewarded(person) for person, _ in refused))
        await shop.becomes_true("select paused_until > now() from buckets")
        await shop.handle(notifier_notifies_rewards, *(rewarded(person) for person, _ in others))
        for dispatcher in (one, another):
            await dispatcher.has_looked(dispatcher.rounds + 2)
        assert [await received(chat) for _, chat in people] == [[]] * 6
        await shop.database.execute("update buckets set paused_until = now()")
        await shop.time_passes(600)
        await shop.settled(*(person for person, _ in people))
    assert [len(await received(chat)) for _, chat in people] == [1] * 6


async def test_the_same_chat_never_pauses_the_bot(shop: Shop) -> None:
    """W-20: nor does another chat that is refused after the first one's time."""
    busy, other = uuid4(), uuid4()

    async def paused_after(person: UUID) -> bool:
        async with shop.database.transaction() as tx:
            await buckets.record_refusal(person, 600, tx)
        return bool(await shop.database.fetchval("select paused_until > now() from buckets"))

    assert not await paused_after(busy)
    assert not await paused_after(busy)
    await shop.database.execute("update buckets set refused_until = now()")
    assert not await paused_after(other)
    assert await paused_after(busy)


async def test_a_pause_ends_when_the_clock_steps_back(shop: Shop) -> None:
    """W-20: no pause is longer than Telegram may ask for, and the state is in the database."""
    person, chat = await shop.person()
    await shop.handle(notifier_notifies_rewards, rewarded(person))
    await shop.database.execute(STEPPED_BACK_CHAT, person)
    await shop.database.execute(STEPPED_BACK_DELIVERIES, person)
    await shop.database.execute(STEPPED_BACK_BUCKET)
    async with shop.dispatcher():
        await pull_back(WAITS, shop.database)
        await chat.receives("earned")
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.time_passes(1)
        await shop.settled(person)
    assert len(await received(chat)) == 2


async def test_a_rejected_message_fails_and_is_published(shop: Shop) -> None:
    person, _ = await shop.person()
    async with shop.dispatcher(telegram=BrokenWords(TOKEN, shop.sandbox.url)):
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await shop.settled(person)
    assert await shop.states(person) == {"reward_earned": "failed"}
    row = await shop.database.fetchrow(FAILED_EVENT, str(person))
    assert row is not None
    assert row["kind"] == "reward_earned"
    assert "can't parse entities" in row["reason"]


async def test_a_lost_key_is_a_finding_until_resent(shop: Shop) -> None:
    """I6: every payer gets their key. The audit reports a key that Telegram rejected."""
    person, _ = await shop.person()
    async with shop.dispatcher(telegram=BrokenWords(TOKEN, shop.sandbox.url)):
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.settled(person)
    [found] = await broken(shop)
    assert (found.invariant, found.truth) == ("I6", "no key and no receipt was given up")
    [example] = found.examples
    assert example.startswith(f"access_ready of person {person}: Bad Request: can't parse")
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.time_passes(1)
        await shop.settled(person)
    assert await broken(shop) == []


async def test_an_unclear_key_is_tried_five_times(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N-01: the message may have arrived five times; a reward's message arrives once at most."""
    monkeypatch.setattr(deliveries, "UNCLEAR_PAUSES_S", (1000.0,) * 4)
    (payer, payer_chat), (partner, partner_chat) = await shop.person(), await shop.person()
    await shop.client.plan_fault("lost", calls=100, method="sendMessage")
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(payer, uuid4()))
        await shop.handle(notifier_notifies_rewards, rewarded(partner))
        for calls in range(1, 5):
            await shop.becomes_true(WAITS_AFTER, payer, calls)
            await shop.time_passes(1200)
        await shop.settled(payer, partner)
    assert (len(await received(payer_chat)), len(await received(partner_chat))) == (5, 1)
    assert await shop.states(payer) == {"access_ready": "unknown"}
    assert await shop.states(partner) == {"reward_earned": "unknown"}
    [found] = await broken(shop)
    assert found.truth == "no key and no receipt was given up"
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(payer, uuid4()))
        await shop.settled(payer)


async def test_an_outage_of_telegram_loses_nothing(shop: Shop) -> None:
    people = [await shop.person() for _ in range(5)]
    await shop.client.plan_fault("500", calls=4)
    async with shop.dispatcher():
        await shop.handle(
            notifier_notifies_granted, *(granted(person, uuid4()) for person, _ in people)
        )
        await shop.client.go_down(1)
        await shop.becomes_true(RETRIED)
        await shop.time_passes(100)
        await shop.settled(*(person for person, _ in people))
    assert [len(await received(chat)) for _, chat in people] == [1] * 5


async def test_a_message_waits_for_its_key(shop: Shop) -> None:
    person, chat = await shop.person()
    shop.peers.issuing.add(person)
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.becomes_true("select waits > 0 from deliveries where person = $1", person)
        assert await received(chat) == []
        shop.peers.issuing.clear()
        await shop.time_passes(5)
        await chat.receives("Your access is ready")


async def test_an_unknown_recipient_delays_no_other(shop: Shop) -> None:
    """The token of an attempt without a call returns: here there is one in a hundred seconds."""
    unknown, (person, chat) = uuid4(), await shop.person()
    async with shop.dispatcher(per_s=0.01):
        await shop.handle(notifier_notifies_rewards, rewarded(unknown))
        await shop.becomes_true("select tries > 0 from deliveries where person = $1", unknown)
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await chat.receives("earned")
    shop.peers.recipients[unknown] = shop.peers.recipients[person]
    await shop.time_passes(300)
    async with shop.dispatcher():
        await shop.settled(unknown, person)
