"""The parameters of a call to the Bot API, and the meaning of its answer, as pure functions."""

from typing import Any

import pytest

from notifier.domain.deliveries import (
    Answer,
    Rejected,
    Sent,
    SlowDown,
    Unavailable,
    Unclear,
    Unreachable,
)
from notifier.domain.wording import Button, Words
from notifier.telegram import answer_of, parameters

MESSAGE = {"message_id": 7, "date": 1, "chat": {"id": 1, "type": "private"}}
NO_ANSWER = Unclear("HTTP 200 without an answer of the Bot API")


def refusal(code: int, description: str, **fields: Any) -> dict[str, Any]:
    return {"ok": False, "error_code": code, "description": description, **fields}


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, {"ok": True, "result": MESSAGE}, Sent(7)),
        (
            429,
            refusal(429, "Too Many Requests: retry after 5", parameters={"retry_after": 5}),
            SlowDown(5.0),
        ),
        (
            403,
            refusal(403, "Forbidden: bot was blocked by the user"),
            Unreachable("Forbidden: bot was blocked by the user"),
        ),
        (
            400,
            refusal(400, "Bad Request: message is too long"),
            Rejected("Bad Request: message is too long"),
        ),
        (
            400,
            refusal(400, "Bad Request: chat not found"),
            Unreachable("Bad Request: chat not found"),
        ),
        (401, refusal(401, "Unauthorized"), Unavailable("Unauthorized")),
        (404, refusal(404, "Not Found"), Unavailable("Not Found")),
        (502, refusal(502, "Bad Gateway"), Unclear("Bad Gateway")),
        (200, {"ok": True, "result": True}, NO_ANSWER),
        (200, [], NO_ANSWER),
    ],
)
def test_each_response_has_one_meaning(status: int, body: object, answer: Answer) -> None:
    assert answer_of(status, body) == answer


def test_a_long_description_is_cut() -> None:
    answer = answer_of(400, refusal(400, "x" * 10_000))
    assert isinstance(answer, Rejected)
    assert len(answer.reason) == 200


def test_a_message_is_html_with_buttons() -> None:
    rows = ((Button("b", "go:access"), Button("c", "go:qr")), (Button("d", "go:buy"),))
    assert parameters(5, Words("<b>a</b>", rows)) == {
        "chat_id": 5,
        "text": "<b>a</b>",
        "parse_mode": "HTML",
        "reply_markup": {
            "inline_keyboard": [
                [
                    {"text": "b", "callback_data": "go:access"},
                    {"text": "c", "callback_data": "go:qr"},
                ],
                [{"text": "d", "callback_data": "go:buy"}],
            ]
        },
    }
