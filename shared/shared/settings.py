"""Settings come from `TURNPIKE_*` variables, once, at start; each mistake is one sentence that names its variable."""

import re
import sys
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

REFUSED_STATUS = 2


class BusSettings(BaseSettings):
    """Where facts travel: what services and `turnpike streams` need."""

    model_config = SettingsConfigDict(env_prefix="TURNPIKE_", frozen=True, extra="ignore", populate_by_name=True)

    nats_url: SecretStr = Field(description="Where NATS listens, with its credentials: nats://user:password@host:4222")
    nats_replicas: int = Field(
        default=1, ge=1, le=5, description="Replicas of streams and consumers: 1, or 3 in a cluster"
    )

    @field_validator("nats_url")
    @classmethod
    def _is_nats(cls, url: SecretStr) -> SecretStr:
        value = url.get_secret_value()
        if not value.startswith(("nats://", "tls://")):
            raise ValueError("it has to begin with nats:// or tls://")
        _check_ports(re.sub(r"(nats|tls)://", "", value))
        return url


class ServiceSettings(BusSettings):
    """What every service needs. Each service adds its own DSN as `dsn`, aliased to its variable."""

    dsn: SecretStr
    http_host: str = Field(default="127.0.0.1", description="The address that health, metrics and webhooks listen on")
    http_port: int = Field(default=8080, ge=0, le=65535, description="The port of health, metrics and webhooks")

    traces_kept: float = Field(
        default=1.0, ge=0, le=1, validation_alias="OTEL_TRACES_SAMPLER_ARG", description="The share of stories traced"
    )

    @field_validator("dsn")
    @classmethod
    def _is_postgresql(cls, dsn: SecretStr) -> SecretStr:
        check_dsn(dsn.get_secret_value())
        return dsn


def check_dsn(dsn: str) -> None:
    """Raises ValueError when PostgreSQL's client could not even read it."""
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ValueError("it has to begin with postgresql://")
    _check_ports(urlsplit(dsn).netloc)


def _check_ports(places: str) -> None:
    """Of `user:password@host:port,host:port`."""
    for place in places.split("/")[0].rpartition("@")[2].split(","):
        port = re.fullmatch(r"(?:\[[^]]*\]|[^:]*)(?::(.*))?", place)
        if port is None or not re.fullmatch(r"[0-9]{0,5}", port[1] or ""):
            raise ValueError("its port is no number (in a password, / ? # @ and : are written as %2F %3F %23 %40 %3A)")


Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(settings: type[Settings]) -> Settings:
    """Read the environment; wrong or missing settings end the process with status 2 and a sentence each."""
    try:
        return settings()
    except ValidationError as error:
        refuse(*mistakes(settings, error))


def refuse(*sentences: str) -> NoReturn:
    """End the process, because of what its environment says."""
    for sentence in sentences:
        print(sentence, file=sys.stderr)  # noqa: T201 - a person reads this, and not in JSON.
    sys.exit(REFUSED_STATUS)


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
