"""A real NATS server with JetStream on loopback. One folder holds all its state."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from shared.messaging.jetstream import INCARNATION
from turnpike_local.ports import LOOPBACK, answers, fetch, free_port
from turnpike_local.processes import Child, StartError, program
from turnpike_local.state import draw_secret, read_secret

USER = "turnpike"
MAX_MEM_BYTES = 64 * 1024**2
MAX_FILE_BYTES = 16 * 1024**3  # The streams' limits together, and a reserve.

_STOP_GRACE_S = 10.0


class Broker:
    """One server.

    Its streams, configuration and secret are in `<state>/nats`, its log in `<state>/logs/nats.log`.
    """

    child: Child

    def __init__(self, state_dir: Path, port: int, sync_interval: str) -> None:
        self.port = port
        self.monitor_url = f"http://{LOOPBACK}:{free_port()}"
        self.state_dir = state_dir.resolve()
        self._home = self.state_dir / "nats"
        self.store = self._home / "store"
        self._configuration = self._home / "nats.json"
        self._log = self.state_dir / "logs" / "nats.log"
        self._sync_interval = sync_interval

    @classmethod
    async def start(cls, state_dir: Path, *, port: int = 0, sync_interval: str = "always") -> Self:
        """Start the server of this state folder; `port` 0 takes a free one. Raises `StartError`.

        With `sync_interval` "always", an acknowledged message is on disk. Tests may pass "2m".
        """
        broker = cls(state_dir, port or free_port(), sync_interval)
        broker._configure()
        await broker._launch()
        return broker

    async def restart(self) -> None:
        """Stop the server if it runs, and start it on the same ports. Raises `StartError`."""
        await self.stop()
        await self._launch()

    async def _launch(self) -> None:
        argv = [program("nats-server"), "--config", str(self._configuration)]
        try:
            self.child = await Child.start(
                "nats",
                argv,
                log=self._log,
                ready=self._ready,
                orphan_signal=signal.SIGTERM,
            )
        except StartError as error:
            raise StartError(self._advice(error.complaint(r"\[(?:FTL|ERR)\]"))) from error

    def _advice(self, why: str) -> str:
        return (
            f"NATS does not start on {self.store}: {why}. If its store is broken, delete that "
            f"folder: the services republish its events. Its log is {self._log}."
        )

    async def stop(self) -> None:
        """End the server in order: its data is on disk and no process stays."""
        await self.child.stop(_STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL, like a crash."""
        self.child.kill()

    async def wipe(self) -> None:
        """Stop, delete every stream and consumer, and start empty on the same ports."""
        await self.stop()
        self.lose_disk()
        await self._launch()

    def lose_disk(self) -> None:
        """Delete every stream and consumer of a stopped server: its next start is empty."""
        shutil.rmtree(self.store)

    def expect_password(self, password: str | None = None) -> None:
        """Refuse everybody without that password, also those connected; None is that of `url`."""
        self._write_configuration(password or self._password)
        os.kill(self.child.pid, signal.SIGHUP)

    @property
    def url(self) -> str:
        """The URL for clients, with user and password."""
        return f"nats://{USER}:{self._password}@{LOOPBACK}:{self.port}"

    async def consumer_lag(self) -> dict[str, int]:
        """Messages that are not delivered or not acknowledged yet, by "stream/consumer".

        Consumers without such messages are left out.
        """
        body = await fetch(f"{self.monitor_url}/jsz?consumers=true")
        return {name: count for name, count in _counts(json.loads(body or b"{}")) if count}

    async def incarnations(self) -> dict[str, str]:
        """The random incarnation of each stream, written by its creator."""
        body = await fetch(f"{self.monitor_url}/jsz?streams=true&config=true")
        return {
            stream["name"]: stream["config"].get("metadata", {}).get(INCARNATION, "")
            for stream in _streams(json.loads(body or b"{}"))
        }

    async def _ready(self) -> bool:
        return await answers(f"{self.monitor_url}/healthz")

    def _configure(self) -> None:
        try:
            self.store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(self._advice(error.strerror or str(error))) from error
        secret = self._home / "secret"
        self._password = read_secret(secret) if secret.exists() else draw_secret(secret)
        self._write_configuration(self._password)

    def _write_configuration(self, password: str) -> None:
        jetstream = {
            "store_dir": str(self.store),
            "sync_interval": self._sync_interval,
            "max_mem": MAX_MEM_BYTES,
            "max_file": MAX_FILE_BYTES,
        }
        configuration = {
            "server_name": "turnpike",
            "listen": f"{LOOPBACK}:{self.port}",
            "http": self.monitor_url.removeprefix("http://"),
            "authorization": {"user": USER, "password": password},
            "jetstream": jetstream,
            "logtime_utc": True,
        }
        with open(self._configuration, "w", encoding="utf-8", opener=_private) as file:
            json.dump(configuration, file, indent=2, ensure_ascii=False)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _counts(report: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for stream in _streams(report):
        for consumer in stream.get("consumer_detail", ()):
            yield (
                f"{stream['name']}/{consumer['name']}",
                consumer["num_pending"] + consumer["num_ack_pending"],
            )


def _streams(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for account in report.get("account_details", ()):
        yield from account.get("stream_detail", ())
