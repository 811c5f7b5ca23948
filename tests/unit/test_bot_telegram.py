"""The window on Telegram: what passes by itself, and what an error may say about itself."""

import pytest
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
)
from aiogram.methods import GetMe
from pydantic import BaseModel, ValidationError

from bot_gateway.telegram import TooBusyError, is_not_modified, is_query_too_old, retry_after_of, said, telegram_is_away
from tests.kit.bot import TOKEN


class Typed(BaseModel):
    text: int


AWAY = [
    TelegramNetworkError(method=GetMe(), message=f"TooManyRedirects: https://api.telegram.org/bot{TOKEN}/getMe"),
    TelegramServerError(method=GetMe(), message="Bad Gateway"),
    TelegramRetryAfter(method=GetMe(), message="Too Many Requests", retry_after=35),
    ClientDecodeError("Failed to decode object", ValueError(), f"<html>bot{TOKEN}</html>"),
    TooBusyError(3.0),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_what_passes_by_itself_is_nobodys_fault_and_names_no_token(error: Exception) -> None:
    """S-07: an address holds the token, and an error may hold an address."""
    assert telegram_is_away(error)
    assert TOKEN not in said(error)


def test_what_telegram_refuses_it_refuses_again() -> None:
    assert not telegram_is_away(TelegramBadRequest(method=GetMe(), message="Bad Request: can't parse entities"))
    assert not telegram_is_away(TelegramForbiddenError(method=GetMe(), message="Forbidden: bot was blocked"))


def test_patience_is_told_in_seconds() -> None:
    waits = [retry_after_of(error) for error in AWAY]
    assert [wait.total_seconds() for wait in waits if wait is not None] == [35, 3]


def test_an_unreadable_update_is_named_without_what_was_typed() -> None:
    """S-14: names and sentences of people are not for the log."""
    with pytest.raises(ValidationError) as caught:
        Typed(text="my secret")
    assert said(caught.value) == "ValidationError: ('text',)"


def test_success_in_other_words_is_known() -> None:
    def refused(message: str) -> TelegramBadRequest:
        return TelegramBadRequest(method=GetMe(), message=f"Bad Request: {message}")

    assert is_not_modified(refused("message is not modified: specified new message content and reply markup are"))
    assert is_query_too_old(refused("query is too old and response timeout expired or query ID is invalid"))
    assert not is_not_modified(refused("message to edit not found"))
    assert not is_query_too_old(refused("message to edit not found"))
