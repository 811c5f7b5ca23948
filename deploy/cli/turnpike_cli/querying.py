"""How a command reaches the services: one connection to NATS, and failures as sentences."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import click
import structlog

from shared.contracts.owners import SERVICE_NAMES
from shared.messaging.jetstream import BrokerError
from shared.messaging.rpc import Bus, UnansweredError
from turnpike_cli.local_shop import state_folders

OPEN_TIMEOUT_S = 5.0
QUERY_TIMEOUT_S = 3.0
REFUSED_STATUS = 2

Answer = TypeVar("Answer")


class CannotQueryError(Exception):
    """No service can be queried. The message is the sentence that the operator reads."""


class CannotActError(Exception):
    """The operator or the person is unknown. The message is the sentence that is printed."""


def run(command: Callable[[Bus], Awaitable[int]]) -> NoReturn:
    """Connect, run a command that queries services, and exit with its status."""

    async def connected() -> int:
        async with opened_bus(nats_url(os.environ)) as bus:
            return await command(bus)

    log_only_critical()  # A connection that fails is reported in one sentence, at the end.
    try:
        sys.exit(asyncio.run(connected()))
    except (CannotQueryError, CannotActError) as error:
        click.echo(str(error), err=True)
    except UnansweredError as error:
        owner = owner_in(error)
        click.echo(f"{SERVICE_NAMES.get(owner, owner)} does not answer.", err=True)
    except BrokerError:
        click.echo("JetStream does not answer.", err=True)
    sys.exit(REFUSED_STATUS)


def log_only_critical() -> None:
    """For a command that reports what went wrong by itself."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@asynccontextmanager
async def opened_bus(url: str) -> AsyncIterator[Bus]:
    """Raises CannotQueryError when NATS cannot be reached within `OPEN_TIMEOUT_S`."""
    bus = Bus(url, "turnpike-cli")
    try:
        await asyncio.wait_for(bus.open(), OPEN_TIMEOUT_S)
    except Exception as error:  # Whatever the error is, no service can be queried.
        reason = bus.refusal if isinstance(error, TimeoutError) else error
        why = f" ({reason})" if reason else ""
        address = without_credentials(url)
        raise CannotQueryError(f"NATS does not answer at {address}{why}.") from error
    try:
        yield bus
    finally:
        await bus.close()


def without_credentials(url: str) -> str:
    return url.rpartition("@")[2].removeprefix("nats://").removeprefix("tls://")


def nats_url(environment: Mapping[str, str]) -> str:
    """TURNPIKE_NATS_URL, or the NATS of the local shop of `make up`. Raises CannotQueryError."""
    if url := environment.get("TURNPIKE_NATS_URL"):
        return url
    for folder in state_folders(environment):
        if (url := local_url(folder / "nats" / "nats.json")) is not None:
            return url
    raise CannotQueryError("TURNPIKE_NATS_URL is not set, and no shop of `make up` was found here.")


def local_url(configuration: Path) -> str | None:
    """The URL of the NATS with this configuration file, which `turnpike up` wrote."""
    try:
        read = json.loads(configuration.read_text())
        login = read["authorization"]
        return f"nats://{login['user']}:{login['password']}@{read['listen']}"
    except (OSError, ValueError, KeyError):
        return None


def owner_in(error: UnansweredError) -> str:
    """The owner that did not answer: a topic begins with its owner."""
    return str(error).split(".")[0]


async def gathered(
    queries: Mapping[str, Awaitable[Answer]],
) -> tuple[dict[str, Answer], list[str]]:
    """Run the queries concurrently. Returns the answers, and the owners that did not answer."""
    results = await asyncio.gather(*queries.values(), return_exceptions=True)
    answers: dict[str, Answer] = {}
    unresponsive: list[str] = []
    for name, result in zip(queries, results, strict=True):
        if isinstance(result, UnansweredError):
            unresponsive.append(owner_in(result))
        elif isinstance(result, BaseException):
            raise result
        else:
            answers[name] = result
    return answers, unresponsive


def no_answer(owners: list[str]) -> str:
    """`payments, vpn-provisioner and notifier do not answer.`"""
    *others, last = [SERVICE_NAMES[owner] for owner in owners]
    return (
        f"{', '.join(others)} and {last} do not answer." if others else f"{last} does not answer."
    )
