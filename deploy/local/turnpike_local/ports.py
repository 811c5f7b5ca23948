"""Loopback ports: which are free, and who answers on them."""

import asyncio
import socket
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"

_ANSWER_TIMEOUT_S = 2.0

_given: set[int] = set()


def free_port() -> int:
    """A free loopback port, never the same twice in one process.

    The kernel gives listeners ports of the other parity than outgoing connections get, so a client that keeps trying
    to reach a stopped server does not meet itself on that server's port.
    """
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def is_free(port: int) -> bool:
    """Whether a server may listen on that loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As servers do: closed connections do not count.
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


async def fetch(url: str, timeout_s: float = _ANSWER_TIMEOUT_S) -> bytes | None:
    """The body of a GET on a loopback URL when it answers 200, else None. Raises `OSError` where nobody answers."""
    address = urlsplit(url)
    target = f"{address.path or '/'}?{address.query}".rstrip("?")
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(f"GET {target} HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
    return body if head.split(maxsplit=2)[1:2] == [b"200"] else None


async def answers(url: str) -> bool:
    """Whether a GET on that loopback URL is answered with 200."""
    return await fetch(url) is not None


async def accepts(port: int) -> bool:
    """Whether somebody accepts connections on that loopback port. Raises `OSError` where nobody does."""
    _, writer = await asyncio.wait_for(asyncio.open_connection(LOOPBACK, port), _ANSWER_TIMEOUT_S)
    writer.close()
    return True
