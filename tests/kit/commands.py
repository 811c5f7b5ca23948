"""`turnpike …` as operators run it, and services that only answer operators."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import entry_points
from multiprocessing.reduction import DupFd
from tempfile import TemporaryFile
from typing import IO, Any

from pydantic import SecretStr

from shared.contracts.owners import OWNERS
from shared.platform.settings import ServiceSettings
from shared.service import Service
from tests.kit.servers import FreshDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_cli.main import main
from turnpike_local.ports import free_port

RUN_TIMEOUT_S = 60.0

# Every run is a separate process, forked from one that has imported the commands already. The
# import takes a second.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([entry.module for entry in entry_points(group="turnpike.commands")])


async def turnpike(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a run with these variables, and none of this process's own."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")
    }
    with TemporaryFile() as out, TemporaryFile() as err:
        streams = DupFd(out.fileno()), DupFd(err.fileno())
        process = _FORKS.Process(target=_run, args=(arguments, environment | variables, *streams))
        process.start()
        await asyncio.to_thread(process.join, RUN_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"turnpike {arguments} hangs")
        return process.exitcode, _all_of(out), _all_of(err)


def _run(arguments: Sequence[str], environment: dict[str, str], out: Any, err: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(out.detach(), sys.stdout.fileno())
    os.dup2(err.detach(), sys.stderr.fileno())
    main(arguments, prog_name="turnpike")


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def bare_services(schemas: FreshDatabase, nats_url: str) -> dict[str, Service]:
    """All five services, without handlers, queries and commands of their own. Not running yet."""
    return {
        owner: Service(
            owner,
            ServiceSettings(
                dsn=SecretStr(schemas.dsn(f"{owner}_app")),
                nats_url=SecretStr(nats_url),
                http_port=free_port(),
            ),
        )
        for owner in OWNERS
    }


@asynccontextmanager
async def living(services: Sequence[Service]) -> AsyncIterator[None]:
    """Run the services in this process until the end of the block."""
    runs = [asyncio.create_task(service.run()) for service in services]
    try:
        for service, run in zip(services, runs, strict=True):
            await until(partial(_opened, service, run))
        yield
    finally:
        for service in services:
            service.stopping.set()
        await asyncio.wait(runs, timeout=HANG_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


def _opened(service: Service, run: asyncio.Task[int]) -> bool:
    assert not run.done(), f"{service.owner} ended at its start"
    return service.health.opened
