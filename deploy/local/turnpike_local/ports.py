"""Loopback ports: which are free, and who answers on them."""

import asyncio
import errno
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"

_ANSWER_TIMEOUT_S = 2.0

# Where the kernel takes the ports of outgoing connections from: a port in here may be gone before its server binds it.
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT, _LAST_PORT = 10_000, 65_535
_FEWEST_PORTS = 1_000

_reserved: list[socket.socket] = []


def free_port() -> int:
    """A free loopback port that nobody else is given while this process lives, and that no outgoing connection takes
    where the kernel leaves any to servers.

    It is reserved by its UDP twin: all who choose ports here bind that first, and the kernel lets go of it with the
    process, however that ends. Raises `OSError` (EADDRINUSE) where a thousand tries found none.
    """
    candidates = server_ports()
    for port in random.SystemRandom().sample(candidates, _FEWEST_PORTS):
        twin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            twin.bind((LOOPBACK, port))
        except OSError:
            twin.close()
            continue
        if is_free(port):
            _reserved.append(twin)
            return port
        twin.close()
    raise OSError(errno.EADDRINUSE, "no free port was found in a thousand tries")


def server_ports() -> Sequence[int]:
    """The ports that the kernel leaves to servers; all of them on a machine that leaves hardly any."""
    lowest, highest = map(int, _OUTGOING.read_text().split())
    every = range(_FIRST_PORT, _LAST_PORT + 1)
    left = [port for port in every if not lowest <= port <= highest]
    return left if len(left) >= _FEWEST_PORTS else every


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
