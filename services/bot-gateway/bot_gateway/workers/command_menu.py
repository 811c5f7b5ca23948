"""The menu of commands that Telegram shows beside the input field, in each language."""

import asyncio
from functools import partial
from math import inf

import structlog
from aiogram import Bot

from bot_gateway.chats import COMMANDS
from bot_gateway.telegram import list_commands, redacted, retry_after_of
from shared.platform import iterations
from shared.platform.loops import forever, set_within
from shared.platform.texts import LANGUAGES, Texts

log = structlog.get_logger()

# Telegram keeps the menu of the last run, and reading the texts would delay the first answers by a
# tenth of a second.
BEGIN_AFTER_S = 1.0
PAUSE_AFTER_FAILURE_S = 5.0
DEFAULT_LANGUAGE = "en"


async def set_command_menu(bot: Bot, texts: Texts, stopping: asyncio.Event) -> None:
    """Set the menu, with retries until it succeeds; then wait for `stopping`."""
    await set_within(stopping, BEGIN_AFTER_S)
    turn = partial(_set, bot, texts, stopping)
    await forever("bot_command_menu", turn, stopping, failed=_failed)


async def _set(bot: Bot, texts: Texts, stopping: asyncio.Event) -> None:
    for language in LANGUAGES:
        commands = [(name, texts(language, f"command-{name}")) for name in COMMANDS]
        await list_commands(bot, commands, None if language == DEFAULT_LANGUAGE else language)
    iterations.rests(inf)
    await stopping.wait()


def _failed(error: Exception) -> float:
    """The pause in seconds. People can be served without a menu."""
    log.warning("command menu not set", error=redacted(error))
    asked = retry_after_of(error)
    return asked.total_seconds() if asked else PAUSE_AFTER_FAILURE_S
