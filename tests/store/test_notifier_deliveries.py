"""Messages on a real PostgreSQL, a real NATS and a stand-in for Telegram: once, in order, whoever dies on the way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from notifier import store
from notifier.audit import CHECKS, COUNTS
from notifier.courier import Courier
from notifier.deliveries import Answer
from notifier.store import LEASE_S
from notifier.subscribers import (
    on_access_ended,
    on_access_granted,
    on_invitation_registered,
    on_payment_confirmed,
    on_person_changed,
    on_reward_earned,
)
from notifier.telegram import Telegram
from notifier.wording import Words
from shared.audit import audited
from shared.bus import Bus
from shared.contract import Fact, Refused
from shared.db import Database
from shared.facts import (
    AccessEnded,
    AccessGranted,
    Bought,
    InvitationRegistered,
    PaymentConfirmed,
    PersonChanged,
    Received,
    RewardEarned,
    Terms,
)
from shared.questions import Access, AskAccess, AskKey, AskRecipient, Key, Recipient
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import Message, PersonClient

from tests.kit.servers import MakeDatabase

TOKEN = "42:test"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ENDS_AT = datetime(2026, 12, 22, 12, tzinfo=UTC)
TERMS = Terms(plan="basic", months=1, devices=5, traffic_bytes=None, node_group="default", list_month_minor=14900)


@dataclass
class Neighbours:
    """What bot-gateway and vpn-provisioner answer; remembers what they were asked."""

    recipients: dict[UUID, Recipient] = field(default_factory=dict)
    ended: set[UUID] = field(default_factory=set)
    issuing: set[UUID] = field(default_factory=set)
    asked_recipients: list[UUID] = field(default_factory=list)

    async def recipient(self, question: AskRecipient) -> Recipient | Refused:
        self.asked_recipients.append(question.person)
        return self.recipients.get(question.person) or Refused(reason="person_unknown")

    async def key(self, question: AskKey) -> Key | Refused:
        if question.person in self.issuing:
            return Refused(reason="issuing")
        return Key(link=key_of(question.person), ends_at=ENDS_AT)

    async def access(self, question: AskAccess) -> Access:
        return Access(state="ended" if question.person in self.ended else "up")


def key_of(person: UUID) -> str:
    return f"vless://{person}@127.0.0.1:443?type=tcp&security=none#Turnpike"


@dataclass
class Shop:
    """The tables, the neighbours and the chats of one module of tests."""

    database: Database
    bus: Bus
    sandbox: Sandbox
    client: SandboxClient
    neighbours: Neighbours

    async def person(self, *, language: Any = "en", started: bool = True) -> tuple[UUID, PersonClient]:
        chat = await self.client.new_person("Ann", language=language)
        if started:
            await chat.say("/start")
        person = uuid4()
        self.neighbours.recipients[person] = Recipient(chat_id=chat.id, language=language, reachable=True)
        return person, chat

    @asynccontextmanager
    async def courier(
        self, *, per_s: float = 1000, telegram: Telegram | None = None, dies: bool = False
    ) -> AsyncIterator[Courier]:
        """A worker until the end of the block; then it finishes what is under way, or dies whatever it was doing."""
        voice, stopping = telegram or Telegram(TOKEN, self.sandbox.url), asyncio.Event()
        await voice.open()
        courier = Courier(self.database, self.bus, voice, per_s=per_s)
        running = asyncio.create_task(courier.run(stopping))
        try:
            yield courier
        finally:
            stopping.set()
            if dies:
                running.cancel()
            await asyncio.gather(running, return_exceptions=dies)
            await voice.close()

    async def hear(self, handle: Callable[..., Awaitable[None]], *facts: Fact) -> None:
        async with self.database.transaction() as tx:
            await handle(facts, tx)

    async def time_passes(self, seconds: float) -> None:
        """Everything that waits for a moment waits so much less."""
        passed = timedelta(seconds=seconds)
        async with self.database.transaction() as tx:
            await tx.execute(
                "update recipients set due_at = due_at - $1::interval, spoken_at = spoken_at - $1::interval", passed
            )
            await tx.execute(
                "update deliveries set not_before = not_before - $1::interval where state in ('waiting', 'claimed')",
                passed,
            )
        Courier.wake_all()

    async def states(self, person: UUID) -> dict[str, str]:
        rows = await self.database.fetch("select kind, state from deliveries where person = $1", person)
        return {row["kind"]: row["state"] for row in rows}

    async def at_rest(self, *people: UUID, timeout_s: float = 10) -> None:
        """Wait until nothing more is to be said to these people."""
        at_rest = "select count(*) = 0 from deliveries where person = any($1) and state in ('waiting', 'claimed')"
        await self.until(at_rest, list(people), timeout_s=timeout_s)

    async def until(self, sql: str, *args: object, timeout_s: float = 10) -> None:
        """Wait until the database answers yes."""
        async with asyncio.timeout(timeout_s):
            while not await self.database.fetchval(sql, *args):  # noqa: ASYNC110 - a table sets no event.
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
async def shop(
    fresh_database: MakeDatabase, nats_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    fresh = await fresh_database("notifier")
    neighbours = Neighbours()
    async with AsyncExitStack() as stack:
        limits = Limits(messages_per_s=1e6, messages_burst=10**6, chat_messages_per_s=1e6, chat_messages_burst=10**6)
        folder: Path = tmp_path_factory.mktemp("sandbox")
        sandbox = await stack.enter_async_context(Sandbox(folder, TOKEN, limits=limits))
        client = await stack.enter_async_context(SandboxClient(sandbox.url))
        database = Database(fresh.dsn("notifier_app"), name="test")
        await database.open()
        stack.push_async_callback(database.close)
        answering, asking = Bus(nats_url, "neighbours"), Bus(nats_url, "notifier")
        answering.answers(AskRecipient, neighbours.recipient)
        answering.answers(AskKey, neighbours.key)
        answering.answers(AskAccess, neighbours.access)
        for bus in (answering, asking):
            await bus.open()
            stack.push_async_callback(bus.close)
        yield Shop(database, asking, sandbox, client, neighbours)


@pytest.fixture(autouse=True)
async def _invariants_hold(shop: Shop) -> AsyncIterator[None]:
    """Every story ends with the invariants; facts wait for a relay that does not run here."""
    yield
    await shop.client.recover()
    await shop.database.execute("update buckets set paused_until = now(), tokens = 1")
    audit = await audited(shop.database, CHECKS, COUNTS)
    assert not [f for f in audit.findings if f.violations and f.truth != "no fact is waiting to be told"]


def confirmed(person: UUID, order: UUID | None = None, *, missing_minor: int = 0) -> PaymentConfirmed:
    bought = order and Bought(order=order, what="subscription", terms=TERMS, price_minor=14900)
    return PaymentConfirmed.because(
        f"telegram:{uuid4()}",
        about=person,
        at=NOW,
        received=Received(receipt=uuid4(), acquirer="telegram", charge="charge", value_minor=14900),
        bought=bought,
        booked_at=NOW,
        wallet_minor=0 if order else 14900,
        missing_minor=missing_minor,
    )


def granted(person: UUID, order: UUID) -> AccessGranted:
    return AccessGranted.because(order, about=person, at=NOW, order=order, plan="basic", devices=5, ends_at=ENDS_AT)


def registered(partner: UUID) -> InvitationRegistered:
    invitee = uuid4()
    return InvitationRegistered.because(invitee, about=partner, at=NOW, invitee=invitee)


def rewarded(partner: UUID) -> RewardEarned:
    receipt = uuid4()
    return RewardEarned.because(
        receipt,
        about=partner,
        at=NOW,
        receipt=receipt,
        invitee=uuid4(),
        percent=10,
        value_minor=14900,
        reward_minor=1490,
        paying=1,
        next_level_at=25,
        next_percent=25,
    )


def changed(person: UUID, *, language: Any = "en", reachable: bool = True, at: datetime = NOW) -> PersonChanged:
    return PersonChanged.because(uuid4(), about=person, at=at, language=language, reachable=reachable)


async def said(chat: PersonClient) -> list[Message]:
    return (await chat.chat()).from_bot


# One message for one payment


async def test_paying_gives_one_message_with_the_key(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await shop.hear(on_payment_confirmed, confirmed(person, order))
        await shop.hear(on_access_granted, granted(person, order))
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
        await shop.hear(on_access_granted, granted(person, order))
        await chat.hears("Доступ готов")
        await shop.hear(on_payment_confirmed, confirmed(person, order))
        await shop.at_rest(person)
        await shop.time_passes(60)
    assert len(await said(chat)) == 1
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_the_key_leaves_at_once_and_waits_for_no_poll(shop: Shop) -> None:
    person, chat = await shop.person()
    async with shop.courier():
        await asyncio.sleep(0.05)  # The courier has looked, found nothing and gone to sleep.
        began = asyncio.get_running_loop().time()
        await shop.hear(on_access_granted, granted(person, uuid4()))
        await chat.hears("Your access is ready")
        assert asyncio.get_running_loop().time() - began < 0.3


async def test_being_issued_is_edited_into_the_key(shop: Shop) -> None:
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await shop.hear(on_payment_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        first = await chat.hears("is being issued")
        await shop.at_rest(person)
        await shop.hear(on_access_granted, granted(person, order))
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
        await shop.hear(on_payment_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        first = await chat.hears("is being issued")
        await shop.at_rest(person)
        await delete(shop, chat, first)
        await shop.hear(on_access_granted, granted(person, order))
        await shop.time_passes(1)
        second = await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert second.id != first.id
    reason = await shop.database.fetchval(
        "select reason from deliveries where person = $1 and kind = 'access_ready'", person
    )
    assert "message to edit not found" in reason


async def delete(shop: Shop, chat: PersonClient, message: Message) -> None:
    url = f"{shop.sandbox.url}/bot{TOKEN}/deleteMessage"
    async with aiohttp.ClientSession() as session:
        answer = await session.post(url, json={"chat_id": chat.id, "message_id": message.id})
        assert answer.status == 200


async def test_a_key_that_comes_while_being_issued_is_under_way_takes_over_its_message(shop: Shop) -> None:
    """The two are never under way together: the second must know what the first became."""
    person, chat = await shop.person()
    order, slow = uuid4(), Slow(shop.sandbox.url)
    async with shop.courier(telegram=slow):
        await shop.hear(on_payment_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        await slow.began.wait()
        async with shop.courier():
            await shop.hear(on_access_granted, granted(person, order))
            await asyncio.sleep(0.3)
            assert await said(chat) == []
            slow.may_go.set()
            await shop.at_rest(person)
    (message,) = await said(chat)
    assert message.code == [key_of(person)]


async def test_being_issued_is_never_said_after_the_key(shop: Shop) -> None:
    """What a dead process left half said is superseded, not repeated."""
    person, chat = await shop.person()
    order, mute = uuid4(), Slow(shop.sandbox.url)
    async with shop.courier(telegram=mute, dies=True):
        await shop.hear(on_payment_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        await mute.began.wait()
    await shop.hear(on_access_granted, granted(person, order))
    await shop.time_passes(6)
    async with shop.courier():
        await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert len(await said(chat)) == 1
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


class Slow(Telegram):
    """A call that is on its way until it may go."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.began = asyncio.Event()
        self.may_go = asyncio.Event()

    async def say(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        self.began.set()
        await self.may_go.wait()
        return await super().say(chat_id, words, instead_of=instead_of)


async def test_the_same_facts_ten_times_are_one_message(shop: Shop) -> None:
    """N-02: whatever path a payment takes, its messages are written once."""
    person, chat = await shop.person()
    partner, partners_chat = await shop.person()
    order = uuid4()
    payment, access, reward = confirmed(person, order), granted(person, order), rewarded(partner)
    async with shop.courier(), shop.courier(), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(shop.hear(on_payment_confirmed, payment, payment))
            group.create_task(shop.hear(on_access_granted, access, access))
            group.create_task(shop.hear(on_reward_earned, reward, reward))
        await chat.hears("Your access is ready")
        await partners_chat.hears("earned")
        await shop.at_rest(person, partner)
    assert (len(await said(chat)), len(await said(partners_chat))) == (1, 1)


# Other messages


async def test_money_that_bought_nothing_is_shown_in_the_wallet(shop: Shop) -> None:
    """N-02: a top-up is told, too."""
    person, chat = await shop.person()
    async with shop.courier():
        await shop.hear(on_payment_confirmed, confirmed(person))
        assert "wallet now holds 149\u00a0₽" in (await chat.hears("received")).text
        await shop.hear(on_payment_confirmed, confirmed(person, missing_minor=5000))
        await shop.time_passes(1)
        assert "50\u00a0₽ is still missing" in (await chat.hears("still missing")).text


async def test_a_partner_hears_of_the_friend_and_of_the_reward(shop: Shop) -> None:
    """N-02, N-12."""
    partner, chat = await shop.person()
    async with shop.courier():
        await shop.hear(on_invitation_registered, registered(partner))
        await chat.hears("A friend came")
        await shop.hear(on_reward_earned, rewarded(partner))
        await shop.time_passes(1)
        assert "24 more, and you will earn 25 %" in (await chat.hears("14.90\u00a0₽ earned")).text


async def test_the_end_is_told_unless_access_was_renewed_meanwhile(shop: Shop) -> None:
    gone, chat = await shop.person()
    renewed, quiet_chat = await shop.person()
    shop.neighbours.ended.add(gone)
    async with shop.courier():
        for person in (gone, renewed):
            await shop.hear(on_access_ended, AccessEnded.because(f"{person} {NOW}", about=person, at=NOW, ended_at=NOW))
        await chat.hears("ended on 22 November 2026, 12:00 UTC")
        await shop.at_rest(gone, renewed)
    assert await said(quiet_chat) == []
    assert await shop.states(renewed) == {"access_ended": "superseded"}


# What goes wrong


async def test_a_crash_between_sending_and_marking_sends_again(shop: Shop) -> None:
    """N-01: at least once; the claim of a dead process ends by itself."""
    person, chat = await shop.person()
    dying = DiesAfterSaying(shop.sandbox.url)
    async with shop.courier(telegram=dying, dies=True):
        await shop.hear(on_access_granted, granted(person, uuid4()))
        await dying.said.wait()
    assert await shop.states(person) == {"access_ready": "claimed"}
    async with shop.courier():
        await asyncio.sleep(0.1)
        assert len(await said(chat)) == 1, "the lease holds"
        await shop.time_passes(6)
        await shop.at_rest(person)
    assert len(await said(chat)) == 2
    assert await shop.states(person) == {"access_ready": "sent"}


async def test_a_crash_between_editing_and_marking_shows_one_message(shop: Shop) -> None:
    """N-01: an edit is repeated without harm."""
    person, chat = await shop.person()
    order = uuid4()
    async with shop.courier():
        await shop.hear(on_payment_confirmed, confirmed(person, order))
        await shop.time_passes(3)
        await shop.at_rest(person)
    dying = DiesAfterSaying(shop.sandbox.url)
    await shop.hear(on_access_granted, granted(person, order))
    await shop.time_passes(1)
    async with shop.courier(telegram=dying, dies=True):
        await dying.said.wait()
    await shop.time_passes(6)
    async with shop.courier():
        await shop.at_rest(person)
    (message,) = await said(chat)
    assert message.code == [key_of(person)]


class DiesAfterSaying(Telegram):
    """Says it, and never hears that it was said."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.said = asyncio.Event()

    async def say(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        await super().say(chat_id, words, instead_of=instead_of)
        self.said.set()
        return await asyncio.Future()


async def test_an_answer_that_was_lost_is_asked_for_again(shop: Shop) -> None:
    """N-01: a message that may not have arrived is sent again, and ends as sent."""
    person, chat = await shop.person()
    await shop.client.stumble("lost", method="sendMessage")
    async with shop.courier():
        await shop.hear(on_access_granted, granted(person, uuid4()))
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
        await shop.hear(on_reward_earned, rewarded(first))
        await shop.until("select paused_until > now() from buckets")
        await shop.hear(on_reward_earned, *(rewarded(person) for person, _ in others))
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
        await shop.hear(on_reward_earned, *(rewarded(person) for person, _ in people))
        await shop.at_rest(*(person for person, _ in people))
    assert loop.time() - began >= (30 - 5 - 1) / 20


async def test_ten_claims_at_once_take_no_more_than_the_bucket_holds(shop: Shop) -> None:
    people = [(await shop.person())[0] for _ in range(30)]
    await shop.hear(on_reward_earned, *(rewarded(person) for person in people))

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
        await shop.hear(on_reward_earned, rewarded(person))
        await shop.at_rest(person)
        await chat.unblock()  # Nobody told us yet, and nobody asks.
        await shop.hear(on_invitation_registered, registered(person))
        await shop.at_rest(person)
        assert await said(chat) == []
        assert await shop.states(person) == {"reward_earned": "unreachable", "friend_registered": "unreachable"}
        await shop.hear(on_person_changed, changed(person, reachable=True))
        await shop.hear(on_reward_earned, rewarded(person))
        await chat.hears("earned")


async def test_who_pays_is_written_to_whatever_was_known_of_his_door(shop: Shop) -> None:
    """N-15."""
    person, chat = await shop.person()
    await shop.hear(on_person_changed, changed(person, reachable=False))
    async with shop.courier():
        await shop.hear(on_access_granted, granted(person, uuid4()))
        await chat.hears("Your access is ready")
        await shop.at_rest(person)
    assert await shop.database.fetchval("select reachable from recipients where person = $1", person)


async def test_a_message_that_telegram_will_never_take_fails_with_its_reason_and_is_told(shop: Shop) -> None:
    person, _ = await shop.person(started=False)
    async with shop.courier():
        await shop.hear(on_reward_earned, rewarded(person))
        await shop.at_rest(person)
    assert await shop.states(person) == {"reward_earned": "failed"}
    row = await shop.database.fetchrow(
        "select body ->> 'kind' as kind, body ->> 'reason' as reason from facts where body ->> 'about' = $1",
        str(person),
    )
    assert row is not None
    assert (row["kind"], row["reason"]) == ("reward_earned", "Bad Request: chat not found")


async def test_a_fault_of_telegrams_is_outlived(shop: Shop) -> None:
    people = [await shop.person() for _ in range(5)]
    await shop.client.stumble("500", calls=4)
    async with shop.courier():
        await shop.hear(on_access_granted, *(granted(person, uuid4()) for person, _ in people))
        await shop.client.go_down(1)
        await shop.at_rest(*(person for person, _ in people))
    assert [len(await said(chat)) for _, chat in people] == [1] * 5


async def test_a_key_that_is_not_there_yet_is_waited_for(shop: Shop) -> None:
    person, chat = await shop.person()
    shop.neighbours.issuing.add(person)
    async with shop.courier():
        await shop.hear(on_access_granted, granted(person, uuid4()))
        await asyncio.sleep(0.2)
        assert await said(chat) == []
        shop.neighbours.issuing.clear()
        await shop.time_passes(5)
        await chat.hears("Your access is ready")


async def test_whom_nobody_knows_yet_holds_up_nobody(shop: Shop) -> None:
    """Where nothing was said the token goes back: there is but one in a hundred seconds here."""
    stranger, (person, chat) = uuid4(), await shop.person()
    async with shop.courier(per_s=0.01):
        await shop.hear(on_reward_earned, rewarded(stranger))
        await shop.until("select tries > 0 from deliveries where person = $1", stranger)
        await shop.hear(on_reward_earned, rewarded(person))
        await chat.hears("earned")
    shop.neighbours.recipients[stranger] = shop.neighbours.recipients[person]
    await shop.time_passes(300)
    async with shop.courier():
        await shop.at_rest(stranger, person)


async def test_a_person_is_asked_for_once(shop: Shop) -> None:
    person, chat = await shop.person()
    async with shop.courier():
        for _ in range(3):
            await shop.hear(on_reward_earned, rewarded(person))
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
    await shop.hear(on_person_changed, changed(person, language="ru"), earlier)
    await shop.hear(on_person_changed, earlier)
    async with shop.courier():
        await shop.hear(on_invitation_registered, registered(person))
        await shop.at_rest(person)
        await shop.hear(on_reward_earned, rewarded(person))
        await chat.hears("Вам начислено")


async def test_one_chat_gets_one_message_a_second_and_its_key_first(shop: Shop) -> None:
    person, chat = await shop.person()
    loop = asyncio.get_running_loop()
    await shop.hear(on_reward_earned, *(rewarded(person) for _ in range(3)))
    await shop.hear(on_access_granted, granted(person, uuid4()))
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
            await shop.hear(on_access_granted, *(granted(person, uuid4()) for person, _ in people[start : start + 10]))
        await shop.at_rest(*(person for person, _ in people))
    assert [len(await said(chat)) for _, chat in people] == [1] * 100


async def test_a_slow_call_keeps_its_claim(shop: Shop) -> None:
    """W-02: no transaction is open meanwhile, and no other worker thinks that the first one died."""
    person, chat = await shop.person()
    slow = Slow(shop.sandbox.url)
    async with shop.courier(telegram=slow):
        await shop.hear(on_access_granted, granted(person, uuid4()))
        await slow.began.wait()
        async with shop.courier():
            await asyncio.sleep(LEASE_S + 1)
            assert await said(chat) == []
            slow.may_go.set()
            await shop.at_rest(person)
    assert len(await said(chat)) == 1
