"""Settings come from `TURNPIKE_*` variables, once, at start; each mistake is one sentence that names its variable."""

import sys
from typing import TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """What every service needs. Each service adds its own DSN as `dsn`, aliased to its variable."""

    model_config = SettingsConfigDict(env_prefix="TURNPIKE_", frozen=True, extra="ignore", populate_by_name=True)

    dsn: SecretStr
    nats_url: SecretStr = Field(description="Where NATS listens, with its credentials: nats://user:password@host:4222")
    nats_replicas: int = Field(
        default=1, ge=1, le=5, description="Replicas of streams and consumers: 1, or 3 in a cluster"
    )
    http_host: str = Field(default="127.0.0.1", description="The address that health, metrics and webhooks listen on")
    http_port: int = Field(default=8080, ge=0, le=65535, description="The port of health, metrics and webhooks")

    @field_validator("dsn")
    @classmethod
    def _is_postgresql(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it has to begin with postgresql://")
        return dsn

    @field_validator("nats_url")
    @classmethod
    def _is_nats(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("nats://", "tls://")):
            raise ValueError("it has to begin with nats:// or tls://")
        return url


Settings = TypeVar("Settings", bound=ServiceSettings)


def read_settings(settings: type[Settings]) -> Settings:
    """Read the environment; wrong or missing settings end the process with status 2 and a sentence each."""
    try:
        return settings()
    except ValidationError as error:
        for sentence in mistakes(settings, error):
            print(sentence, file=sys.stderr)  # noqa: T201 - the logger is not there yet, and a person reads this.
        sys.exit(2)


def mistakes(settings: type[BaseSettings], error: ValidationError) -> list[str]:
    """One sentence per mistake; never the value, it may be a secret."""
    sentences = []
    for mistake in error.errors(include_url=False, include_input=False):
        name = variable_of(settings, str(mistake["loc"][0])) if mistake["loc"] else "The settings"
        if mistake["type"] == "missing":
            sentences.append(f"{name} is not set.")
        else:
            sentences.append(f"{name} is not usable: {mistake['msg'].removeprefix('Value error, ')}.")
    return sentences


def variable_of(settings: type[BaseSettings], field: str) -> str:
    """The environment variable that fills a field (or that the alias already is)."""
    info = settings.model_fields.get(field)
    if info is not None and isinstance(info.validation_alias, str):
        return info.validation_alias
    return field if info is None else f"{settings.model_config.get('env_prefix', '')}{field}".upper()
