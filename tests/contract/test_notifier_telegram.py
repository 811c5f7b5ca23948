"""Notifier's window on the Bot API against the stand-in: each thing that Telegram does has one name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from notifier.deliveries import Away, Blocked, Rejected, Said, SlowDown, Unclear
from notifier.telegram import Telegram
from notifier.wording import Button, Words
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient

TOKEN = "42:test"
WORDS = Words("<b>Hello</b>, A &amp; B", Button("My access", "go:access"))


@asynccontextmanager
async def window(url: str, token: str = TOKEN) -> AsyncIterator[Telegram]:
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
    async with window(sandbox.url) as opened:
        yield opened


@pytest.fixture
async def chat(client: SandboxClient) -> PersonClient:
    person = await client.new_person("Ann")
    await person.say("/start")
    return person


async def test_a_message_arrives_with_its_words_and_its_button(telegram: Telegram, chat: PersonClient) -> None:
    answer = await telegram.say(chat.id, WORDS)
    (message,) = (await chat.chat()).from_bot
    assert answer == Said(message.id)
    assert (message.text, message.buttons[0].data) == ("Hello, A & B", "go:access")


async def test_an_edit_may_be_repeated(telegram: Telegram, chat: PersonClient) -> None:
    first = await telegram.say(chat.id, Words("Wait"))
    assert isinstance(first, Said)
    for _ in range(2):
        assert await telegram.say(chat.id, WORDS, instead_of=first.message_id) == first
    assert [message.text for message in (await chat.chat()).from_bot] == ["Hello, A & B"]


async def test_what_cannot_be_edited_is_sent_and_says_why(telegram: Telegram, chat: PersonClient) -> None:
    answer = await telegram.say(chat.id, WORDS, instead_of=10**6)
    assert isinstance(answer, Said)
    assert answer.note == "Bad Request: message to edit not found"
    assert len((await chat.chat()).from_bot) == 1


async def test_who_blocked_the_bot_is_named(telegram: Telegram, chat: PersonClient) -> None:
    """N-15."""
    await chat.block()
    assert await telegram.say(chat.id, WORDS) == Blocked("Forbidden: bot was blocked by the user")


async def test_broken_words_and_unknown_chats_are_rejected_for_ever(telegram: Telegram, chat: PersonClient) -> None:
    broken = await telegram.say(chat.id, Words("<b>never closed"))
    assert isinstance(broken, Rejected)
    assert "can't parse entities" in broken.reason
    assert await telegram.say(1, WORDS) == Rejected("Bad Request: chat not found")


async def test_patience_is_asked_for_in_seconds(telegram: Telegram, chat: PersonClient, client: SandboxClient) -> None:
    """W-20."""
    await client.stumble("429", retry_after_s=35)
    assert await telegram.say(chat.id, WORDS) == SlowDown(35.0)


async def test_a_lost_answer_is_unclear_and_theirs_to_mend_is_away(
    telegram: Telegram, chat: PersonClient, client: SandboxClient
) -> None:
    """N-01: what was cut off may have arrived, what was refused did not."""
    await client.stumble("500")
    assert await telegram.say(chat.id, WORDS) == Away("Internal Server Error")
    assert (await chat.chat()).from_bot == []
    await client.stumble("lost")
    assert isinstance(await telegram.say(chat.id, WORDS), Unclear)
    assert len((await chat.chat()).from_bot) == 1


async def test_a_server_that_is_not_there_did_nothing(tmp_path: Path) -> None:
    """S-07: the token is in no reason."""
    async with Sandbox(tmp_path, TOKEN) as gone:
        url = gone.url
    async with window(url) as telegram:
        answer = await telegram.say(1, WORDS)
    assert answer == Away("ClientConnectorError")


async def test_a_wrong_token_leaves_the_message_waiting(sandbox: Sandbox, chat: PersonClient) -> None:
    """R-10: our own mistake is mended, and nothing was lost meanwhile."""
    async with window(sandbox.url, "42:other") as telegram:
        assert await telegram.say(chat.id, WORDS) == Away("Unauthorized")
