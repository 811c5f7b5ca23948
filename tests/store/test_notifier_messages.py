"""The messages outside an order's thread: receipts, friends, rewards and the end of access."""

import re
from datetime import timedelta
from uuid import uuid4

from notifier.subscribers import (
    notifier_follows_people,
    notifier_notifies_confirmed,
    notifier_notifies_ended,
    notifier_notifies_granted,
    notifier_notifies_refunded,
    notifier_notifies_registered,
    notifier_notifies_rewards,
)
from shared.contracts.vpn import AccessEnded
from tests.kit.notifier import (
    NOW,
    Shop,
    changed,
    confirmed,
    granted,
    received,
    registered,
    rewarded,
)
from tests.kit.refunds import refunded

SENT = "select count(*) = $2 from deliveries where person = $1 and state = 'sent'"


async def test_a_top_up_shows_the_wallet(shop: Shop) -> None:
    """N-02: money that bought nothing has a message too."""
    person, chat = await shop.person()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_confirmed, confirmed(person))
        assert "which now holds 149\u00a0₽" in (await chat.receives("received")).text
        await shop.handle(notifier_notifies_confirmed, confirmed(person, missing_minor=5000))
        await shop.time_passes(1)
        assert "50\u00a0₽ still missing" in (await chat.receives("still missing")).text


async def test_messages_keep_the_order_of_their_events(shop: Shop) -> None:
    """N-16: events of one time are ordered by their positions, so the last balance is the newest.

    The broker orders a batch by random ids, and two batches may be written the wrong way round.
    """
    person, chat = await shop.person()
    earlier = confirmed(person, wallet_minor=100, at=NOW - timedelta(seconds=1))
    batch = [
        confirmed(person, wallet_minor=100 * (position + 2), position=position)
        for position in range(6)
    ]
    await shop.handle(notifier_notifies_confirmed, *sorted(batch, key=lambda event: event.id))
    await shop.handle(notifier_notifies_confirmed, earlier)
    async with shop.dispatcher():
        for count in range(1, 8):
            await shop.becomes_true(SENT, person, count)
            await shop.time_passes(1)
    figures = [re.findall(r"holds (\d)", message.text) for message in await received(chat)]
    assert figures == [["1"], ["2"], ["3"], ["4"], ["5"], ["6"], ["7"]]


async def test_a_partner_reads_of_friend_and_reward(shop: Shop) -> None:
    """N-02, N-12."""
    partner, chat = await shop.person()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_registered, registered(partner))
        await chat.receives("A friend has joined")
        await shop.handle(notifier_notifies_rewards, rewarded(partner))
        await shop.time_passes(1)
        assert "With 24 more you get 25%" in (await chat.receives("14.90\u00a0₽ earned")).text


async def test_a_renewed_access_has_no_end_message(shop: Shop) -> None:
    ended, chat = await shop.person()
    renewed, quiet_chat = await shop.person()
    shop.peers.ended.add(ended)
    async with shop.dispatcher():
        for person in (ended, renewed):
            await shop.handle(
                notifier_notifies_ended,
                AccessEnded.caused_by(f"{person} {NOW}", about=person, at=NOW, ended_at=NOW),
            )
        await chat.receives("ended on 22 November 2026, 12:00 UTC")
        await shop.settled(ended, renewed)
    assert await received(quiet_chat) == []
    assert await shop.states(renewed) == {"access_ended": "superseded"}


async def test_a_refund_has_one_message(shop: Shop) -> None:
    """R-68: however often it is published; the end that it brought has no message of its own."""
    person, chat = await shop.person()
    event = refunded(person, uuid4(), owed_minor=500, at=NOW)
    ended = AccessEnded.caused_by(
        f"{person} {NOW}", about=person, at=NOW, ended_at=NOW, refunded=True
    )
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_refunded, event, event)
        await shop.handle(notifier_notifies_refunded, event)
        await shop.handle(notifier_notifies_ended, ended)
        text = (await chat.receives("returned")).text
        await shop.settled(person)
    assert "99\u00a0⭐ returned" in text
    assert "5\u00a0₽ of this money" in text
    assert await shop.states(person) == {"refunded": "sent"}


async def test_the_key_of_gone_access_is_not_sent(shop: Shop) -> None:
    """R-67: a refund was faster than the message; it is superseded, and no lost key."""
    person, _ = await shop.person()
    shop.peers.gone.add(person)
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, uuid4()))
        await shop.settled(person)
    assert await shop.states(person) == {"access_ready": "superseded"}


async def test_a_recipient_is_queried_once(shop: Shop) -> None:
    person, chat = await shop.person()
    async with shop.dispatcher():
        for _ in range(3):
            await shop.handle(notifier_notifies_rewards, rewarded(person))
        for count in range(1, 4):
            await shop.becomes_true(SENT, person, count)
            await shop.time_passes(1)
    assert len(await received(chat)) == 3
    assert shop.peers.queried.count(person) == 1


async def test_the_newest_published_language_is_used(shop: Shop) -> None:
    """N-07: in whatever order the changes and the answer to the query arrive."""
    person, chat = await shop.person(language="en")
    earlier = changed(person, language="en", at=NOW - timedelta(hours=1))
    await shop.handle(notifier_follows_people, changed(person, language="ru"), earlier)
    await shop.handle(notifier_follows_people, earlier)
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_registered, registered(person))
        await shop.settled(person)
        await shop.handle(notifier_notifies_rewards, rewarded(person))
        await chat.receives("Вам начислено")
