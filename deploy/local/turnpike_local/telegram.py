"""Asks the real Bot API who the bot is, before a shop is started for it."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from turnpike_local.processes import StartError

API_URL = "https://api.telegram.org"
ANSWER_TIMEOUT_S = 10.0
UNKNOWN_BOT = (401, 404)  # A token that is no longer or was never one.


async def username_of(telegram: Mapping[str, str]) -> str:
    """The bot's username, by `TURNPIKE_BOT_TOKEN` and `TURNPIKE_TELEGRAM_API_URL`.

    Raises `StartError`: one sentence, without the token.
    """
    url = (telegram.get("TURNPIKE_TELEGRAM_API_URL") or API_URL).rstrip("/")
    if not re.fullmatch(r"https?://[^/\s]+", url):
        raise StartError(f"TURNPIKE_TELEGRAM_API_URL is not usable: it has to look like {API_URL}.")
    status, answer = await _get_me(url, telegram["TURNPIKE_BOT_TOKEN"])
    if status in UNKNOWN_BOT:
        raise StartError(
            f"{url} knows no bot with the token in TURNPIKE_BOT_TOKEN: it answers {_words(status, answer)}."
        )
    if status != 200:
        raise StartError(f"{url} does not say who the bot is, it answers {_words(status, answer)}; try again later.")
    try:
        return str(answer["result"]["username"])
    except (KeyError, TypeError):
        raise StartError(f"What answers at {url} is not the Bot API; look at TURNPIKE_TELEGRAM_API_URL.") from None


async def _get_me(url: str, token: str) -> tuple[int, Any]:
    """The status and the decoded body, None when that is not JSON."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/bot{quote(token, safe=':')}/getMe") as answer,
        ):
            try:
                return answer.status, await answer.json(content_type=None)
            except ValueError:
                return answer.status, None
    except TimeoutError:
        reason = f"nothing came within {ANSWER_TIMEOUT_S:g} s"
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno or 0  # Of a name that is not found it is below zero, and has its own words.
        reason = os.strerror(number) if number > 0 else error.os_error.strerror or "no connection"
    except (aiohttp.ClientError, OSError, ValueError) as error:  # Their words may hold the address, with the token.
        reason = type(error).__name__
    raise StartError(f"Telegram does not answer at {url} ({reason}); TURNPIKE_TELEGRAM_API_URL names another Bot API.")


def _words(status: int, answer: Any) -> str:
    said = answer.get("description") if isinstance(answer, dict) else None
    return f"{status} {said}" if said else str(status)
