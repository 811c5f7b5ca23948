"""Clients of payment providers: one protocol, and one folder for each provider.

A new provider is a folder with its client, its recorded answers in `tests/samples`, its stand-in,
its settings, and one line in `PROVIDERS`.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from payments.providers.protocol import Provider
from payments.settings import Settings


class Line(NamedTuple):
    """A provider that is on when `setting` has a value.

    `module` has a function `provider_from(settings)`. It is imported only then: a shop that is paid
    through Telegram only needs no HTTP client.
    """

    setting: str
    module: str


PROVIDERS = (
    Line("yookassa_shop_id", "payments.providers.yookassa.client"),
    Line("cryptobot_token", "payments.providers.cryptobot.client"),
)


def providers_from(settings: Settings, table: Sequence[Line] = PROVIDERS) -> tuple[Provider, ...]:
    """The providers whose credentials are set, in the order of the table. None is started."""
    return tuple(
        import_module(line.module).provider_from(settings)
        for line in table
        if getattr(settings, line.setting) is not None
    )
