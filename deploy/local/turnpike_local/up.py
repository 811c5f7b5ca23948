"""`turnpike up`: the whole shop in one terminal, until Ctrl-C."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from turnpike_local.processes import StartError
from turnpike_local.stack import Stack

SANDBOX_PORT = 8088
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
def up() -> None:
    """Start the whole shop on this machine, print one link, and stop everything on Ctrl-C.

    State is kept in .turnpike beside the sources (TURNPIKE_STATE_DIR). The link's port is 8088 (TURNPIKE_SANDBOX_PORT).
    With TURNPIKE_BOT_TOKEN, and TURNPIKE_TELEGRAM_API_URL where it is not api.telegram.org, the real bot is served.
    """
    try:
        asyncio.run(_up(os.environ))
    except (StartError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED_STATUS)


async def _up(environment: Mapping[str, str]) -> None:
    """Returns once somebody asked for the end and everything has ended. Raises `StartError`."""
    stopping = asyncio.Event()
    for number in STOPPING_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    stack = stack_of(environment)
    living = asyncio.create_task(_live(stack))
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait((living, asked), return_when=asyncio.FIRST_COMPLETED)
    if stopping.is_set():
        click.echo("\nStopping …")
        living.cancel()
        await asyncio.wait((living,))
    asked.cancel()
    if not living.cancelled():
        living.result()


async def _live(stack: Stack) -> None:
    began = time.monotonic()
    async with stack:
        link = "the bot in Telegram" if stack.sandbox is None else stack.sandbox.url
        click.echo(f"\nTurnpike is up after {time.monotonic() - began:.1f} s: {link}\nCtrl-C stops everything.")
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
    return Stack(
        Path(environment.get("TURNPIKE_STATE_DIR") or _beside_the_sources()),
        sandbox_port=_port(environment, "TURNPIKE_SANDBOX_PORT", SANDBOX_PORT),
        bot_port=_port(environment, "TURNPIKE_HTTP_PORT", 0),
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


def _beside_the_sources() -> Path:
    root = Path(__file__).resolve().parents[3]
    return (root if (root / "pyproject.toml").is_file() else Path.cwd()) / ".turnpike"
