"""The settings of bot-gateway, read from the environment."""

import re
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from shared.contracts.operators import OPERATOR_PATTERN
from shared.platform.settings import ServiceSettings

_BOT_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{30,}")
_USERNAME = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")
_LINK = re.compile(r"https://[^\s/]+\.[^\s]+")
MAX_OWNERS = 20
_PROVIDER_TOKEN = re.compile(r"[0-9]{1,20}:(LIVE|TEST):[A-Za-z0-9_=-]{1,128}")
_WEBHOOK_SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")


class Settings(ServiceSettings):
    dsn: SecretStr = Field(
        validation_alias="TURNPIKE_BOT_DSN", description="PostgreSQL, as the role bot_app"
    )
    bot_token: SecretStr = Field(description="The bot's token, as BotFather gives it")
    telegram_api_url: str = Field(
        default="https://api.telegram.org",
        pattern=r"^https?://[^/\s]+/?$",
        description="Where the Bot API answers",
    )
    telegram_mode: Literal["polling", "webhook"] = Field(
        default="polling",
        description="How updates arrive: polling (one poller at a time) or webhook (any replicas)",
    )
    telegram_webhook_url: str | None = Field(
        default=None,
        validate_default=True,
        description="The URL under which Telegram reaches /telegram, for the webhook",
    )
    telegram_webhook_secret: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description="The secret that Telegram sends with every update, for the webhook",
    )
    bot_messages_per_s: float = Field(
        default=10.0,
        gt=0,
        le=1000,
        description="Messages a second that all replicas may send together",
    )

    support_contact: str | None = Field(
        default=None,
        description="The contact for questions about payments: @username, or a link with https://",
    )

    owners: str | None = Field(
        default=None,
        description="The first owners, separated by commas: names of operators or Telegram ids",
    )

    provider_token: SecretStr | None = Field(
        default=None,
        description="BotFather's token of a payment provider, for cards in Telegram",
    )

    @property
    def first_owners(self) -> tuple[str, ...]:
        """In the order of the setting, each once."""
        return tuple(dict.fromkeys(_listed(self.owners)))

    @field_validator("owners")
    @classmethod
    def _are_operators(cls, owners: str | None) -> str | None:
        names = _listed(owners)
        if not all(re.fullmatch(OPERATOR_PATTERN, name) for name in names):
            raise ValueError("an owner is 1 to 64 of A-Z a-z 0-9 . _ @ + -")
        if len(names) > MAX_OWNERS:
            raise ValueError(f"it has at most {MAX_OWNERS} owners")
        return owners or None

    @field_validator("support_contact")
    @classmethod
    def _can_be_written_to(cls, contact: str | None) -> str | None:
        if contact and not (_USERNAME.fullmatch(contact) or _LINK.fullmatch(contact)):
            raise ValueError(
                "a contact is an @username of Telegram or a link that begins with https://"
            )
        return contact or None

    @field_validator("bot_token")
    @classmethod
    def _is_a_token(cls, token: SecretStr) -> SecretStr:
        if not _BOT_TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("a bot token is a number, a colon and at least 30 characters")
        return token

    @field_validator("provider_token")
    @classmethod
    def _is_a_provider_token(cls, token: SecretStr | None) -> SecretStr | None:
        given = token.get_secret_value() if token else ""
        if given and not _PROVIDER_TOKEN.fullmatch(given):
            raise ValueError(
                "a provider token of BotFather is a number, LIVE or TEST, and a word, with colons"
            )
        return token if given else None

    @field_validator("telegram_webhook_url")
    @classmethod
    def _is_an_address(cls, url: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("telegram_mode") != "webhook":
            return url
        if not re.fullmatch(r"https?://\S+", url or ""):
            raise ValueError(
                "the mode webhook needs the address under which Telegram reaches /telegram"
            )
        if not re.fullmatch(r"https?://[^/?#]+(/[^?#]*)?/telegram([?#].*)?", url or ""):
            raise ValueError("its path has to end in /telegram, where bot-gateway receives updates")
        return url

    @field_validator("telegram_webhook_secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        shown = secret.get_secret_value() if secret else ""
        if info.data.get("telegram_mode") == "webhook" and not _WEBHOOK_SECRET.fullmatch(shown):
            raise ValueError("the mode webhook needs a secret of 16 to 256 of A-Z a-z 0-9 _ -")
        return secret


def _listed(owners: str | None) -> list[str]:
    return [name for one in (owners or "").split(",") if (name := one.strip())]
