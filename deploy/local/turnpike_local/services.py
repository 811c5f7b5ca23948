"""The five services as processes on this machine."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.contracts.owners import OWNERS, SERVICE_NAMES
from turnpike_local.ports import LOOPBACK, answers
from turnpike_local.processes import Child


@dataclass(frozen=True)
class Service:
    """A service. `name` is the name of its schema, roles and DSN; `package` is its import name."""

    name: str
    package: str

    @property
    def title(self) -> str:
        """Its name for people: `bot-gateway`."""
        return SERVICE_NAMES[self.name]


SERVICES = tuple(Service(name, package) for name, package in OWNERS.items())


def service(name: str) -> Service:
    """The service of that name, such as "bot". Raises `KeyError` for an unknown one."""
    return {known.name: known for known in SERVICES}[name]


def title_of(owner: str) -> str:
    """The name for people of an owner, such as "bot". Other names are returned as they are."""
    return SERVICE_NAMES.get(owner, owner)


class Program:
    """A Python package that runs as `python -m` and answers 200 at a path once it is ready."""

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
        """Start, or restart with the same environment and port. Raises `StartError`."""
        if self._child is not None:
            await self._child.stop()
        self._child = await Child.start(
            self.name,
            self._argv,
            log=self._log,
            env=self._environment,
            ready=self.ready,
        )

    restart = start

    async def spawn(self) -> Child:
        """Start without waiting until it is ready, for a test that kills it before that."""
        self._child = await Child.start(self.name, self._argv, log=self._log, env=self._environment)
        return self._child

    @property
    def child(self) -> Child:
        assert self._child is not None, f"{self.name} was never started"
        return self._child

    async def stop(self) -> None:
        """SIGTERM, so that it drains. It is killed when it takes too long."""
        await self.child.stop()

    def kill(self) -> None:
        """SIGKILL, like a crash."""
        self.child.kill()

    async def ready(self) -> bool:
        return await answers(self._ready_url)
