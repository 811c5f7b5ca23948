"""The five services as processes on this machine: which they are, and how one is killed and started again."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.owners import OWNERS
from turnpike_local.ports import LOOPBACK, answers
from turnpike_local.processes import Child

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Service:
    """Its short name is that of its schema, roles and DSN; its package is what runs."""

    name: str
    package: str


SERVICES = tuple(Service(name, package) for name, package in OWNERS.items())


def service(name: str) -> Service:
    """The service of that short name. Raises `KeyError` for an unknown one."""
    return {known.name: known for known in SERVICES}[name]


class Program:
    """A Python package run as `python -m`, which answers 200 at a path once it is ready."""

    def __init__(
        self,
        package: str,
        arguments: tuple[str, ...] = (),
        *,
        environment: Mapping[str, str],
        port: int,
        ready_path: str,
        log: Path,
    ) -> None:
        self.name = log.stem
        self.url = f"http://{LOOPBACK}:{port}"
        self._argv = [sys.executable, "-m", package, *arguments]
        self._environment = environment
        self._ready_url = self.url + ready_path
        self._log = log
        self._child: Child | None = None

    async def start(self) -> None:
        """Start, or end and start again, with the same environment and port. Raises `StartError`."""
        if self._child is not None:
            await self._child.stop()
        self._child = await Child.start(
            self.name,
            self._argv,
            log=self._log,
            env=self._environment,
            ready=self.ready,
            ready_timeout_s=READY_TIMEOUT_S,
        )

    restart = start

    async def spawn(self) -> Child:
        """Start without waiting until it is ready: it may be meant to die before that."""
        self._child = await Child.start(self.name, self._argv, log=self._log, env=self._environment)
        return self._child

    @property
    def child(self) -> Child:
        assert self._child is not None, f"{self.name} was never started"
        return self._child

    async def stop(self) -> None:
        """SIGTERM, so that it drains; killed when it takes too long."""
        await self.child.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.child.kill()

    async def ready(self) -> bool:
        return await answers(self._ready_url)
