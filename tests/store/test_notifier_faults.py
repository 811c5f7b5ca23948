"""Messages while processes die, Telegram stumbles and workers race: none is lost, none is sent twice in peace."""

import asyncio
from datetime import timedelta
from uuid import uuid4

from notifier import store
from notifier.store import LEASE_S
from notifier.subscribers import (
    notifier_follows_people,
    notifier_tells_confirmed,
    notifier_tells_granted,
    notifier_tells_registered,
    notifier_tells_rewards,
)
from tests.kit.notifier import (
    NOW,
    DiesAfterSaying,
    RefusedAndHeld,
    Shop,
    Slow,
    broken,
    changed,
    confirmed,
    granted,
    key_of,
    registered,
    rewarded,
    said,
)


async def test_a_crash_between_sending_and_marking_sends_again(shop: Shop) -> None:
    """N-01: at least once; the claim of a dead process ends by itself."""
    person, chat = await shop.person()
    dying = DiesAfterSaying(shop.sandbox.url)
    async with shop.courier(telegram=dying, dies=True):
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await dying.said.wait()
    assert await shop.states(person) == {"access_ready": "claimed"}
    async with shop.courier() as courier:
        await courier.has_looked()
        holder = await shop.database.fetchval("select claim from recipients where person = $1", person)
        assert holder not in (None, courier.worker), "the lease holds"
        assert len(await said(chat)) == 1
        await shop.time_passes(6)
        await shop.at_rest(person)
    assert len(await said(chat)) == 2
    assert await shop.states(person) == {"access_ready": "sent"}


async def test_a_crash_between_editing_and_marking_shows_one_message(shop: Shop) -> None:
    """N-01: an edit is repeated without harm."""
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await shop.hear(notifier_tells_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        await shop.at_rest(person)
    dying = DiesAfterSaying(shop.sandbox.url)
    await shop.hear(notifier_tells_granted, granted(person, order))
    await shop.time_passes(1)
    async with shop.courier(telegram=dying, dies=True):
        await dying.said.wait()
    await shop.time_passes(6)
    async with shop.courier():
        await shop.at_rest(person)
    (message,) = await said(chat)
    assert message.code == [key_of(person)]


async def test_an_answer_that_was_lost_is_asked_for_again(shop: Shop) -> None:
    """N-01: a message that may not have arrived is sent again, and ends as sent."""
    person, chat = await shop.person()
    await shop.client.stumble("lost", method="sendMessage")
    async with shop.courier():
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await shop.at_rest(person)
    assert len(await said(chat)) == 2
    assert await shop.states(person) == {"access_ready": "sent"}


async def test_patience_that_telegram_asks_for_holds_everybody_back_and_loses_nothing(shop: Shop) -> None:
    """W-20: `retry_after` is honoured, and shared by every worker."""
    people = [await shop.person() for _ in range(6)]
    (first, first_chat), *others = people
    loop = asyncio.get_running_loop()
    await shop.client.stumble("429", method="sendMessage", retry_after_s=2)
    async with shop.courier(), shop.courier():
        began = loop.time()
        await shop.hear(notifier_tells_rewards, rewarded(first))
        await shop.until("select paused_until > now() from buckets")
        await shop.hear(notifier_tells_rewards, *(rewarded(person) for person, _ in others))
        await asyncio.sleep(1)
        assert [await said(chat) for _, chat in people] == [[]] * 6
        await shop.at_rest(*(person for person, _ in people))
        assert loop.time() - began >= 2
    assert [len(await said(chat)) for _, chat in people] == [1] * 6
    assert await shop.database.fetchval("select max(tries) from deliveries where person = $1", first) == 0
    assert first_chat.first_name == "Ann"


async def test_two_workers_share_one_bucket(shop: Shop) -> None:
    people = [await shop.person() for _ in range(30)]
    loop = asyncio.get_running_loop()
    async with shop.courier(per_s=20), shop.courier(per_s=20):
        began = loop.time()
        await shop.hear(notifier_tells_rewards, *(rewarded(person) for person, _ in people))
        await shop.at_rest(*(person for person, _ in people))
    assert loop.time() - began >= (30 - 5 - 1) / 20


async def test_ten_claims_at_once_take_no_more_than_the_bucket_holds(shop: Shop) -> None:
    people = [(await shop.person())[0] for _ in range(30)]
    await shop.hear(notifier_tells_rewards, *(rewarded(person) for person in people))

    async def claim() -> int:
        async with shop.database.transaction() as tx:
            return len((await store.claim(uuid4(), (), 30, 0.01, tx)).deliveries)

    assert sum(await asyncio.gather(*(claim() for _ in range(10)))) == 1
    await shop.time_passes(LEASE_S)
    async with shop.courier():
        await shop.at_rest(*people)


async def test_who_blocked_the_bot_is_left_alone_until_he_comes_back(shop: Shop) -> None:
    """N-15, W-20."""
    person, chat = await shop.person()
    await chat.block()
    async with shop.courier():
        await shop.hear(notifier_tells_rewards, rewarded(person))
        await shop.at_rest(person)
        await chat.unblock()  # Nobody told us yet, and nobody asks.
        await shop.hear(notifier_tells_registered, registered(person))
        await shop.at_rest(person)
        assert await said(chat) == []
        assert await shop.states(person) == {"reward_earned": "unreachable", "friend_registered": "unreachable"}
        await shop.hear(notifier_follows_people, changed(person, reachable=True))
        await shop.hear(notifier_tells_rewards, rewarded(person))
        await chat.hears("earned")


async def test_who_pays_is_written_to_whatever_was_known_of_his_door(shop: Shop) -> None:
    """N-15."""
    person, chat = await shop.person()
    await shop.hear(notifier_follows_people, changed(person, reachable=False))
    async with shop.courier():
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert await shop.database.fetchval("select reachable from recipients where person = $1", person)


async def test_who_comes_back_gets_the_key_and_the_receipts_he_missed_and_nothing_else(shop: Shop) -> None:
    """N-15: paid, blocked us at once, and is back: the key, no "being issued" after it, and no old news."""
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await chat.block()
        await shop.hear(notifier_tells_confirmed, confirmed(person, order), confirmed(person))
        await shop.hear(notifier_tells_rewards, rewarded(person))
        for _ in range(4):
            await shop.time_passes(3)
            await asyncio.sleep(0.05)
        await shop.at_rest(person)
        await shop.hear(notifier_tells_granted, granted(person, order))
        await shop.time_passes(1)
        await shop.at_rest(person)
        await chat.unblock()
        await shop.hear(notifier_follows_people, changed(person, reachable=True))
        await chat.hears("Your access is ready")
        await shop.time_passes(1)
        await chat.hears("which now holds")
        await shop.at_rest(person)
    assert len(await said(chat)) == 2
    assert await shop.states(person) == {
        "paid_issuing": "superseded",
        "access_ready": "sent",
        "topped_up": "sent",
        "reward_earned": "unreachable",
    }


async def test_a_key_of_long_ago_is_not_sent_to_who_comes_back(shop: Shop) -> None:
    """N-15: after a week the key is where he looks for it, in his access."""
    person, chat = await shop.person()
    async with shop.courier():
        await chat.block()
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await shop.at_rest(person)
        await shop.database.execute(
            "update deliveries set written_at = now() - interval '8 days' where person = $1", person
        )
        await chat.unblock()
        await shop.hear(notifier_follows_people, changed(person, reachable=True))
    assert await shop.states(person) == {"access_ready": "unreachable"}


async def test_who_comes_back_while_his_door_is_being_tried_is_written_to(shop: Shop) -> None:
    """N-15: the return was heard of before the refusal was written down."""
    person, chat = await shop.person()
    await chat.block()
    refused = RefusedAndHeld(shop.sandbox.url)
    async with shop.courier(telegram=refused):
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await refused.refused.wait()
        await chat.unblock()
        await shop.hear(notifier_follows_people, changed(person, reachable=True))
        refused.may_go.set()
        await shop.time_passes(1)
        await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert await shop.database.fetchval("select reachable from recipients where person = $1", person)


async def test_a_message_that_telegram_will_never_take_fails_with_its_reason_and_is_told(shop: Shop) -> None:
    person, _ = await shop.person(started=False)
    async with shop.courier():
        await shop.hear(notifier_tells_rewards, rewarded(person))
        await shop.at_rest(person)
    assert await shop.states(person) == {"reward_earned": "failed"}
    row = await shop.database.fetchrow(
        "select body ->> 'kind' as kind, body ->> 'reason' as reason from facts where body ->> 'about' = $1",
        str(person),
    )
    assert row is not None
    assert (row["kind"], row["reason"]) == ("reward_earned", "Bad Request: chat not found")


async def test_a_key_that_was_given_up_is_a_finding_until_a_later_one_is_said(shop: Shop) -> None:
    """I6: whoever paid has his key; a message that Telegram will not take leaves him without, and the audit says so."""
    person, chat = await shop.person(started=False)
    async with shop.courier():
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await shop.at_rest(person)
        [found] = await broken(shop)
        assert (found.invariant, found.truth) == ("I6", "no key and no receipt was given up")
        assert found.examples == (f"access_ready of person {person}: Bad Request: chat not found",)
        await chat.say("/start")
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await shop.time_passes(1)
        await shop.at_rest(person)
    assert await broken(shop) == []


async def test_a_fault_of_telegrams_is_outlived(shop: Shop) -> None:
    people = [await shop.person() for _ in range(5)]
    await shop.client.stumble("500", calls=4)
    async with shop.courier():
        await shop.hear(notifier_tells_granted, *(granted(person, uuid4()) for person, _ in people))
        await shop.client.go_down(1)
        await shop.at_rest(*(person for person, _ in people))
    assert [len(await said(chat)) for _, chat in people] == [1] * 5


async def test_a_key_that_is_not_there_yet_is_waited_for(shop: Shop) -> None:
    person, chat = await shop.person()
    shop.neighbours.issuing.add(person)
    async with shop.courier():
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await shop.until("select waits > 0 from deliveries where person = $1", person)
        assert await said(chat) == []
        shop.neighbours.issuing.clear()
        await shop.time_passes(5)
        await chat.hears("Your access is ready")


async def test_whom_nobody_knows_yet_holds_up_nobody(shop: Shop) -> None:
    """Where nothing was said the token goes back: there is but one in a hundred seconds here."""
    stranger, (person, chat) = uuid4(), await shop.person()
    async with shop.courier(per_s=0.01):
        await shop.hear(notifier_tells_rewards, rewarded(stranger))
        await shop.until("select tries > 0 from deliveries where person = $1", stranger)
        await shop.hear(notifier_tells_rewards, rewarded(person))
        await chat.hears("earned")
    shop.neighbours.recipients[stranger] = shop.neighbours.recipients[person]
    await shop.time_passes(300)
    async with shop.courier():
        await shop.at_rest(stranger, person)


async def test_a_person_is_asked_for_once(shop: Shop) -> None:
    person, chat = await shop.person()
    async with shop.courier():
        for _ in range(3):
            await shop.hear(notifier_tells_rewards, rewarded(person))
        for _ in range(3):
            await asyncio.sleep(0.2)
            await shop.time_passes(1)
        await shop.at_rest(person)
    assert len(await said(chat)) == 3
    assert shop.neighbours.asked_recipients.count(person) == 1


async def test_what_was_told_of_a_person_outlasts_what_was_asked_and_older_news(shop: Shop) -> None:
    """N-07: the language is the newest one, in whatever order it became known."""
    person, chat = await shop.person(language="en")
    earlier = changed(person, language="en", at=NOW - timedelta(hours=1))
    await shop.hear(notifier_follows_people, changed(person, language="ru"), earlier)
    await shop.hear(notifier_follows_people, earlier)
    async with shop.courier():
        await shop.hear(notifier_tells_registered, registered(person))
        await shop.at_rest(person)
        await shop.hear(notifier_tells_rewards, rewarded(person))
        await chat.hears("Вам начислено")


async def test_one_chat_gets_one_message_a_second_and_its_key_first(shop: Shop) -> None:
    person, chat = await shop.person()
    loop = asyncio.get_running_loop()
    await shop.hear(notifier_tells_rewards, *(rewarded(person) for _ in range(3)))
    await shop.hear(notifier_tells_granted, granted(person, uuid4()))
    async with shop.courier():
        began = loop.time()
        await shop.at_rest(person)
        assert loop.time() - began >= 3
    heard = await said(chat)
    assert len(heard) == 4
    assert heard[0].code == [key_of(person)]


async def test_two_workers_never_send_one_message_twice(shop: Shop) -> None:
    """W-08: a claim is a row, locked in a transaction."""
    people = [await shop.person() for _ in range(100)]
    async with shop.courier(), shop.courier():
        for start in range(0, 100, 10):
            await shop.hear(
                notifier_tells_granted, *(granted(person, uuid4()) for person, _ in people[start : start + 10])
            )
        await shop.at_rest(*(person for person, _ in people))
    assert [len(await said(chat)) for _, chat in people] == [1] * 100


async def test_a_slow_call_keeps_its_claim(shop: Shop) -> None:
    """W-02: no transaction is open meanwhile, and no other worker thinks that the first one died."""
    person, chat = await shop.person()
    slow = Slow(shop.sandbox.url)
    async with shop.courier(telegram=slow):
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await slow.began.wait()
        async with shop.courier():
            await asyncio.sleep(LEASE_S + 1)
            assert await said(chat) == []
            slow.may_go.set()
            await shop.at_rest(person)
    assert len(await said(chat)) == 1


async def test_a_verdict_that_comes_after_its_lease_changes_nothing(shop: Shop) -> None:
    """Whoever took the chat over decides; to the person it is a second message at worst."""
    person, chat = await shop.person()
    slow, other = Slow(shop.sandbox.url), uuid4()
    async with shop.courier(telegram=slow):
        await shop.hear(notifier_tells_granted, granted(person, uuid4()))
        await slow.began.wait()
        taken = "update recipients set claim = $2, due_at = now() + interval '1 hour' where person = $1"
        await shop.database.execute(taken, person, other)
        slow.may_go.set()
        await chat.hears("Your access is ready")
    assert await shop.states(person) == {"access_ready": "claimed"}
    assert await shop.database.fetchval("select claim from recipients where person = $1", person) == other
    await shop.time_passes(3600)
    async with shop.courier():
        await shop.at_rest(person)
