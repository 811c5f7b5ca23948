"""What a person reads, on a real PostgreSQL and a stand-in for Telegram: one message, whichever fact comes first."""

import asyncio
import re
from datetime import timedelta
from uuid import uuid4

from notifier.store import LEASE_S
from notifier.subscribers import (
    notifier_tells_confirmed,
    notifier_tells_ended,
    notifier_tells_granted,
    notifier_tells_registered,
    notifier_tells_rewards,
)
from shared.facts import AccessEnded
from tests.kit.notifier import (
    NOW,
    Shop,
    Slow,
    confirmed,
    delete,
    granted,
    key_of,
    registered,
    rewarded,
    said,
)

# One message for one payment


async def test_paying_gives_one_message_with_the_key(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.hear(notifier_tells_granted, granted(person, order))
        message = await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert message.code == [key_of(person)]
    assert "22 December 2026, 12:00 UTC" in message.text
    assert [button.data for button in message.buttons] == ["go:access"]
    assert len(await said(chat)) == 1
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_a_grant_that_comes_before_its_payment_gives_the_same_one_message(shop: Shop) -> None:
    person, chat = await shop.person(language="ru")
    order = uuid4()
    async with shop.courier():
        await shop.hear(notifier_tells_granted, granted(person, order))
        await chat.hears("Доступ готов")
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.at_rest(person)
        await shop.time_passes(60)
    assert len(await said(chat)) == 1
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_the_key_leaves_at_once_and_waits_for_no_poll(shop: Shop) -> None:
    person, chat = await shop.person()
    async with shop.courier() as courier:
        await courier.has_looked()
        began = asyncio.get_running_loop().time()
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await chat.hears("Your access is ready")
        assert asyncio.get_running_loop().time() - began < 0.3


async def test_being_issued_is_edited_into_the_key(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        first = await chat.hears("is being issued")
        await shop.at_rest(person)
        await shop.hear(notifier_tells_granted, granted(person, order))
        await shop.time_passes(1)
        second = await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert first.id == second.id
    assert len(await said(chat)) == 1
    assert await shop.states(person) == {"paid_issuing": "sent", "access_ready": "sent"}


async def test_a_message_that_is_gone_is_followed_by_a_second_one(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        first = await chat.hears("is being issued")
        await shop.at_rest(person)
        await delete(shop, chat, first)
        await shop.hear(notifier_tells_granted, granted(person, order))
        await shop.time_passes(1)
        second = await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert second.id != first.id
    reason = await shop.database.fetchval(
        "select reason from deliveries where person = $1 and kind = 'access_ready'", person
    )
    assert "message to edit not found" in reason


async def test_a_key_that_comes_while_being_issued_is_under_way_takes_over_its_message(shop: Shop) -> None:
    """The two are never under way together: the second must know what the first became."""
    person, chat = await shop.person()
    order, slow = uuid4(), Slow(shop.sandbox.url)
    async with shop.courier(telegram=slow):
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        await slow.began.wait()
        async with shop.courier():
            await shop.hear(notifier_tells_granted, granted(person, order))
            await asyncio.sleep(0.3)
            assert await said(chat) == []
            slow.may_go.set()
            await shop.at_rest(person)
    (message,) = await said(chat)
    assert message.code == [key_of(person)]


async def test_what_a_dead_process_left_half_said_is_superseded_by_the_key(shop: Shop) -> None:
    """Also while the key itself is still being waited for."""
    person, chat = await shop.person()
    order, mute = uuid4(), Slow(shop.sandbox.url)
    async with shop.courier(telegram=mute, dies=True):
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        await mute.began.wait()
    shop.neighbours.issuing.add(person)
    await shop.hear(notifier_tells_granted, granted(person, order))
    await shop.time_passes(LEASE_S)
    async with shop.courier():
        await shop.until("select max(waits) > 0 from deliveries where person = $1", person)
        await shop.time_passes(1)
        await asyncio.sleep(0.2)
        assert await said(chat) == []
        shop.neighbours.issuing.clear()
        await shop.at_rest(person)
    (message,) = await said(chat)
    assert message.code == [key_of(person)]
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_being_issued_is_never_said_after_the_key(shop: Shop) -> None:
    """It was under way when the key came, and Telegram asked for patience."""
    person, chat = await shop.person()
    order, slow = uuid4(), Slow(shop.sandbox.url)
    await shop.client.stumble("429", method="sendMessage", retry_after_s=1)
    async with shop.courier(telegram=slow):
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        await slow.began.wait()
        await shop.hear(notifier_tells_granted, granted(person, order))
        slow.may_go.set()
        await shop.at_rest(person)
    (message,) = await said(chat)
    assert message.code == [key_of(person)]
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_the_same_facts_ten_times_are_one_message(shop: Shop) -> None:
    """N-02: whatever path a payment takes, its messages are written once."""
    person, chat = await shop.person()
    partner, partners_chat = await shop.person()
    order = uuid4()
    payment, access, reward = confirmed(person, order), granted(person, order), rewarded(partner)
    async with shop.courier(), shop.courier(), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(shop.hear(notifier_tells_confirmed, payment, payment))
            group.create_task(shop.hear(notifier_tells_granted, access, access))
            group.create_task(shop.hear(notifier_tells_rewards, reward, reward))
        await chat.hears("Your access is ready")
        await partners_chat.hears("earned")
        await shop.at_rest(person, partner)
    assert (len(await said(chat)), len(await said(partners_chat))) == (1, 1)


# Other messages


async def test_money_that_bought_nothing_is_shown_in_the_wallet(shop: Shop) -> None:
    """N-02: a top-up is told, too."""
    person, chat = await shop.person()
    async with shop.courier():
        await shop.hear(notifier_tells_confirmed, confirmed(person))
        assert "which now holds 149\u00a0₽" in (await chat.hears("received")).text
        await shop.hear(notifier_tells_confirmed, confirmed(person, missing_minor=5000))
        await shop.time_passes(1)
        assert "50\u00a0₽ is still missing" in (await chat.hears("still missing")).text


async def test_what_happened_at_one_moment_is_told_in_its_order_and_the_last_figure_is_the_last(shop: Shop) -> None:
    """N-16: the bus hands a batch over by ids, which are random; two batches may be written the wrong way round."""
    person, chat = await shop.person()
    earlier = confirmed(person, wallet_minor=100, at=NOW - timedelta(seconds=1))
    batch = [confirmed(person, wallet_minor=100 * (place + 2), place=place) for place in range(6)]
    await shop.hear(notifier_tells_confirmed, *sorted(batch, key=lambda fact: fact.id))
    await shop.hear(notifier_tells_confirmed, earlier)
    async with shop.courier():
        for told in range(1, 8):
            await shop.until("select count(*) = $2 from deliveries where person = $1 and state = 'sent'", person, told)
            await shop.time_passes(1)
    figures = [re.findall(r"holds (\d)", message.text) for message in await said(chat)]
    assert figures == [["1"], ["2"], ["3"], ["4"], ["5"], ["6"], ["7"]]


async def test_a_partner_hears_of_the_friend_and_of_the_reward(shop: Shop) -> None:
    """N-02, N-12."""
    partner, chat = await shop.person()
    async with shop.courier():
        await shop.hear(notifier_tells_registered, registered(partner))
        await chat.hears("A friend has joined")
        await shop.hear(notifier_tells_rewards, rewarded(partner))
        await shop.time_passes(1)
        assert "24 more, and you will get 25%" in (await chat.hears("14.90\u00a0₽ earned")).text


async def test_the_end_is_told_unless_access_was_renewed_meanwhile(shop: Shop) -> None:
    gone, chat = await shop.person()
    renewed, quiet_chat = await shop.person()
    shop.neighbours.ended.add(gone)
    async with shop.courier():
        for person in (gone, renewed):
            await shop.hear(
                notifier_tells_ended, AccessEnded.because(f"{person} {NOW}", about=person, at=NOW, ended_at=NOW)
            )
        await chat.hears("ended on 22 November 2026, 12:00 UTC")
        await shop.at_rest(gone, renewed)
    assert await said(quiet_chat) == []
    assert await shop.states(renewed) == {"access_ended": "superseded"}
