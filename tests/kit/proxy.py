"""A TCP link that can be cut: silently, like a cable, or with resets, like a firewall."""

import asyncio
import socket
import struct
from collections import Counter
from contextlib import suppress
from typing import Literal, Self

from turnpike_local.ports import LOOPBACK, free_port

Cut = Literal["silent", "severed"]

CHUNK_BYTES = 65_536
# SO_LINGER of zero seconds: closing sends RST, like a crash.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards every connection to one server.

    Bytes that are sent during a silent cut arrive after it, and so does the end of a connection:
    until then the other side has a half-open connection.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self.carried_bytes = 0  # In both directions.
        self.met: Counter[Cut] = Counter()
        """How many connections each kind of cut affected, also new ones during the cut."""
        self._whole = asyncio.Event()
        self._whole.set()
        self._refuses = False
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._sever()
        await asyncio.gather(*self._links, return_exceptions=True)

    def cut(self, how: Cut) -> None:
        """`silent` keeps connections open and forwards nothing. `severed` resets all of them."""
        self.met[how] += len(self._links)
        if how == "silent":
            self._whole.clear()
        else:
            self._refuses = True
            self._sever()

    def mend(self) -> None:
        self._refuses = False
        self._whole.set()

    def _sever(self) -> None:
        for link in self._links:
            link.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            self.met["severed"] += self._refuses
            if not self._refuses:
                self.met["silent"] += not self._whole.is_set()
                await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # One side is gone, or the link was severed. Both sides get the reset.
        finally:
            self._links.discard(task)
            _reset(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
        ways = [
            asyncio.ensure_future(self._pump(reader, there_writer)),
            asyncio.ensure_future(self._pump(there_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            _reset(there_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._whole.wait()
                writer.write(data)
                self.carried_bytes += len(data)
                await writer.drain()
        await self._whole.wait()  # After this, the other side learns that this side is gone.


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        connected = writer.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.close()
