"""The settings of notifier, and the sentences about wrong ones."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from notifier.settings import Settings
from shared.platform.settings import mistakes


def settings(**values: Any) -> Settings:
    known: dict[str, Any] = {
        "dsn": SecretStr("postgresql://"),
        "nats_url": SecretStr("nats://"),
        "bot_token": "1:a",
    }
    return Settings(**(known | values))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"bot_token": "no token"},
            "TURNPIKE_BOT_TOKEN is not usable: a number, a colon and a secret are expected.",
        ),
        (
            {"messages_per_s": 0},
            "TURNPIKE_NOTIFIER_MESSAGES_PER_S is not usable: Input should be greater than 0.",
        ),
        ({"telegram_api_url": "ftp://x"}, "TURNPIKE_TELEGRAM_API_URL is not usable"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**wrong)
    (written,) = mistakes(Settings, refused.value)
    assert sentence in written
    assert "no token" not in written


def test_the_defaults_are_telegrams() -> None:
    assert settings().telegram_api_url == "https://api.telegram.org"
    assert settings().messages_per_s == 20.0
