"""YooKassa for measuring: its stand-in in a process of its own, and the way to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.kit.proxy import CHUNK_BYTES, Proxy
from tests.kit.standin import process, url_of
from turnpike_local.yookassa import Shop

SHOP = Shop()


@asynccontextmanager
async def stand_in(folder: Path) -> AsyncIterator[str]:
    """The address of a shop that posts no notices itself."""
    async with process("yookassa", "--state", str(folder / "yookassa")) as running:
        yield await url_of(running, "YooKassa")


def settings(url: str) -> dict[str, str]:
    return {
        "TURNPIKE_YOOKASSA_SHOP_ID": SHOP.shop_id,
        "TURNPIKE_YOOKASSA_SECRET_KEY": SHOP.secret_key,
        "TURNPIKE_YOOKASSA_API_URL": f"{url}/v3",
    }


class DistantProxy(Proxy):
    """A round trip over this link takes `round_trip_s` longer, however many are under way."""

    def __init__(self, target_port: int, round_trip_s: float) -> None:
        super().__init__(target_port)
        self._one_way_s = round_trip_s / 2

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                loop.call_later(self._one_way_s, writer.write, data)
        await asyncio.sleep(self._one_way_s)
