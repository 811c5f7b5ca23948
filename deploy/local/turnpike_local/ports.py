"""Loopback ports: free ones, and servers that answer."""

import asyncio
import errno
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"

_ANSWER_TIMEOUT_S = 2.0

# The kernel takes the ports of outgoing connections from this range. Such a connection may take a
# port of it before a server binds that port.
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT, _LAST_PORT = 10_000, 65_535
_FEWEST_PORTS = 1_000

_reserved: dict[int, socket.socket] = {}
_kept: set[int] = set()


def free_port() -> int:
    """A free loopback port, reserved for this process as long as it lives.

    It lies outside the range of outgoing connections where the kernel leaves any ports to servers.
    The reservation is the UDP port of the same number: every caller binds it first, and the kernel
    releases it when the process ends. Raises `OSError` (EADDRINUSE) after a thousand tries.
    """
    candidates = server_ports()
    for port in random.SystemRandom().sample(candidates, _FEWEST_PORTS):
        if _reserve(port):
            return port
    raise OSError(errno.EADDRINUSE, "no free port was found in a thousand tries")


def kept_port(file: Path) -> int:
    """The port in this file, or a free one that is written there if that is taken or missing.

    Links that people have contain the port, so it stays the same as long as it can.
    """
    try:
        kept = int(file.read_text())
    except (OSError, ValueError):
        kept = 0
    if kept in _kept and is_free(kept):  # A shop that starts again within this process.
        return kept
    if 0 < kept <= _LAST_PORT and _reserve(kept):
        _kept.add(kept)
        return kept
    port = free_port()
    _kept.add(port)
    file.write_text(f"{port}\n")
    return port


def _reserve(port: int) -> bool:
    """Reserve this port for this process, unless it is taken or reserved."""
    if port in _reserved:
        return False
    twin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        twin.bind((LOOPBACK, port))
    except OSError:
        twin.close()
        return False
    if not is_free(port):
        twin.close()
        return False
    _reserved[port] = twin
    return True


def server_ports() -> Sequence[int]:
    """The ports outside the range of outgoing connections, or all ports when few remain."""
    lowest, highest = map(int, _OUTGOING.read_text().split())
    every = range(_FIRST_PORT, _LAST_PORT + 1)
    left = [port for port in every if not lowest <= port <= highest]
    return left if len(left) >= _FEWEST_PORTS else every


def is_free(port: int) -> bool:
    """Whether a server may listen on that loopback port now."""
    with socket.socket() as probe:
        # Servers set this option too: closed connections do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


async def fetch(url: str, timeout_s: float = _ANSWER_TIMEOUT_S) -> bytes | None:
    """The body of a GET on a loopback URL when the status is 200, else None.

    Raises `OSError` when nothing answers.
    """
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
    """Whether a GET on that loopback URL is answered with 200. Raises `OSError` like `fetch`."""
    return await fetch(url) is not None


async def accepts(port: int) -> bool:
    """True when a server accepts connections on that loopback port. Raises `OSError` otherwise."""
    _, writer = await asyncio.wait_for(asyncio.open_connection(LOOPBACK, port), _ANSWER_TIMEOUT_S)
    writer.close()
    return True
