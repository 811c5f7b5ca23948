"""Asks the real Bot API for the bot's username, at the start of the shop and until it answers."""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from shared.platform.backoff import backoff
from turnpike_local.processes import StartError

API_URL = "https://api.telegram.org"
ANSWER_TIMEOUT_S = 5.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
UNKNOWN_BOT = (401, 404)  # A revoked token, and one that never existed.


class UnknownBotError(StartError):
    """The Bot API has no bot with this token."""


class NoAnswerError(Exception):
    """Telegram cannot be reached, or is not able to answer now. The text is a clause."""


async def username_of(telegram: Mapping[str, str]) -> str:
    """The bot's username, by `TURNPIKE_BOT_TOKEN` and `TURNPIKE_TELEGRAM_API_URL`.

    Raises `StartError` for what waiting does not mend, else `NoAnswerError`. Neither text holds the
    token.
    """
    url = api_url(telegram)
    status, answer = await _get_me(url, telegram["TURNPIKE_BOT_TOKEN"])
    if status in UNKNOWN_BOT:
        sentence = (
            f"{url} knows no bot with the token in TURNPIKE_BOT_TOKEN: "
            f"it answers {_words(status, answer)}."
        )
        # A proxy in between may answer 404 too, but not in the words of the Bot API.
        raise UnknownBotError(sentence) if _is_refusal(answer) else StartError(sentence)
    if status != 200:
        raise NoAnswerError(f"Telegram answers {_words(status, answer)} at {url}")
    try:
        return str(answer["result"]["username"])
    except (KeyError, TypeError):
        raise StartError(
            f"The server at {url} is not the Bot API; check TURNPIKE_TELEGRAM_API_URL."
        ) from None


async def awaited_username(telegram: Mapping[str, str], report: Callable[[str], None]) -> str:
    """The bot's username, however long Telegram is away. Each new reason is reported once.

    Raises `UnknownBotError`. Other answers that are none may be those of a proxy, and pass.
    """
    failures, last = 0, ""
    while True:
        try:
            return await username_of(telegram)
        except UnknownBotError:
            raise
        except (StartError, NoAnswerError) as error:
            sentence = str(error) if isinstance(error, StartError) else f"{error}."
        if failures and sentence != last:  # The first was reported at the start.
            report(sentence)
        last = sentence
        await asyncio.sleep(backoff(failures, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S))
        failures += 1


def api_url(telegram: Mapping[str, str]) -> str:
    """The address of the Bot API. Raises `StartError` for a value that is none."""
    url = telegram.get("TURNPIKE_TELEGRAM_API_URL", API_URL).rstrip("/")
    if not re.fullmatch(r"https?://[^/\s]+", url):
        raise StartError(f"TURNPIKE_TELEGRAM_API_URL is not usable: it has to look like {API_URL}.")
    return url


async def _get_me(url: str, token: str) -> tuple[int, Any]:
    """The status and the decoded body, or None for a body that is not JSON.

    Raises `NoAnswerError`.
    """
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
        reason = f"no answer within {ANSWER_TIMEOUT_S:g} s"
    except aiohttp.ClientConnectorError as error:
        # For a name that is not found the number is negative, and the error has its own text.
        number = error.os_error.errno or 0
        reason = os.strerror(number) if number > 0 else error.os_error.strerror or "no connection"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = type(error).__name__  # Its text may hold the address, with the token.
    raise NoAnswerError(f"Telegram does not answer at {url} ({reason})")


def _is_refusal(answer: Any) -> bool:
    return isinstance(answer, dict) and answer.get("ok") is False


def _words(status: int, answer: Any) -> str:
    description = answer.get("description") if isinstance(answer, dict) else None
    return f"{status} {description}" if description else str(status)
