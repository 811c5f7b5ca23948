"""A sandbox beside the stand-ins of the payment providers, and a merchant instead of a shop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.kit.cryptopay import TOKEN as CRYPTO_TOKEN
from tests.kit.sandbox import TOKEN, UNLIMITED
from tests.kit.yookassa import Merchant, order
from turnpike_local.cryptopay import CryptoPay
from turnpike_local.providers import PROVIDER_TOKEN
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import Json
from turnpike_local.yookassa import Shop, Yookassa, YookassaControl

TRACE = f"{1:032x}"
PAYLOAD = f"{TRACE}.{77:032x}.{9:016x}"


@dataclass
class Town:
    """A sandbox, and both providers in its process."""

    sandbox: Sandbox
    people: SandboxClient
    yookassa: Yookassa
    cabinet: YookassaControl
    merchant: Merchant
    cryptopay: CryptoPay

    async def purchase(self) -> Json:
        """The only purchase, without its number and its time."""
        [listed] = (await self.people.purchases())["purchases"]
        names = ("name", "way", "amount", "currency", "state", "provider", "charges")
        return {name: listed[name] for name in names}


@asynccontextmanager
async def a_town(folder: Path, shop: Shop | None = None, token: str = TOKEN) -> AsyncIterator[Town]:
    yookassa, cryptopay = Yookassa(folder, shop or Shop()), CryptoPay(folder, CRYPTO_TOKEN)
    sandbox = Sandbox(
        folder,
        token,
        limits=UNLIMITED,
        providers=[yookassa, cryptopay],
        cards={PROVIDER_TOKEN: yookassa},
    )
    yookassa.tell = cryptopay.tell = sandbox.take
    async with (
        yookassa,
        cryptopay,
        sandbox,
        aiohttp.ClientSession() as http,
        SandboxClient(sandbox.url) as people,
        YookassaControl(yookassa.url) as cabinet,
    ):
        merchant = Merchant(http, Shop(), f"{yookassa.url}/v3")
        yield Town(sandbox, people, yookassa, cabinet, merchant, cryptopay)


async def ordered(town: Town) -> Json:
    return await town.merchant.done("payments", order(metadata={"payload": PAYLOAD}))
