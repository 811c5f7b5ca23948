"""Both clients of Telegram agree which refusals mean the chat: nothing is delivered to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram import Bot
from aiogram.exceptions import TelegramAPIError, TelegramBadRequest, TelegramForbiddenError
from aiogram.methods import GetMe

from bot_gateway import telegram as bot_telegram
from bot_gateway.telegram import is_unreachable as bot_is_unreachable
from notifier import telegram as notifier_telegram
from notifier.telegram import is_unreachable as notifier_is_unreachable
from tests.kit.sandbox import TOKEN, UNLIMITED, bot_of, started
from turnpike_local.sandbox import Sandbox, SandboxClient

# Source: tdlib/telegram-bot-api, Client.cpp, and reports of users.
OF_THE_CHAT = [
    (403, "Forbidden: bot was blocked by the user"),
    (403, "Forbidden: user is deactivated"),
    (403, "Forbidden: bot can't initiate conversation with a user"),
    (403, "Forbidden: bot can't send messages to bots"),
    (403, "Forbidden: bot was kicked from the group chat"),
    (403, "Forbidden: bot was kicked from the supergroup chat"),
    (403, "Forbidden: bot is not a member of the supergroup chat"),
    (403, "Forbidden: bot is not a member of the channel chat"),
    (403, "Forbidden: the group chat was deleted"),
    (400, "Bad Request: chat not found"),
    (400, "Bad Request: private chat not found"),
    (400, "Bad Request: user not found"),
    (400, "Bad Request: PEER_ID_INVALID"),
    (400, "Bad Request: group chat was upgraded to a supergroup chat"),
    (400, "Bad Request: have no rights to send a message"),
    (400, "Bad Request: not enough rights to send text messages to the chat"),
    (400, "Bad Request: CHAT_WRITE_FORBIDDEN"),
    (400, "Bad Request: CHAT_RESTRICTED"),
    (400, "Bad Request: CHANNEL_PRIVATE"),
]
OF_THE_MESSAGE = [
    (400, "Bad Request: message is not modified: specified new message content"),
    (400, "Bad Request: message to edit not found"),
    (400, "Bad Request: message can't be edited"),
    (400, "Bad Request: message text is empty"),
    (400, "Bad Request: message is too long"),
    (400, "Bad Request: can't parse entities: Can't find end tag corresponding to start tag b"),
    (400, "Bad Request: BUTTON_DATA_INVALID"),
    (400, "Bad Request: chat_id is empty"),
    (400, "Bad Request: query is too old and response timeout expired or query ID is invalid"),
    (401, "Unauthorized"),
    (404, "Not Found: method not found"),
    (413, "Request Entity Too Large"),
    (429, "Too Many Requests: retry after 5"),
    (500, "Internal Server Error"),
]


def error_of(code: int, description: str) -> TelegramAPIError:
    """As aiogram raises it."""
    kinds = {400: TelegramBadRequest, 403: TelegramForbiddenError}
    return kinds.get(code, TelegramAPIError)(method=GetMe(), message=description)


def test_both_clients_have_one_table() -> None:
    """N-15"""
    assert bot_telegram.UNREACHABLE == notifier_telegram.UNREACHABLE


@pytest.mark.parametrize(("code", "description"), OF_THE_CHAT, ids=lambda given: str(given))
def test_a_refusal_of_the_chat_is_permanent(code: int, description: str) -> None:
    """N-15"""
    assert notifier_is_unreachable(code, description)
    assert bot_is_unreachable(error_of(code, description))


@pytest.mark.parametrize(("code", "description"), OF_THE_MESSAGE, ids=lambda given: str(given))
def test_a_refusal_of_the_message_is_not(code: int, description: str) -> None:
    """N-15"""
    assert not notifier_is_unreachable(code, description)
    assert not bot_is_unreachable(error_of(code, description))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[tuple[SandboxClient, Bot]]:
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNLIMITED) as sandbox,
        SandboxClient(sandbox.url) as people,
        bot_of(sandbox) as bot,
    ):
        yield people, bot


async def test_the_stand_in_refuses_chats_alike(client: tuple[SandboxClient, Bot]) -> None:
    """N-15: a chat that does not exist, a deleted account, a block, and a refusal without one."""
    people, bot = client
    unknown = await people.new_person("Ann")
    deleted, blocked, refused = [await started(people, name) for name in ("Bob", "Eve", "Dan")]
    await deleted.deactivate()
    await blocked.block()
    await people.plan_fault("403", method="sendMessage")
    for chat in (refused, unknown, deleted, blocked):
        with pytest.raises(TelegramAPIError) as raised:
            await bot.send_message(chat.id, "hello")
        assert bot_is_unreachable(raised.value)
    await bot.send_message(refused.id, "hello")
