"""The link that chaos cuts: it forwards, it goes silent without losing a byte, and it resets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.kit.proxy import Proxy, _reset
from tests.kit.waiting import HANG_S, until
from turnpike_local.ports import LOOPBACK, free_port


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, LOOPBACK, port):
        yield port


async def test_a_silent_link_delivers_everything_once_mended(echo: int) -> None:
    async with Proxy(echo) as proxy:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        proxy.cut("silent")
        writer.write(b"during")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(6), 0.2)
        proxy.mend()
        assert await reader.readexactly(6) == b"during"
        writer.close()


@pytest.mark.parametrize("how", ["hangs up", "resets"])
async def test_a_silent_link_hides_a_gone_client(how: str) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            writer.write(await reader.readexactly(1))
            await reader.read()
        gone.set()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, LOOPBACK, port), Proxy(port) as proxy:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        proxy.cut("silent")
        writer.close() if how == "hangs up" else _reset(writer)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gone.wait(), 0.2)
        proxy.mend()
        await asyncio.wait_for(gone.wait(), HANG_S)


async def test_a_silent_link_hides_a_gone_server() -> None:
    hang_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        await hang_up.wait()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, LOOPBACK, port), Proxy(port) as proxy:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        proxy.cut("silent")
        hang_up.set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.2)
        proxy.mend()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), HANG_S)
        writer.close()


async def test_a_severed_link_resets_old_and_new_connections(echo: int) -> None:
    async with Proxy(echo) as proxy:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        proxy.cut("severed")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        again, other = await asyncio.open_connection(LOOPBACK, proxy.port)
        with pytest.raises(ConnectionResetError):
            await again.readexactly(1)
        proxy.mend()
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"after")
        assert await reader.readexactly(5) == b"after"
        for end in (writer, other):
            end.close()


async def test_a_link_counts_bytes_and_affected_connections(echo: int) -> None:
    async with Proxy(echo) as proxy:
        proxy.cut("silent")
        assert (proxy.carried_bytes, proxy.met["silent"]) == (0, 0), "no connection was open"
        early, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"three")
        await until(lambda: proxy.met["silent"] == 1)
        proxy.mend()
        assert await early.readexactly(5) == b"three"
        assert (proxy.carried_bytes, proxy.met["silent"], proxy.met["severed"]) == (2 * 5, 1, 0)
        proxy.cut("severed")
        late, other = await asyncio.open_connection(LOOPBACK, proxy.port)
        for reader in (early, late):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        assert (proxy.carried_bytes, proxy.met["silent"], proxy.met["severed"]) == (2 * 5, 1, 2)
        for end in (writer, other):
            end.close()


async def test_the_link_ends_when_the_server_hangs_up(echo: int) -> None:
    async with Proxy(echo) as proxy:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.write_eof()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
