"""The settings of notifier."""

from pydantic import Field, SecretStr, field_validator

from shared.platform.settings import ServiceSettings


class Settings(ServiceSettings):
    dsn: SecretStr = Field(
        validation_alias="TURNPIKE_NOTIFIER_DSN", description="PostgreSQL, as the role notifier_app"
    )
    bot_token: SecretStr = Field(description="The bot's token, as BotFather gives it")
    telegram_api_url: str = Field(
        default="https://api.telegram.org",
        pattern=r"^https?://[^/\s]",
        description="The URL of the Bot API",
    )
    messages_per_s: float = Field(
        default=20.0,
        gt=0,
        le=10_000,
        validation_alias="TURNPIKE_NOTIFIER_MESSAGES_PER_S",
        description="How many messages a second all replicas send together",
    )

    @field_validator("bot_token")
    @classmethod
    def _looks_like_a_token(cls, token: SecretStr) -> SecretStr:
        number, _, secret = token.get_secret_value().partition(":")
        if (
            not number.isdecimal()
            or not secret
            or any(character.isspace() or character == "/" for character in secret)
        ):
            raise ValueError("a number, a colon and a secret are expected")
        return token
