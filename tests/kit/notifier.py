"""notifier with fake services around it: events, peers that answer, and chats to read."""

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
from notifier.domain import messages
from notifier.domain.deliveries import Answer
from notifier.domain.wording import Words
from notifier.store.deliveries import DUE
from notifier.telegram import Telegram
from notifier.workers.dispatcher import Dispatcher
from shared.contracts.bot import PersonChanged, Recipient, RecipientQuery
from shared.contracts.message import Event, Refused
from shared.contracts.operations import AuditQuery, Finding
from shared.contracts.payments import Bought, PaymentConfirmed, PlanTerms, Received
from shared.contracts.referrals import InvitationRegistered, RewardEarned
from shared.contracts.vpn import Access, AccessGranted, AccessQuery, Key, KeyQuery
from shared.messaging.rpc import Bus
from shared.platform.db import Database
from tests.kit.payments import reward
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import Message, PersonClient

TOKEN = "42:test"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ENDS_AT = datetime(2026, 12, 22, 12, tzinfo=UTC)
TERMS = PlanTerms(
    plan="basic",
    months=1,
    devices=5,
    traffic_bytes=None,
    node_group="default",
    list_month_minor=14900,
)
ISSUING_AFTER_S = 600.0
"""No test is so slow that the message about the issuing goes by itself."""
NEEDS_A_RELAY = "no event is pending in the outbox"
SHIFT_RECIPIENTS = """
update recipients
set due_at = due_at - $1::interval, called_at = called_at - $1::interval,
  paused_until = paused_until - $1::interval
"""
SHIFT_DELIVERIES = """
update deliveries
set not_before = not_before - $1::interval
where state in ('waiting', 'claimed')
"""
SETTLED = """
select count(*) = 0
from deliveries
where person = any($1) and state in ('waiting', 'claimed')
"""


@dataclass
class Peers:
    """The answers of bot-gateway and vpn-provisioner. Remembers which recipients were queried."""

    recipients: dict[UUID, Recipient] = field(default_factory=dict)
    ended: set[UUID] = field(default_factory=set)
    issuing: set[UUID] = field(default_factory=set)
    gone: set[UUID] = field(default_factory=set)
    accesses: dict[UUID, Access] = field(default_factory=dict)
    keyless: set[UUID] = field(default_factory=set)
    """People whose key must not be queried."""
    queried: list[UUID] = field(default_factory=list)

    async def recipient(self, query: RecipientQuery) -> Recipient | Refused:
        self.queried.append(query.person)
        return self.recipients.get(query.person) or Refused(reason="person_unknown")

    async def key(self, query: KeyQuery) -> Key | Refused:
        assert query.person not in self.keyless
        if query.person in self.issuing:
            return Refused(reason="issuing")
        if query.person in self.gone:
            return Refused(reason="no_access")
        return Key(link=key_of(query.person), ends_at=ENDS_AT)

    async def access(self, query: AccessQuery) -> Access:
        state: Any = "ended" if query.person in self.ended else "up"
        return self.accesses.get(query.person) or Access(state=state)


def key_of(person: UUID) -> str:
    return f"vless://{person}@127.0.0.1:443?type=tcp&security=none#Turnpike"


class CountingDispatcher(Dispatcher):
    """A worker that counts its rounds."""

    rounds = 0

    async def _round(self, *, claiming: bool, woken: bool) -> float:
        wait_s = await super()._round(claiming=claiming, woken=woken)
        self.rounds += 1
        return wait_s

    async def has_looked(self, rounds: int = 1) -> None:
        """Return after so many rounds since the start."""
        await until(lambda: self.rounds >= rounds)


@dataclass
class Shop:
    """The tables, the peers and the chats of one module of tests."""

    database: Database
    bus: Bus
    sandbox: Sandbox
    client: SandboxClient
    peers: Peers

    async def person(
        self, *, language: Any = "en", started: bool = True
    ) -> tuple[UUID, PersonClient]:
        chat = await self.client.new_person("Ann", language=language)
        if started:
            await chat.say("/start")
        person = uuid4()
        self.peers.recipients[person] = Recipient(
            chat_id=chat.id, language=language, reachable=True
        )
        return person, chat

    @asynccontextmanager
    async def dispatcher(
        self, *, per_s: float = 1000, telegram: Telegram | None = None, dies: bool = False
    ) -> AsyncIterator[CountingDispatcher]:
        """A worker until the end of the block. Then it drains, or dies in the middle of it."""
        client, stopping = telegram or Telegram(TOKEN, self.sandbox.url), asyncio.Event()
        await client.open()
        dispatcher = CountingDispatcher(self.database, self.bus, client, per_s=per_s)
        running = asyncio.create_task(dispatcher.run(stopping))
        try:
            yield dispatcher
        finally:
            stopping.set()
            DUE.ring()
            if dies:
                running.cancel()
            await asyncio.gather(running, return_exceptions=dies)
            await client.close()

    async def handle(self, handler: Callable[..., Awaitable[None]], *events: Event) -> None:
        async with self.database.transaction() as tx:
            await handler(events, tx)

    async def time_passes(self, seconds: float) -> None:
        """Shorten every wait by so many seconds."""
        passed = timedelta(seconds=seconds)
        async with self.database.transaction() as tx:
            await tx.execute(SHIFT_RECIPIENTS, passed)
            await tx.execute(SHIFT_DELIVERIES, passed)
        DUE.ring()

    async def states(self, person: UUID) -> dict[str, str]:
        rows = await self.database.fetch(
            "select kind, state from deliveries where person = $1", person
        )
        return {row["kind"]: row["state"] for row in rows}

    async def reachable(self, person: UUID) -> bool:
        return bool(
            await self.database.fetchval(
                "select reachable from recipients where person = $1", person
            )
        )

    async def holder(self, person: UUID) -> UUID | None:
        """The worker that holds the claim on this person's chat."""
        found: UUID | None = await self.database.fetchval(
            "select claim from recipients where person = $1", person
        )
        return found

    async def settled(self, *people: UUID) -> None:
        """Return when every message to these people is settled."""
        await self.becomes_true(SETTLED, list(people))

    async def becomes_true(self, sql: str, *args: object) -> None:
        """Return when the query answers true."""

        async def condition() -> bool:
            return bool(await self.database.fetchval(sql, *args))

        await until(condition)


@asynccontextmanager
async def open_shop(dsn: str, nats_url: str, folder: Path) -> AsyncIterator[Shop]:
    """Tables, peers that answer over NATS, and a Telegram without limits."""
    peers = Peers()
    async with AsyncExitStack() as stack:
        limits = Limits(
            messages_per_s=1e6,
            messages_burst=10**6,
            chat_messages_per_s=1e6,
            chat_messages_burst=10**6,
        )
        sandbox = await stack.enter_async_context(Sandbox(folder, TOKEN, limits=limits))
        client = await stack.enter_async_context(SandboxClient(sandbox.url))
        database = Database(dsn, name="test")
        await database.open()
        stack.push_async_callback(database.close)
        answering, asking = Bus(nats_url, "peers"), Bus(nats_url, "notifier")
        answering.answers(RecipientQuery, peers.recipient)
        answering.answers(KeyQuery, peers.key)
        answering.answers(AccessQuery, peers.access)
        for bus in (answering, asking):
            await bus.open()
            stack.push_async_callback(bus.close)
        yield Shop(database, asking, sandbox, client, peers)


async def broken(shop: Shop) -> list[Finding]:
    """The findings of the audit after all faults are over. Without a relay, events stay pending."""
    await shop.client.recover()
    await shop.database.execute(
        "update buckets set paused_until = now(), refused_until = now(), tokens = 1"
    )
    audit = await answer_audit(AuditQuery.of("notifier")(), shop.database)
    return [found for found in audit.findings if found.violations and found.truth != NEEDS_A_RELAY]


@pytest.fixture(scope="module")
async def opened_shop(
    fresh_database: MakeDatabase, nats_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    fresh = await fresh_database("notifier")
    folder = tmp_path_factory.mktemp("sandbox")
    async with open_shop(fresh.dsn("notifier_app"), nats_url, folder) as opened:
        yield opened


@pytest.fixture
async def shop(opened_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """Every test ends with the invariants."""
    monkeypatch.setattr(messages, "ISSUING_AFTER_S", ISSUING_AFTER_S)
    yield opened_shop
    assert await broken(opened_shop) == []


# Events


def confirmed(
    person: UUID,
    order: UUID | None = None,
    *,
    missing_minor: int = 0,
    at: datetime = NOW,
    **changes: Any,
) -> PaymentConfirmed:
    bought = order and Bought(order=order, what="subscription", terms=TERMS, price_minor=14900)
    return PaymentConfirmed.caused_by(
        f"telegram:{uuid4()}",
        about=person,
        at=at,
        received=Received(receipt=uuid4(), acquirer="telegram", charge="charge", value_minor=14900),
        bought=bought,
        booked_at=NOW,
        missing_minor=missing_minor,
        **{"wallet_minor": 0 if order else 14900} | changes,
    )


def granted(person: UUID, order: UUID, **changes: Any) -> AccessGranted:
    fields: dict[str, Any] = {"plan": "basic", "devices": 5, "ends_at": ENDS_AT} | changes
    return AccessGranted.caused_by(order, about=person, at=NOW, order=order, **fields)


def registered(partner: UUID) -> InvitationRegistered:
    invitee = uuid4()
    return InvitationRegistered.caused_by(invitee, about=partner, at=NOW, invitee=invitee)


def rewarded(partner: UUID) -> RewardEarned:
    return reward(partner, uuid4())


def changed(
    person: UUID, *, language: Any = "en", reachable: bool = True, at: datetime = NOW
) -> PersonChanged:
    return PersonChanged.caused_by(
        uuid4(), about=person, at=at, language=language, reachable=reachable
    )


# Chats


async def received(chat: PersonClient) -> list[Message]:
    """The bot's messages in this chat."""
    return (await chat.chat()).from_bot


async def delete(shop: Shop, chat: PersonClient, message: Message) -> None:
    url = f"{shop.sandbox.url}/bot{TOKEN}/deleteMessage"
    async with aiohttp.ClientSession() as session:
        answer = await session.post(url, json={"chat_id": chat.id, "message_id": message.id})
        assert answer.status == 200


# Clients of Telegram


class HeldCall(Telegram):
    """A call does not leave until `may_go` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.began = asyncio.Event()
        self.may_go = asyncio.Event()

    async def send(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        self.began.set()
        await self.may_go.wait()
        return await super().send(chat_id, words, instead_of=instead_of)


class HeldAnswer(Telegram):
    """Telegram's answer does not arrive until `may_go` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.answered = asyncio.Event()
        self.may_go = asyncio.Event()

    async def send(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        answer = await super().send(chat_id, words, instead_of=instead_of)
        self.answered.set()
        await self.may_go.wait()
        return answer


class CountingCalls(Telegram):
    """Remembers the chat of each call."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.called: list[int] = []

    async def send(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        self.called.append(chat_id)
        return await super().send(chat_id, words, instead_of=instead_of)


class BrokenWords(Telegram):
    """Every message is one that Telegram rejects."""

    async def send(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        return await super().send(chat_id, Words("<b>never closed"), instead_of=instead_of)


class LostAnswer(Telegram):
    """The message is sent, and its answer never arrives."""

    def __init__(self, url: str) -> None:
        super().__init__(TOKEN, url)
        self.sent = asyncio.Event()

    async def send(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        await super().send(chat_id, words, instead_of=instead_of)
        self.sent.set()
        return await asyncio.Future()
