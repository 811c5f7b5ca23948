"""What people see before they write: the menu of commands, in their language."""

import asyncio

import structlog
from aiogram import Bot

from bot_gateway.chats import COMMANDS
from bot_gateway.telegram import list_commands, retry_after_of, said
from shared.texts import LANGUAGES, Texts
from shared.waiting import happens

log = structlog.get_logger()

BEGIN_AFTER_S = 1.0  # Telegram knows them from before, and reading the texts is a tenth of a second that people wait.
PAUSE_AFTER_FAILURE_S = 5.0
FOR_EVERYBODY_ELSE = "en"


async def introduce(bot: Bot, texts: Texts, stopping: asyncio.Event) -> None:
    """Tell Telegram our commands, as often as it takes; then there is nothing more to do."""
    await happens(stopping, BEGIN_AFTER_S)
    while not stopping.is_set():
        try:
            for language in LANGUAGES:
                commands = [(name, texts(language, f"command-{name}")) for name in COMMANDS]
                await list_commands(bot, commands, None if language == FOR_EVERYBODY_ELSE else language)
            await stopping.wait()
        except Exception as error:  # The loop lives on: people can be served without a menu.
            log.warning("commands not listed", error=said(error))
            asked = retry_after_of(error)
            await happens(stopping, asked.total_seconds() if asked else PAUSE_AFTER_FAILURE_S)
