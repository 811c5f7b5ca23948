"""The table of payment providers, their settings, and what one more takes."""

import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from payments.domain.provider import Opened
from payments.providers import PROVIDERS, Line, providers_from
from payments.settings import Settings
from shared.platform.settings import mistakes
from tests.kit.providers import asked_by

SHOP = {"yookassa_shop_id": "100500", "yookassa_secret_key": "k"}
KEY = "TURNPIKE_YOOKASSA_SECRET_KEY is not usable: "


def settings(**values: Any) -> Settings:
    known = {"dsn": SecretStr("postgresql://"), "nats_url": SecretStr("nats://")}
    return Settings(**(known | values))


def test_a_provider_is_on_by_its_credentials() -> None:
    assert providers_from(settings()) == ()
    both = settings(
        yookassa_shop_id="100500", yookassa_secret_key="k", cryptobot_token="4242:secret"
    )
    assert [one.name for one in providers_from(both)] == ["yookassa", "cryptobot"]
    one = settings(cryptobot_token="4242:secret")
    assert [(one.name, one.ways) for one in providers_from(one)] == [("cryptobot", ("crypto",))]


def test_receipts_are_off_by_default() -> None:
    assert settings(**SHOP).receipt_terms is None
    on = settings(**SHOP, receipts=True, receipt_email="a@example.org", receipt_vat_code=11)
    assert on.receipt_terms == ("a@example.org", "Доступ к VPN", "service", 11, None)


def test_blank_settings_are_no_credentials() -> None:
    """W-41: a line `NAME=` of an environment file."""
    blank = settings(yookassa_shop_id="", yookassa_secret_key="", cryptobot_token="")
    assert providers_from(blank) == ()
    assert settings(provider_token="").provider_token is None
    blank = settings(receipts="", receipt_email="", receipt_ask_email="", receipt_tax_system="")
    assert blank.receipt_terms is None
    assert blank.receipt_tax_system is None


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"yookassa_shop_id": "100500"},
            KEY + "a shop needs its key, beside TURNPIKE_YOOKASSA_SHOP_ID.",
        ),
        (
            {"yookassa_secret_key": "hunter2"},
            KEY + "a key needs its shop, in TURNPIKE_YOOKASSA_SHOP_ID.",
        ),
        (
            {"yookassa_shop_id": "100500", "yookassa_secret_key": "hunter2 "},
            KEY + "it holds characters that no key of YooKassa has.",
        ),
        (
            {"yookassa_shop_id": "hunter2", "yookassa_secret_key": "k"},
            "TURNPIKE_YOOKASSA_SHOP_ID is not usable: a shop of YooKassa is a number.",
        ),
        (
            {"cryptobot_token": "hunter2"},
            "TURNPIKE_CRYPTOBOT_TOKEN is not usable: "
            "a token of @CryptoBot is a number, a colon and a secret.",
        ),
        (
            {"receipts": "true"},
            "TURNPIKE_RECEIPTS is not usable: "
            "receipts are sent by YooKassa: set TURNPIKE_YOOKASSA_SHOP_ID.",
        ),
        (
            SHOP | {"receipts": "true"},
            "TURNPIKE_RECEIPT_EMAIL is not usable: "
            "receipts need an e-mail address, beside TURNPIKE_RECEIPTS.",
        ),
        (
            {"provider_token": "hunter2"},
            "TURNPIKE_PROVIDER_TOKEN is not usable: "
            "only the listing of YooKassa shows such payments: set TURNPIKE_YOOKASSA_SHOP_ID.",
        ),
        (
            SHOP | {"receipts": "true", "receipt_email": "a@b.org", "provider_token": "hunter2"},
            "TURNPIKE_PROVIDER_TOKEN is not usable: "
            "cards in Telegram are sold without a receipt for the tax office: "
            "remove it, or TURNPIKE_RECEIPTS.",
        ),
        (
            {"receipt_email": "hunter2"},
            "TURNPIKE_RECEIPT_EMAIL is not usable: it is no e-mail address.",
        ),
        (
            {"receipt_ask_email": "true"},
            "TURNPIKE_RECEIPT_ASK_EMAIL is not usable: there are no receipts: "
            "set TURNPIKE_RECEIPTS.",
        ),
        ({"receipt_vat_code": "13"}, "TURNPIKE_RECEIPT_VAT_CODE is not usable"),
        ({"receipt_tax_system": "0"}, "TURNPIKE_RECEIPT_TAX_SYSTEM is not usable"),
        ({"receipt_subject": "hunter2"}, "TURNPIKE_RECEIPT_SUBJECT is not usable"),
        (
            {"receipt_item": "a\nb"},
            "TURNPIKE_RECEIPT_ITEM is not usable: it is a text of one line.",
        ),
        ({"cryptobot_api_url": "hunter2"}, "TURNPIKE_CRYPTOBOT_API_URL is not usable"),
        ({"yookassa_api_url": "ftp://hunter2"}, "TURNPIKE_YOOKASSA_API_URL is not usable"),
    ],
)
def test_half_a_credential_is_one_sentence(wrong: dict[str, Any], sentence: str) -> None:
    """R-10, R-137, R-141, S-07: it names the missing partner and no value."""
    with pytest.raises(ValidationError) as refused:
        settings(**wrong)
    (written,) = mistakes(Settings, refused.value)
    assert written.startswith(sentence)
    assert "hunter2" not in written


async def test_one_more_provider_is_one_line() -> None:
    """Its folder and its line are all: the others do not change."""
    table = (*PROVIDERS, Line("made_up_key", "tests.kit.made_up_provider"))
    given: Any = SimpleNamespace(yookassa_shop_id=None, cryptobot_token=None, made_up_key="k")
    (provider,) = providers_from(given, table)
    assert provider.name == "made_up"
    asked = asked_by("card", datetime(2026, 10, 1, tzinfo=UTC))
    assert await provider.open(asked) == Opened(str(asked.invoice), "https://example.org/pay")


def test_a_shop_without_providers_imports_no_client() -> None:
    """A shop that takes Stars only has no memory to spend on an HTTP client."""
    program = "import sys, payments.providers; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
