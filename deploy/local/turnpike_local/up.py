"""`turnpike up`: the whole shop in one terminal, until Ctrl-C."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click

from shared.platform.settings import is_public
from turnpike_local.clean import state_dir_of
from turnpike_local.environment import env_file, read_env_file
from turnpike_local.node import NODE_API, NODE_INBOUND, NODE_LINK
from turnpike_local.processes import StartError
from turnpike_local.stack import Stack
from turnpike_local.stopping import until_stopped
from turnpike_local.telegram import NoAnswerError, api_url, awaited_username, username_of
from turnpike_local.waiting import together

SANDBOX_PORT = 8088
# A proxy outside leads Telegram to this port, so it is the same at every start.
WEBHOOK_PORT = 8080
REFUSED_STATUS = 2

# The stack starts its own servers and sets these itself: a variable that is meant for another
# machine must not reach the services.
_REPLACED = (
    "TURNPIKE_NATS_URL",
    "TURNPIKE_NATS_REPLICAS",
    "TURNPIKE_HTTP_HOST",
    "TURNPIKE_SANDBOX_CLOCK",
)
_BY_THE_SANDBOX = (
    "TURNPIKE_TELEGRAM_API_URL",
    "TURNPIKE_TELEGRAM_WEBHOOK_URL",
    "TURNPIKE_TELEGRAM_WEBHOOK_SECRET",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
_OURS = ("TURNPIKE_STATE_DIR", "TURNPIKE_SANDBOX_PORT", "TURNPIKE_HTTP_PORT")

_NODE = f"{NODE_API}=127.0.0.1:10085 and {NODE_LINK}=vless://{{key}}@vpn.example.org:443?…"


@click.command(epilog="Example: turnpike up --env-file my-shop.env")
@env_file
def up(*, env_file: Path | None) -> None:
    """Run the whole shop on this machine and print its link.

    Ctrl-C stops everything; meanwhile `turnpike status` lists logs, addresses and DSNs. State is
    kept in .turnpike beside the sources (TURNPIKE_STATE_DIR). The link's port is 8088
    (TURNPIKE_SANDBOX_PORT). With TURNPIKE_BOT_TOKEN, the shop serves the real bot, at
    api.telegram.org or at TURNPIKE_TELEGRAM_API_URL, and needs a node that people can reach, in
    TURNPIKE_VPN_XRAY_API and TURNPIKE_VPN_XRAY_LINK.
    """
    try:
        read_env_file(env_file)
        asyncio.run(until_stopped(_live(os.environ), on_signal=lambda: click.echo("\nStopping …")))
    except (StartError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED_STATUS)


async def _live(environment: Mapping[str, str]) -> None:
    """Run the shop until cancelled. Raises `StartError`."""
    began = time.monotonic()
    stack = stack_of(environment)
    if unused := unused_in(environment):
        click.echo(f"Set, but not used by `turnpike up`: {', '.join(unused)}.", err=True)
    bot = await _bot_of(stack)
    async with stack:
        up = f"\nTurnpike is up after {time.monotonic() - began:.1f} s"
        if stack.sandbox is not None:
            click.echo(f"{up}: {stack.sandbox.url}")
        elif bot is not None:
            click.echo(f"{up}: https://t.me/{bot}")
        else:
            click.echo(f"{up}; the bot's link follows when Telegram answers.")
        if stack.real_telegram.get("TURNPIKE_TELEGRAM_MODE") == "webhook":
            click.echo(f"The webhook for Telegram is {stack.urls['bot']}/telegram.")
        click.echo("Ctrl-C stops everything.")
        tasks = [stack.supervise(_report)]
        if stack.real_telegram and bot is None:
            tasks.append(_name_the_bot(stack.real_telegram))
        await together(*tasks)


async def _bot_of(stack: Stack) -> str | None:
    """The real bot's username. None for the sandbox, and while Telegram does not answer.

    A shop without Telegram still owes access and rewards for money that it took before.
    Raises `StartError`.
    """
    if not stack.real_telegram:
        return None
    try:
        return await username_of(stack.real_telegram)
    except NoAnswerError as error:
        _report(f"{error}: the shop starts without it, and asks again until it answers.")
        return None


async def _name_the_bot(telegram: Mapping[str, str]) -> None:
    click.echo(f"Telegram answers: https://t.me/{await awaited_username(telegram, _report)}")


def _report(sentence: str) -> None:
    click.echo(sentence, err=True)


def stack_of(environment: Mapping[str, str]) -> Stack:
    """The stack that the `TURNPIKE_*` variables describe.

    A blank variable is not set. Raises `StartError` with a sentence for every mistake.
    """
    telegram, settings = {}, {}
    for name, value in environment.items():
        if not value.strip() or name in (*_REPLACED, *_OURS) or name.endswith("_DSN"):
            continue
        if name.startswith(("TURNPIKE_BOT_TOKEN", "TURNPIKE_TELEGRAM_")):
            telegram[name] = value
        elif name.startswith("TURNPIKE_"):
            settings[name] = value
    real = "TURNPIKE_BOT_TOKEN" in telegram
    webhook = real and telegram.get("TURNPIKE_TELEGRAM_MODE") == "webhook"
    mistakes: list[str] = []
    sandbox_port = _port(environment, "TURNPIKE_SANDBOX_PORT", SANDBOX_PORT, mistakes)
    bot_port = _port(environment, "TURNPIKE_HTTP_PORT", WEBHOOK_PORT if webhook else 0, mistakes)
    if real:
        try:
            api_url(telegram)
        except StartError as error:
            mistakes.append(str(error))
    mistakes += _mistakes_of_node(settings, real=real)
    if mistakes:
        raise StartError("\n".join(mistakes))
    return Stack(
        state_dir_of(environment),
        sandbox_port=sandbox_port,
        bot_port=bot_port,
        real_telegram=telegram if real else None,
        settings=settings if real else telegram | settings,
        progress=lambda step, seconds: click.echo(f"  {step:<16}{seconds:5.1f} s"),
    )


def unused_in(environment: Mapping[str, str]) -> list[str]:
    """The variables that are set, and that the shop's own servers replace."""
    real = bool(environment.get("TURNPIKE_BOT_TOKEN", "").strip())
    replaced = {*_REPLACED, *(["TURNPIKE_SANDBOX_PORT"] if real else _BY_THE_SANDBOX)}
    return sorted(
        name
        for name, value in environment.items()
        if value.strip()
        and (name in replaced or (name.startswith("TURNPIKE_") and name.endswith("_DSN")))
    )


def _mistakes_of_node(settings: Mapping[str, str], *, real: bool) -> list[str]:
    """The operator's node is whole or absent, and a real bot needs one that people can reach."""
    parts = [name for name in (NODE_API, NODE_LINK, NODE_INBOUND) if name in settings]
    missing = [name for name in (NODE_API, NODE_LINK) if name not in settings]
    if real and not parts:
        return [
            "With TURNPIKE_BOT_TOKEN the shop sells to people, and the node of `turnpike up` is "
            f"reachable from this machine only. Set a node that they reach, such as {_NODE}."
        ]
    if parts and missing:
        return [f"{' and '.join(missing)} must be set too: the node needs an API and a link."]
    host = _host_in(settings.get(NODE_LINK, ""))
    if real and not is_public(host):
        return [
            f"{NODE_LINK} is not usable: people cannot reach {host or 'a link without a host'}. "
            f"Set a node that they reach, such as {_NODE}."
        ]
    return []


def _host_in(link: str) -> str:
    try:
        return urlsplit(link).hostname or ""
    except ValueError:  # A bracket without its pair.
        return ""


def _port(environment: Mapping[str, str], variable: str, default: int, mistakes: list[str]) -> int:
    """The port in this variable. A value that is none becomes a mistake."""
    given = environment.get(variable, "").strip()
    if not given:
        return default
    if given.isascii() and given.isdecimal() and 0 < int(given) < 65536:
        return int(given)
    mistakes.append(f"{variable} must be a port between 1 and 65535.")
    return default
