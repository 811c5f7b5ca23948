"""How a command reaches the services: one connection to NATS, owners asked side by side, failures as sentences."""

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

from shared.bus import Bus, UnansweredError

OPEN_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 3.0
REFUSED_STATUS = 2
SERVICES = {
    "bot": "bot-gateway",
    "payments": "payments",
    "referrals": "referrals",
    "vpn": "vpn-provisioner",
    "notifier": "notifier",
}

Answered = TypeVar("Answered")


class CannotAskError(Exception):
    """The sentence that a person reads when nobody can be asked."""


def run(command: Callable[[Bus], Awaitable[int]]) -> NoReturn:
    """The whole of a command that asks: connect, ask, and end with its status."""

    async def connected() -> int:
        async with opened_bus(nats_url(os.environ)) as bus:
            return await command(bus)

    structlog.configure(  # What is wrong with the connection is one sentence, at the end.
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        sys.exit(asyncio.run(connected()))
    except CannotAskError as error:
        click.echo(str(error), err=True)
    except UnansweredError as error:
        owner = silent_owner(error)
        click.echo(f"{SERVICES.get(owner, owner)} does not answer.", err=True)
    sys.exit(REFUSED_STATUS)


@asynccontextmanager
async def opened_bus(url: str) -> AsyncIterator[Bus]:
    bus = Bus(url, "turnpike-cli")
    try:
        await asyncio.wait_for(bus.open(), OPEN_TIMEOUT_S)
    except Exception as error:  # Whatever it is, nobody can be asked.
        why = "" if isinstance(error, TimeoutError) else f" ({error})"
        raise CannotAskError(f"NATS does not answer at {without_password(url)}{why}.") from error
    try:
        yield bus
    finally:
        await bus.close()


def without_password(url: str) -> str:
    return url.rpartition("@")[2].removeprefix("nats://").removeprefix("tls://")


def nats_url(environment: Mapping[str, str]) -> str:
    """TURNPIKE_NATS_URL, or the NATS of the shop that `make up` keeps here. Raises CannotAskError."""
    if url := environment.get("TURNPIKE_NATS_URL"):
        return url
    folders = [Path.cwd() / ".turnpike", Path(__file__).resolve().parents[3] / ".turnpike"]
    if chosen := environment.get("TURNPIKE_STATE_DIR"):
        folders = [Path(chosen)]
    for folder in folders:
        if (url := local_url(folder / "nats" / "nats.json")) is not None:
            return url
    raise CannotAskError("TURNPIKE_NATS_URL is not set, and no shop of `make up` was found here.")


def local_url(configuration: Path) -> str | None:
    """Where the NATS with this configuration listens, as `turnpike up` wrote it."""
    try:
        said = json.loads(configuration.read_text())
        login = said["authorization"]
        return f"nats://{login['user']}:{login['password']}@{said['listen']}"
    except (OSError, ValueError, KeyError):
        return None


def silent_owner(error: UnansweredError) -> str:
    """Who did not answer: a topic begins with its owner."""
    return str(error).split(".")[0]


async def each(
    asked: Mapping[str, Awaitable[Answered]],
) -> tuple[dict[str, Answered], list[str]]:
    """Ask side by side: what was answered, and which owners did not."""
    answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    answered: dict[str, Answered] = {}
    silent: list[str] = []
    for name, answer in zip(asked, answers, strict=True):
        if isinstance(answer, UnansweredError):
            silent.append(silent_owner(answer))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            answered[name] = answer
    return answered, silent


def nobody_answered(silent: list[str]) -> str:
    """`payments, vpn-provisioner and notifier do not answer.`"""
    *others, last = [SERVICES[owner] for owner in silent]
    return f"{', '.join(others)} and {last} do not answer." if others else f"{last} does not answer."
