"""The setting of the support contact: accepted and refused values."""

from typing import Any

import pytest
from pydantic import ValidationError

from bot_gateway.settings import Settings
from shared.platform.settings import mistakes
from tests.kit.bot import settings


def with_contact(contact: Any) -> Settings:
    return settings("postgresql://", "nats://", "http://localhost", support_contact=contact)


@pytest.mark.parametrize(
    "contact", ["@turnpike_help", "https://t.me/turnpike_help", "https://help.example.org/?a=1"]
)
def test_a_username_or_a_link_is_a_contact(contact: str) -> None:
    """R-30."""
    assert with_contact(contact).support_contact == contact


def test_an_empty_contact_is_none() -> None:
    assert with_contact("").support_contact is None


@pytest.mark.parametrize(
    "contact", ["help", "@", "@two words", "http://help.example.org", "https://", "a@example.org"]
)
def test_any_other_contact_is_refused(contact: str) -> None:
    """R-30: Telegram would refuse its button, together with the whole screen."""
    with pytest.raises(ValidationError) as refused:
        with_contact(contact)
    assert mistakes(Settings, refused.value) == [
        "TURNPIKE_SUPPORT_CONTACT is not usable: "
        "a contact is an @username of Telegram or a link that begins with https://."
    ]


def with_token(token: Any) -> Settings:
    return settings("postgresql://", "nats://", "http://localhost", provider_token=token)


def test_a_provider_token_switches_cards_on() -> None:
    """R-137: off without it, and a blank line is none."""
    assert with_token(None).provider_token is None
    assert with_token("").provider_token is None
    assert with_token("381764678:TEST:100500").provider_token is not None


@pytest.mark.parametrize("token", ["hunter2", "1:hunter2:2", "1:TEST:", "x:LIVE:2", "1:LIVE:a b"])
def test_any_other_provider_token_is_refused(token: str) -> None:
    """R-137, S-07: in one sentence that does not show it."""
    with pytest.raises(ValidationError) as refused:
        with_token(token)
    assert mistakes(Settings, refused.value) == [
        "TURNPIKE_PROVIDER_TOKEN is not usable: "
        "a provider token of BotFather is a number, LIVE or TEST, and a word, with colons."
    ]
