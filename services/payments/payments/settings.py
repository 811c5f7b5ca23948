"""The environment variables of payments."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from payments.domain.fiscal import Terms
from shared.platform.settings import ServiceSettings

Subject = Literal["service", "intellectual_activity", "property_right", "another"]
Networks = tuple[IPv4Network | IPv6Network, ...]

_SHOP_ID = re.compile(r"[0-9]{1,20}")
_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,256}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
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
    yookassa_saves_methods: bool = Field(
        default=False,
        description="Whether YooKassa may save cards and accounts, by consent of their payers",
    )
    receipts: bool = Field(
        default=False,
        validate_default=True,
        description="Whether receipts for the tax office (54-FZ) go with payments of YooKassa",
    )
    receipt_email: str | None = Field(
        default=None,
        validate_default=True,
        max_length=254,
        description="The e-mail that receipts go to",
    )
    receipt_ask_email: bool = Field(
        default=False,
        validate_default=True,
        description="Whether each person is asked once for an e-mail for their receipts",
    )
    receipt_item: str = Field(
        default="Доступ к VPN",
        min_length=1,
        max_length=128,
        description="The text of the item in receipts",
    )
    receipt_subject: Subject = Field(
        default="service", description="What a receipt is for, in YooKassa's words"
    )
    receipt_vat_code: int = Field(
        default=1, ge=1, le=12, description="YooKassa's code of the VAT rate; 1 is without VAT"
    )
    receipt_tax_system: int | None = Field(
        default=None, ge=1, le=6, description="YooKassa's code of the tax system, if it asks for it"
    )
    provider_token: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description="BotFather's token for cards in Telegram, as bot-gateway has it",
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

    @field_validator(
        *("receipts", "receipt_ask_email", "receipt_tax_system", "yookassa_saves_methods"),
        mode="before",
    )
    @classmethod
    def _is_blank(cls, given: Any, info: ValidationInfo) -> Any:
        """A line `NAME=` of an environment file says nothing."""
        return cls.model_fields[str(info.field_name)].default if given == "" else given

    @property
    def saving(self) -> frozenset[str]:
        """The acquirers that may save methods."""
        return frozenset({"yookassa"} if self.yookassa_saves_methods else ())

    @field_validator("receipts")
    @classmethod
    def _have_a_register(cls, receipts: Any, info: ValidationInfo) -> Any:
        if receipts and info.data.get("yookassa_shop_id", "refused") is None:
            raise ValueError("receipts are sent by YooKassa: set TURNPIKE_YOOKASSA_SHOP_ID")
        return receipts

    @field_validator("receipt_email")
    @classmethod
    def _is_an_email(cls, email: str | None, info: ValidationInfo) -> str | None:
        if email and not (email.isascii() and _EMAIL.fullmatch(email)):
            raise ValueError("it is no e-mail address")
        if not email and info.data.get("receipts"):
            raise ValueError("receipts need an e-mail address, beside TURNPIKE_RECEIPTS")
        return email or None

    @field_validator("receipt_ask_email")
    @classmethod
    def _has_receipts(cls, asks: Any, info: ValidationInfo) -> Any:
        if asks and not info.data.get("receipts", True):
            raise ValueError("there are no receipts: set TURNPIKE_RECEIPTS")
        return asks

    @field_validator("receipt_item")
    @classmethod
    def _is_plain_text(cls, item: str) -> str:
        if not item.isprintable() or not item.strip():
            raise ValueError("it is a text of one line")
        return item

    @property
    def receipt_terms(self) -> Terms | None:
        """None: no receipts are sent."""
        if not self.receipts:
            return None
        assert self.receipt_email is not None, "receipts need an e-mail"
        return Terms(
            self.receipt_email,
            self.receipt_item,
            self.receipt_subject,
            self.receipt_vat_code,
            self.receipt_tax_system,
        )

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

    @field_validator("provider_token")
    @classmethod
    def _has_its_listing(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if token is None or not token.get_secret_value():
            return None
        if info.data.get("yookassa_shop_id", "refused") is None:
            raise ValueError(
                "only the listing of YooKassa shows such payments: set TURNPIKE_YOOKASSA_SHOP_ID"
            )
        if info.data.get("receipts"):
            raise ValueError(
                "cards in Telegram are sold without a receipt for the tax office: "
                "remove it, or TURNPIKE_RECEIPTS"
            )
        return token

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
