"""A stand-in of a NATS server: it refuses clients with any error that the real one may send."""

import asyncio
from contextlib import suppress
from typing import Self

from turnpike_local.ports import LOOPBACK, free_port

INFO = b'INFO {"server_id":"stand-in","version":"2.12.0","headers":true,"max_payload":1048576}\r\n'


class RefusingServer:
    """It welcomes clients, or sends each the line in `refusal` in the place of a welcome."""

    def __init__(self) -> None:
        self.port = free_port()
        self.refusal = b""
        self.refused = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def send(self, line: bytes, *, hang_up: bool = True) -> None:
        """Send a line to every client; the real server hangs up after most errors."""
        for writer in list(self._writers):
            writer.write(line)
            if hang_up:
                writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        self._writers.add(writer)
        with suppress(OSError):
            while line := await reader.readline():
                if self.refusal:
                    self.refused += line.startswith(b"CONNECT")
                    writer.write(self.refusal)
                    break
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        self._writers.discard(writer)
        writer.close()
