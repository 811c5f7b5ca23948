"""Runs Xray with a configuration file, and cuts what ended keys left open: python node.py PATH.

Xray checks a key when a connection begins, and never again. Its API adds and removes users, and has
no call that closes a connection. So a download would go on for as long as it likes after the end of
its key. This program runs Xray within itself. It reads from Xray's access log which user a
connection belongs to, asks the API who is still a user, and shuts down exactly the other sockets.
The log goes through a pipe: it is on no disk, and where people went is not kept.

It does so when `log.access` is "none" and the API has the HandlerService. Otherwise it says that it
does not, and runs Xray alone.
"""

import argparse
import fcntl
import json
import os
import re
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xray

if TYPE_CHECKING:
    import grpc

LOOK_EVERY_S = 5.0
# A renewal in this time is not cut. With the 6 s until a user is removed, an end is cut within a
# minute.
CUT_AFTER_S = 35.0
API_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
PIPE_BYTES = 1024 * 1024

_USERS = "/xray.app.proxyman.command.HandlerService/GetInboundUsers"
_ACCEPTED = re.compile(rb" from (?:tcp:|udp:)?(\S+):(\d+) accepted .* email: (\S+)$")
_VARINT, _BYTES = 0, 2

Peer = tuple[str, int]
"""Address and port of a client."""


@dataclass(slots=True)
class Connection:
    """One connection with its user, and the key that the user had. `gone_at`: no user any more.

    The key is that of the last look. So a connection that began with a new key, before the next
    look, counts as one of the old key: it is cut once, and the app connects again.

    Without a label, the log named two users for one peer. Such a connection is never cut.
    """

    label: str | None
    key: bytes | None
    gone_at: float | None = None


class Cutter:
    """The open connections of some inbounds by peer. Two threads use it: one reads, one looks."""

    def __init__(self, *, cut_after_s: float) -> None:
        self._cut_after_s = cut_after_s
        self._open: dict[Peer, Connection] = {}
        self._keys: Mapping[str, bytes] = {}
        self._lock = threading.Lock()

    def accepted(self, line: bytes) -> None:
        """Remember whose connection it is. A line of the access log."""
        if (found := _ACCEPTED.search(line.rstrip())) is None:
            return
        host, port, label = found[1].decode(), int(found[2]), found[3].decode().lower()
        with self._lock:
            peer, key = (plain(host), port), self._keys.get(label)
            known = self._open.setdefault(peer, Connection(label, key))
            if known.label != label:
                known.label = None

    def known(self) -> set[Peer]:
        with self._lock:
            return set(self._open)

    def due(self, keys: Mapping[str, bytes], now: float) -> set[Peer]:
        """Compare with the users, keys by label, at `now`; returns the peers that are to be cut."""
        with self._lock:
            self._keys = keys
            return {peer for peer, one in self._open.items() if self._is_due(one, now)}

    def _is_due(self, one: Connection, now: float) -> bool:
        if one.label is None:
            return False
        present = self._keys.get(one.label)
        if one.key is None:
            one.key = present
        if present is not None and present == one.key:
            one.gone_at = None
            return False
        if one.gone_at is None:
            one.gone_at = now
        return now - one.gone_at >= self._cut_after_s

    def forget(self, peers: set[Peer]) -> None:
        with self._lock:
            for peer in peers:
                self._open.pop(peer, None)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("path", type=Path)
    arguments.add_argument("--look-every-s", type=float, default=LOOK_EVERY_S)
    arguments.add_argument("--cut-after-s", type=float, default=CUT_AFTER_S)
    given = arguments.parse_args()
    # Xray does not name the file when it ends with an error.
    say(f"starting with {given.path}")
    text = given.path.read_text()
    config = json.loads(text)
    if inbounds := watched(config):
        cutter = Cutter(cut_after_s=given.cut_after_s)
        config["log"]["access"] = access_pipe(cutter)
        threading.Thread(
            target=watch,
            args=(cutter, config["api"]["listen"], inbounds, given.look_every_s),
            daemon=True,
        ).start()
        text = json.dumps(config)
    else:
        say("connections of ended keys are not cut: no API for users, or an access log is wanted")
    xray.startFromJSON(text)


def watched(config: Any) -> dict[int, str]:
    """The tag of each VLESS inbound by its port; nothing where this configuration rules it out."""
    try:
        if config["log"]["access"] != "none":
            return {}
        if "HandlerService" not in config["api"]["services"] or not config["api"]["listen"]:
            return {}
        return {
            int(inbound["port"]): inbound["tag"]
            for inbound in config["inbounds"]
            if inbound["protocol"] == "vless"
        }
    except (KeyError, TypeError, ValueError):  # Xray itself says what is wrong.
        return {}


def access_pipe(cutter: Cutter) -> str:
    """The path of a log whose lines go to the cutter. It stays open as long as this process."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def read() -> None:
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                cutter.accepted(line)

    threading.Thread(target=read, daemon=True).start()
    return f"/proc/self/fd/{writing}"


def watch(cutter: Cutter, listen: str, inbounds: Mapping[int, str], every_s: float) -> None:
    """Look for ever. A look that fails changes nothing."""
    while not cutter.known():
        time.sleep(every_s)
    import grpc  # A node without connections starts and lives without it: 0.1 s and 20 MB.

    api = grpc.insecure_channel(
        listen,
        (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MAX_ANSWER_BYTES)),
    )
    while True:
        try:
            look(cutter, api, inbounds)
        except (grpc.RpcError, OSError, ValueError) as error:
            say(f"no look at open connections: {type(error).__name__}")
        time.sleep(every_s)


def look(cutter: Cutter, api: "grpc.Channel", inbounds: Mapping[int, str]) -> None:
    """Forget what is closed, and cut what is due."""
    if not (known := cutter.known()):
        return
    cutter.forget(known - {peer for peer, _ in sockets(inbounds)})
    keys: dict[str, bytes] = {}
    for tag in set(inbounds.values()):
        keys |= users_of(api, tag)
    if not (due := cutter.due(keys, time.monotonic())):
        return
    cut = 0
    for peer, connection in sockets(inbounds):
        if peer in due:
            with suppress(OSError):  # The client may have closed it.
                connection.shutdown(socket.SHUT_RDWR)
            cut += 1
    cutter.forget(due)
    say(f"connections of ended keys were cut: {cut}")


def users_of(api: "grpc.Channel", tag: str) -> dict[str, bytes]:
    """The key of each user of an inbound, by lower-case label."""
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = api.unary_unary(_USERS)
    name = tag.encode()
    answer: bytes = ask(b"\x0a" + bytes([len(name)]) + name, timeout=API_TIMEOUT_S)
    keys = {}
    for user in (value for number, value in fields(answer) if number == 1):
        found = dict(fields(user))
        if label := found.get(2, b"").decode().lower():
            account = dict(fields(found[3]))
            keys[label] = dict(fields(account[2]))[1]
    return keys


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of the strings, bytes and messages in a message of Protocol Buffers."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        value, at = varint(message, at)
        if tag & 7 == _BYTES:
            yield tag >> 3, message[at : at + value]
            at += value
        elif tag & 7 != _VARINT:
            raise ValueError(f"a field of kind {tag & 7}")


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing begins."""
    number = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("a message that is cut short")
        byte, at = message[at], at + 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def sockets(ports: Collection[int]) -> Iterator[tuple[Peer, socket.socket]]:
    """The peer of each open connection to these ports of ours, with a copy of the socket.

    Closing the copy, as happens here, leaves Xray's own descriptor alone.
    """
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError), copied(int(name)) as found:  # It may be closed by now.
            here = found.getsockname()
            if isinstance(here, tuple) and here[1] in ports:
                peer = found.getpeername()
                yield (plain(peer[0]), peer[1]), found


def copied(descriptor: int) -> socket.socket:
    """A copy of a socket. Raises OSError for anything else."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def plain(host: str) -> str:
    """An address in one form: an IPv4 address may come as an IPv6 address."""
    address = ip_address(host.strip("[]"))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program's own output.


if __name__ == "__main__":
    main()
