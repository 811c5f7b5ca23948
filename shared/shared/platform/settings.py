"""Settings: `TURNPIKE_*` variables, read once at start. Each mistake is one sentence."""

import re
import sys
from ipaddress import ip_address
from typing import NoReturn, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

REFUSED_STATUS = 2
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class BusSettings(BaseSettings):
    """The address of NATS: for services and `turnpike streams`."""

    model_config = SettingsConfigDict(
        env_prefix="TURNPIKE_", frozen=True, extra="ignore", populate_by_name=True
    )

    nats_url: SecretStr = Field(
        description="Where NATS listens, with its credentials: nats://user:password@host:4222"
    )
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
    """The settings of every service. Each adds its own DSN as `dsn`, aliased to its variable."""

    dsn: SecretStr
    http_host: str = Field(
        default="127.0.0.1", description="The address that health, metrics and webhooks listen on"
    )
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="The port of health, metrics and webhooks"
    )
    sandbox_clock: bool = Field(
        default=False,
        description="Whether the shop's clock may be ahead: only for the sandbox of turnpike up",
    )

    traces_kept: float = Field(
        default=1.0,
        ge=0,
        le=1,
        validation_alias="OTEL_TRACES_SAMPLER_ARG",
        description="The share of orders traced",
    )

    @field_validator("dsn")
    @classmethod
    def _is_postgresql(cls, dsn: SecretStr) -> SecretStr:
        check_dsn(dsn.get_secret_value())
        return dsn


def check_dsn(dsn: str) -> None:
    """Raises ValueError for a DSN that PostgreSQL's client cannot parse."""
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ValueError("it has to begin with postgresql://")
    parts = urlsplit(dsn)
    _check_ports(parts.netloc)
    if not set(parse_qs(parts.query).get("sslmode", ())) <= set(SSL_MODES):
        raise ValueError(f"its sslmode is none of {', '.join(SSL_MODES)}")


def address_of(dsn: str) -> str:
    """Host, port and database of a DSN, for people: without user, password and options."""
    parts = urlsplit(dsn)
    named = parse_qs(parts.query).get("host", ["localhost"])
    return f"{parts.netloc.rpartition('@')[2] or ','.join(named)}{parts.path}"


def _check_ports(places: str) -> None:
    """Check the ports in `user:password@host:port,host:port`."""
    for place in places.split("/")[0].rpartition("@")[2].split(","):
        port = re.fullmatch(r"(?:\[[^]]*\]|[^:]*)(?::(.*))?", place)
        if port is None or not re.fullmatch(r"[0-9]{0,5}", port[1] or ""):
            raise ValueError(
                "its port is no number (in a password, / ? # @ and : are written as "
                "%2F %3F %23 %40 %3A)"
            )


def is_public(host: str) -> bool:
    """Whether people elsewhere may reach this host. The name of a host is not looked up."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        address = ip_address(name)
    except ValueError:
        return "." in name and not name.endswith((".localhost", ".local"))
    return (getattr(address, "ipv4_mapped", None) or address).is_global


Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(settings: type[Settings]) -> Settings:
    """Read the environment. Mistakes end the process with status 2 and a sentence each."""
    try:
        return settings()
    except ValidationError as error:
        refuse(*mistakes(settings, error))


def refuse(*sentences: str) -> NoReturn:
    """End the process because of its environment."""
    complain(*sentences)
    sys.exit(REFUSED_STATUS)


def complain(*sentences: str) -> None:
    for sentence in sentences:
        print(sentence, file=sys.stderr)  # noqa: T201 - for a person, not in JSON.


def mistakes(settings: type[BaseSettings], error: ValidationError) -> list[str]:
    """One sentence per mistake, without the value: it may be a secret."""
    sentences = []
    for mistake in error.errors(include_url=False, include_input=False):
        name = variable_of(settings, str(mistake["loc"][0])) if mistake["loc"] else "The settings"
        if mistake["type"] == "missing":
            sentences.append(f"{name} is not set.")
        else:
            sentences.append(
                f"{name} is not usable: {mistake['msg'].removeprefix('Value error, ')}."
            )
    return sentences


def variable_of(settings: type[BaseSettings], field: str) -> str:
    """The environment variable of a field."""
    info = settings.model_fields.get(field)
    if info is not None and isinstance(info.validation_alias, str):
        return info.validation_alias
    return (
        field if info is None else f"{settings.model_config.get('env_prefix', '')}{field}".upper()
    )
