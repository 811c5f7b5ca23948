"""The client of Telegram: temporary errors, and the redaction of errors."""

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

from bot_gateway.telegram import (
    LONGEST_RETRY_AFTER,
    TooBusyError,
    is_not_modified,
    is_query_too_old,
    redacted,
    retry_after_of,
    telegram_is_unavailable,
)
from tests.kit.bot import TOKEN


class Typed(BaseModel):
    text: int


UNAVAILABLE = [
    TelegramNetworkError(
        method=GetMe(), message=f"TooManyRedirects: https://api.telegram.org/bot{TOKEN}/getMe"
    ),
    TelegramServerError(method=GetMe(), message="Bad Gateway"),
    TelegramRetryAfter(method=GetMe(), message="Too Many Requests", retry_after=35),
    ClientDecodeError("Failed to decode object", ValueError(), f"<html>bot{TOKEN}</html>"),
    TooBusyError(3.0),
]


@pytest.mark.parametrize("error", UNAVAILABLE, ids=lambda error: type(error).__name__)
def test_a_temporary_error_shows_no_token(error: Exception) -> None:
    """S-07: a URL holds the token, and an error may hold a URL."""
    assert telegram_is_unavailable(error)
    assert TOKEN not in redacted(error)


def test_a_refusal_by_telegram_is_not_temporary() -> None:
    assert not telegram_is_unavailable(
        TelegramBadRequest(method=GetMe(), message="Bad Request: can't parse entities")
    )
    assert not telegram_is_unavailable(
        TelegramForbiddenError(method=GetMe(), message="Forbidden: bot was blocked")
    )


def test_only_two_errors_name_a_wait() -> None:
    waits = [retry_after_of(error) for error in UNAVAILABLE]
    assert [wait.total_seconds() for wait in waits if wait is not None] == [35, 3]


def test_a_wait_is_bounded() -> None:
    """W-20: whatever number stands in Telegram's answer."""
    error = TelegramRetryAfter(method=GetMe(), message="Too Many Requests", retry_after=10**6)
    assert retry_after_of(error) == LONGEST_RETRY_AFTER


def test_a_validation_error_shows_no_input() -> None:
    """S-14: names and sentences of people must not be logged."""
    with pytest.raises(ValidationError) as caught:
        Typed(text="my secret")
    assert redacted(caught.value) == "ValidationError: ('text',)"


def test_errors_that_mean_success_are_recognised() -> None:
    def refused(message: str) -> TelegramBadRequest:
        return TelegramBadRequest(method=GetMe(), message=f"Bad Request: {message}")

    assert is_not_modified(
        refused("message is not modified: specified new message content and reply markup are")
    )
    assert is_query_too_old(
        refused("query is too old and response timeout expired or query ID is invalid")
    )
    assert not is_not_modified(refused("message to edit not found"))
    assert not is_query_too_old(refused("message to edit not found"))
