"""The payment providers of the local shop: stand-ins in the sandbox's process, known to payments.

Their credentials are fixed: they open nothing outside of this machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from turnpike_local.ports import LOOPBACK

Name = Literal["yookassa", "cryptobot"]

YOOKASSA_SHOP_ID = "100500"
YOOKASSA_SECRET_KEY = "test_local"  # noqa: S105 - of a shop that exists on this machine only.
PROVIDER_TOKEN = "381764678:TEST:100500"  # noqa: S105 - cards of this machine's Telegram only.
CRYPTOBOT_TOKEN = "100500:local"  # noqa: S105 - of an app that exists on this machine only.


@dataclass(frozen=True)
class Provider:
    """A provider as payments knows it: its settings begin with `prefix`."""

    name: Name
    credentials: Mapping[str, str] = field(repr=False)
    api_path: str = ""

    @property
    def prefix(self) -> str:
        return f"TURNPIKE_{self.name.upper()}_"

    def settings(self, port: int) -> dict[str, str]:
        """The variables with which payments reaches the stand-in on this port."""
        given = {**self.credentials, "API_URL": f"{url_of(port)}{self.api_path}"}
        return {f"{self.prefix}{name}": value for name, value in given.items()}


PROVIDERS = (
    Provider(
        "yookassa",
        {
            "SHOP_ID": YOOKASSA_SHOP_ID,
            "SECRET_KEY": YOOKASSA_SECRET_KEY,
            "SAVES_METHODS": "true",
        },
        api_path="/v3",
    ),
    Provider("cryptobot", {"TOKEN": CRYPTOBOT_TOKEN}),
)


def played(settings: Mapping[str, str]) -> tuple[Provider, ...]:
    """The providers that the stand-ins play: an operator's own one is left alone, as a whole."""
    return tuple(
        provider
        for provider in PROVIDERS
        if not any(variable.startswith(provider.prefix) for variable in settings)
    )


def url_of(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def webhook_of(name: Name, payments_url: str) -> str:
    """Where this provider posts its notices."""
    return f"{payments_url}/webhooks/{name}"
