"""The environment variables of payments."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from shared.platform.settings import ServiceSettings

Networks = tuple[IPv4Network | IPv6Network, ...]

_SHOP_ID = re.compile(r"[0-9]{1,20}")
_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,256}")
_URL = r"^https?://[^/\s?#]+(/[^\s?#]*)?$"


class Settings(ServiceSettings):
    """The database, and the payment providers. A provider is on when its credentials are set."""

    dsn: SecretStr = Field(
        validation_alias="TURNPIKE_PAYMENTS_DSN", description="PostgreSQL, as the role payments_app"
    )
    return_url: str = Field(
        default="https://t.me/",
        pattern=r"^https?://[^\s]+$",
        max_length=2048,
        description="Where a person returns after paying at a provider: the link of the bot",
    )
    trusted_proxies: str = Field(
        default="",
        description="The networks of the proxies before the webhooks: 10.0.0.0/8,192.0.2.7",
    )
    yookassa_shop_id: str | None = Field(
        default=None, description="The shop's number in the cabinet of YooKassa"
    )
    yookassa_secret_key: SecretStr | None = Field(
        default=None, validate_default=True, description="The secret key of that shop"
    )
    yookassa_api_url: str = Field(
        default="https://api.yookassa.ru/v3", pattern=_URL, description="Where YooKassa answers"
    )
    cryptobot_token: SecretStr | None = Field(
        default=None, description="The token of the app, as @CryptoBot gives it"
    )
    cryptobot_api_url: str = Field(
        default="https://pay.crypt.bot", pattern=_URL, description="Where Crypto Pay answers"
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: str) -> str:
        try:
            networks_from(proxies)
        except ValueError:
            raise ValueError("it is no list of networks, as 10.0.0.0/8,192.0.2.7") from None
        return proxies

    @property
    def trusted_networks(self) -> Networks:
        return networks_from(self.trusted_proxies)

    @field_validator("yookassa_shop_id")
    @classmethod
    def _is_a_shop(cls, shop_id: str | None) -> str | None:
        if shop_id and not _SHOP_ID.fullmatch(shop_id):
            raise ValueError("a shop of YooKassa is a number")
        return shop_id or None

    @field_validator("yookassa_secret_key")
    @classmethod
    def _has_its_shop(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # A shop that was refused is missing in `info.data`: its own sentence is enough.
        shop_id = info.data.get("yookassa_shop_id", "refused")
        given = key.get_secret_value() if key else ""
        if not given:
            if shop_id not in (None, "refused"):
                raise ValueError("a shop needs its key, beside TURNPIKE_YOOKASSA_SHOP_ID")
            return None
        if shop_id is None:
            raise ValueError("a key needs its shop, in TURNPIKE_YOOKASSA_SHOP_ID")
        if not given.isascii() or not given.isprintable() or " " in given:
            raise ValueError("it holds characters that no key of YooKassa has")
        return key

    @field_validator("cryptobot_token")
    @classmethod
    def _is_a_token(cls, token: SecretStr | None) -> SecretStr | None:
        given = token.get_secret_value() if token else ""
        if given and not _TOKEN.fullmatch(given):
            raise ValueError("a token of @CryptoBot is a number, a colon and a secret")
        return token if given else None


def networks_from(text: str) -> Networks:
    """Raises ValueError for a text that is no list of networks."""
    return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())
