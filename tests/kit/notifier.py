"""Notifier with its neighbours: facts as it hears them, who answers it, voices that die, and chats to look into."""

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

from notifier.audit import answer_audit
from notifier.courier import Courier
from notifier.deliveries import Answer
from notifier.telegram import Telegram
from notifier.wording import Words
from shared.bus import Bus
from shared.contract import Fact, Refused
from shared.db import Database
from shared.facts import (
    AccessGranted,
    Bought,
    InvitationRegistered,
    PaymentConfirmed,
    PersonChanged,
    Received,
    RewardEarned,
    Terms,
)
from shared.questions import Access, AskAccess, AskAudit, AskKey, AskRecipient, Finding, Key, Recipient
from tests.kit.payments import reward
from tests.kit.servers import MakeDatabase
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import Message, PersonClient

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


class Looking(Courier):
    """A worker that counts its rounds."""

    rounds = 0

    async def _live_on(self, *, claiming: bool = True, woken: bool = False) -> float:
        wait_s = await super()._live_on(claiming=claiming, woken=woken)
        self.rounds += 1
        return wait_s

    async def has_looked(self, rounds: int = 1) -> None:
        """Return after so many rounds of its life, when it sleeps."""
        async with asyncio.timeout(10):
            while self.rounds < rounds:
                await asyncio.sleep(0.005)


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
    ) -> AsyncIterator["Looking"]:
        """A worker until the end of the block; then it finishes what is under way, or dies whatever it was doing."""
        voice, stopping = telegram or Telegram(TOKEN, self.sandbox.url), asyncio.Event()
        await voice.open()
        courier = Looking(self.database, self.bus, voice, per_s=per_s)
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
            while not await self.database.fetchval(sql, *args):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def open_shop(dsn: str, nats_url: str, folder: Path) -> AsyncIterator[Shop]:
    """Tables, neighbours that answer over NATS, and a Telegram that sets no limits of its own."""
    neighbours = Neighbours()
    async with AsyncExitStack() as stack:
        limits = Limits(messages_per_s=1e6, messages_burst=10**6, chat_messages_per_s=1e6, chat_messages_burst=10**6)
        sandbox = await stack.enter_async_context(Sandbox(folder, TOKEN, limits=limits))
        client = await stack.enter_async_context(SandboxClient(sandbox.url))
        database = Database(dsn, name="test")
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


async def broken(shop: Shop) -> list[Finding]:
    """What the audit finds wrong once faults are over. Facts wait for a relay that does not run here."""
    await shop.client.recover()
    await shop.database.execute("update buckets set paused_until = now(), tokens = 1")
    audit = await answer_audit(AskAudit.of("notifier")(), shop.database)
    return [found for found in audit.findings if found.violations and found.truth != "no fact is waiting to be told"]


@pytest.fixture(scope="module")
async def opened_shop(
    fresh_database: MakeDatabase, nats_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    fresh = await fresh_database("notifier")
    async with open_shop(fresh.dsn("notifier_app"), nats_url, tmp_path_factory.mktemp("sandbox")) as opened:
        yield opened


@pytest.fixture
async def shop(opened_shop: Shop) -> AsyncIterator[Shop]:
    """Every story ends with the invariants."""
    yield opened_shop
    assert await broken(opened_shop) == []


# Facts


def confirmed(
    person: UUID, order: UUID | None = None, *, missing_minor: int = 0, at: datetime = NOW, **changes: Any
) -> PaymentConfirmed:
    bought = order and Bought(order=order, what="subscription", terms=TERMS, price_minor=14900)
    return PaymentConfirmed.because(
        f"telegram:{uuid4()}",
        about=person,
        at=at,
        received=Received(receipt=uuid4(), acquirer="telegram", charge="charge", value_minor=14900),
        bought=bought,
        booked_at=NOW,
        missing_minor=missing_minor,
        **{"wallet_minor": 0 if order else 14900} | changes,
    )


def granted(person: UUID, order: UUID) -> AccessGranted:
    return AccessGranted.because(order, about=person, at=NOW, order=order, plan="basic", devices=5, ends_at=ENDS_AT)


def registered(partner: UUID) -> InvitationRegistered:
    invitee = uuid4()
    return InvitationRegistered.because(invitee, about=partner, at=NOW, invitee=invitee)


def rewarded(partner: UUID) -> RewardEarned:
    return reward(partner, uuid4())


def changed(person: UUID, *, language: Any = "en", reachable: bool = True, at: datetime = NOW) -> PersonChanged:
    return PersonChanged.because(uuid4(), about=person, at=at, language=language, reachable=reachable)


async def said(chat: PersonClient) -> list[Message]:
    return (await chat.chat()).from_bot


# Voices


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


class RefusedAndHeld(Telegram):
    """Has Telegram's answer, and keeps it until it may go."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.refused = asyncio.Event()
        self.may_go = asyncio.Event()

    async def say(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        answer = await super().say(chat_id, words, instead_of=instead_of)
        self.refused.set()
        await self.may_go.wait()
        return answer


class DiesAfterSaying(Telegram):
    """Says it, and never hears that it was said."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.said = asyncio.Event()

    async def say(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        await super().say(chat_id, words, instead_of=instead_of)
        self.said.set()
        return await asyncio.Future()


async def delete(shop: Shop, chat: PersonClient, message: Message) -> None:
    url = f"{shop.sandbox.url}/bot{TOKEN}/deleteMessage"
    async with aiohttp.ClientSession() as session:
        answer = await session.post(url, json={"chat_id": chat.id, "message_id": message.id})
        assert answer.status == 200
