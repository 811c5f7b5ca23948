"""`turnpike up`: the whole shop in one terminal, until Ctrl-C."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from turnpike_local.environment import beside_the_sources, env_file, read_env_file
from turnpike_local.processes import StartError
from turnpike_local.stack import Stack
from turnpike_local.stopping import until_stopped
from turnpike_local.telegram import username_of

SANDBOX_PORT = 8088
WEBHOOK_PORT = 8080  # Where something outside has to lead Telegram: it cannot change with every start.
REFUSED_STATUS = 2

# What the stack decides itself, so that a variable meant for another machine does not reach these services.
_DECIDED = (
    "TURNPIKE_STATE_DIR",
    "TURNPIKE_SANDBOX_PORT",
    "TURNPIKE_NATS_URL",
    "TURNPIKE_HTTP_HOST",
    "TURNPIKE_HTTP_PORT",
)


@click.command()
@env_file
def up(*, env_file: Path | None) -> None:
    """Start the whole shop on this machine, print one link, and stop everything on Ctrl-C.

    State is kept in .turnpike beside the sources (TURNPIKE_STATE_DIR). The link's port is 8088 (TURNPIKE_SANDBOX_PORT).
    With TURNPIKE_BOT_TOKEN, and TURNPIKE_TELEGRAM_API_URL where it is not api.telegram.org, the real bot is served.
    """
    try:
        read_env_file(env_file)
        asyncio.run(until_stopped(_live(os.environ), on_signal=lambda: click.echo("\nStopping …")))
    except (StartError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED_STATUS)


async def _live(environment: Mapping[str, str]) -> None:
    """Until cancelled. Raises `StartError`."""
    began = time.monotonic()
    stack = stack_of(environment)
    bot = await username_of(stack.real_telegram) if stack.real_telegram else None
    async with stack:
        link = f"https://t.me/{bot}" if stack.sandbox is None else stack.sandbox.url
        click.echo(f"\nTurnpike is up after {time.monotonic() - began:.1f} s: {link}")
        if stack.real_telegram.get("TURNPIKE_TELEGRAM_MODE") == "webhook":
            click.echo(f"Telegram's updates are taken at {stack.urls['bot']}/telegram.")
        click.echo("Ctrl-C stops everything.")
        await stack.keep(lambda sentence: click.echo(sentence, err=True))


def stack_of(environment: Mapping[str, str]) -> Stack:
    """The stack that the `TURNPIKE_*` variables describe. Raises `StartError` for a port that is none."""
    telegram, settings = {}, {}
    for name, value in environment.items():
        if name.startswith(("TURNPIKE_BOT_TOKEN", "TURNPIKE_TELEGRAM_")):
            telegram[name] = value
        elif name.startswith("TURNPIKE_") and name not in _DECIDED and not name.endswith("_DSN"):
            settings[name] = value
    real = bool(telegram.get("TURNPIKE_BOT_TOKEN"))
    webhook = real and telegram.get("TURNPIKE_TELEGRAM_MODE") == "webhook"
    return Stack(
        Path(environment.get("TURNPIKE_STATE_DIR") or beside_the_sources() / ".turnpike"),
        sandbox_port=_port(environment, "TURNPIKE_SANDBOX_PORT", SANDBOX_PORT),
        bot_port=_port(environment, "TURNPIKE_HTTP_PORT", WEBHOOK_PORT if webhook else 0),
        real_telegram=telegram if real else None,
        settings=settings if real else telegram | settings,
        progress=lambda step, seconds: click.echo(f"  {step:<16}{seconds:5.1f} s"),
    )


def _port(environment: Mapping[str, str], variable: str, default: int) -> int:
    given = environment.get(variable)
    if not given:
        return default
    if not given.isdecimal() or not 0 < int(given) < 65536:
        raise StartError(f"{variable} must be a port between 1 and 65535.")
    return int(given)
