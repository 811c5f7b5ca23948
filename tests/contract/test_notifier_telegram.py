"""notifier's client of the Bot API against the sandbox: each outcome of a call has one name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from notifier.domain.deliveries import (
    Rejected,
    Sent,
    SlowDown,
    Unavailable,
    Unclear,
    Unreachable,
)
from notifier.domain.wording import Button, Words
from notifier.telegram import Telegram
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient

TOKEN = "42:test"
WORDS = Words("<b>Hello</b>, A &amp; B", ((Button("My access", "go:access"),),))


@asynccontextmanager
async def opened(url: str, token: str = TOKEN) -> AsyncIterator[Telegram]:
    telegram = Telegram(token, url)
    await telegram.open()
    yield telegram
    await telegram.close()


@pytest.fixture(scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    folder: Path = tmp_path_factory.mktemp("sandbox")
    async with Sandbox(folder, TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as running:
        yield running


@pytest.fixture
async def telegram(sandbox: Sandbox) -> AsyncIterator[Telegram]:
    async with opened(sandbox.url) as telegram:
        yield telegram


@pytest.fixture
async def chat(client: SandboxClient) -> PersonClient:
    person = await client.new_person("Ann")
    await person.say("/start")
    return person


async def test_a_message_arrives_with_its_button(telegram: Telegram, chat: PersonClient) -> None:
    answer = await telegram.send(chat.id, WORDS)
    (message,) = (await chat.chat()).from_bot
    assert answer == Sent(message.id)
    assert (message.text, message.buttons[0].data) == ("Hello, A & B", "go:access")


async def test_an_edit_may_be_repeated(telegram: Telegram, chat: PersonClient) -> None:
    first = await telegram.send(chat.id, Words("Wait"))
    assert isinstance(first, Sent)
    for _ in range(2):
        assert await telegram.send(chat.id, WORDS, instead_of=first.message_id) == first
    assert [message.text for message in (await chat.chat()).from_bot] == ["Hello, A & B"]


async def test_a_rejected_edit_is_sent_with_its_reason(
    telegram: Telegram, chat: PersonClient
) -> None:
    answer = await telegram.send(chat.id, WORDS, instead_of=10**6)
    assert isinstance(answer, Sent)
    assert answer.note == "Bad Request: message to edit not found"
    assert len((await chat.chat()).from_bot) == 1


async def test_a_block_is_named(telegram: Telegram, chat: PersonClient) -> None:
    """N-15."""
    await chat.block()
    assert await telegram.send(chat.id, WORDS) == Unreachable(
        "Forbidden: bot was blocked by the user"
    )


async def test_wrong_markup_is_rejected(telegram: Telegram, chat: PersonClient) -> None:
    broken = await telegram.send(chat.id, Words("<b>never closed"))
    assert isinstance(broken, Rejected)
    assert "can't parse entities" in broken.reason


async def test_an_edit_in_a_lost_chat_sends_nothing(telegram: Telegram, chat: PersonClient) -> None:
    """N-15: the refusal of the edit says it all."""
    first = await telegram.send(chat.id, Words("Wait"))
    assert isinstance(first, Sent)
    await chat.deactivate()
    assert await telegram.send(chat.id, WORDS, instead_of=first.message_id) == Unreachable(
        "Forbidden: user is deactivated"
    )


async def test_a_429_names_its_pause(
    telegram: Telegram, chat: PersonClient, client: SandboxClient
) -> None:
    """W-20."""
    await client.plan_fault("429", retry_after_s=35)
    assert await telegram.send(chat.id, WORDS) == SlowDown(35.0)


async def test_a_lost_answer_is_unclear(
    telegram: Telegram, chat: PersonClient, client: SandboxClient
) -> None:
    """N-01: neither a 500 nor a lost answer says whether the message arrived."""
    await client.plan_fault("500")
    assert await telegram.send(chat.id, WORDS) == Unclear("Internal Server Error")
    assert (await chat.chat()).from_bot == []
    await client.plan_fault("lost")
    assert isinstance(await telegram.send(chat.id, WORDS), Unclear)
    assert len((await chat.chat()).from_bot) == 1


async def test_a_missing_server_is_unavailable(tmp_path: Path) -> None:
    """S-07: the reason does not contain the token."""
    async with Sandbox(tmp_path, TOKEN) as gone:
        url = gone.url
    async with opened(url) as telegram:
        answer = await telegram.send(1, WORDS)
    assert answer == Unavailable("ClientConnectorError")


async def test_a_wrong_token_leaves_the_message_waiting(
    sandbox: Sandbox, chat: PersonClient
) -> None:
    """R-10: an operator corrects the token, and nothing is lost meanwhile."""
    async with opened(sandbox.url, "42:other") as telegram:
        assert await telegram.send(chat.id, WORDS) == Unavailable("Unauthorized")
