"""What bot-gateway needs from its environment."""

import re
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from shared.settings import ServiceSettings

_BOT_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{30,}")
_USERNAME = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")
_LINK = re.compile(r"https://[^\s/]+\.[^\s]+")
_WEBHOOK_SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")


class Settings(ServiceSettings):
    dsn: SecretStr = Field(validation_alias="TURNPIKE_BOT_DSN", description="PostgreSQL, as the role bot_app")
    bot_token: SecretStr = Field(description="The bot's token, as BotFather gives it")
    telegram_api_url: str = Field(
        default="https://api.telegram.org", pattern=r"^https?://[^/\s]+/?$", description="Where the Bot API answers"
    )
    telegram_mode: Literal["polling", "webhook"] = Field(
        default="polling", description="How updates come: polling (one poller at a time) or webhook (any replicas)"
    )
    telegram_webhook_url: str | None = Field(
        default=None, validate_default=True, description="Where Telegram reaches our /telegram, for the webhook"
    )
    telegram_webhook_secret: SecretStr | None = Field(
        default=None, validate_default=True, description="What Telegram shows us with every update, for the webhook"
    )
    bot_messages_per_s: float = Field(
        default=10.0, gt=0, le=1000, description="Messages a second that all replicas may show together"
    )

    support_contact: str | None = Field(
        default=None, description="Whom people write to about their payments: @username, or a link with https://"
    )

    @field_validator("support_contact")
    @classmethod
    def _can_be_written_to(cls, contact: str | None) -> str | None:
        if contact and not (_USERNAME.fullmatch(contact) or _LINK.fullmatch(contact)):
            raise ValueError("a contact is an @username of Telegram or a link that begins with https://")
        return contact or None

    @field_validator("bot_token")
    @classmethod
    def _is_a_token(cls, token: SecretStr) -> SecretStr:
        if not _BOT_TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("a bot token is a number, a colon and at least 30 letters")
        return token

    @field_validator("telegram_webhook_url")
    @classmethod
    def _is_an_address(cls, url: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("telegram_mode") == "webhook" and not re.fullmatch(r"https?://\S+", url or ""):
            raise ValueError("the mode webhook needs the address under which Telegram reaches /telegram")
        return url

    @field_validator("telegram_webhook_secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        shown = secret.get_secret_value() if secret else ""
        if info.data.get("telegram_mode") == "webhook" and not _WEBHOOK_SECRET.fullmatch(shown):
            raise ValueError("the mode webhook needs a secret of 16 to 256 of A-Z a-z 0-9 _ -")
        return secret
