"""`turnpike clock`: the time of the local shop, and a move of it ahead."""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import click

from turnpike_cli.local_shop import LocalShop, NoShopError, running_shop, state_folders
from turnpike_local.clock import CannotMoveError, seconds_in, sentence

REFUSED_STATUS = 2
_TIMEOUT_S = 30.0


class Duration(click.ParamType[int]):
    """A duration, as its seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            seconds = seconds_in(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if seconds == 0:
            self.fail("the clock only goes forward.", param, ctx)
        return seconds


@click.command(epilog="Example: turnpike clock --ahead 1d12h")
@click.option(
    "--ahead",
    type=Duration(),
    metavar="DURATION",
    help="Move the clock further ahead, by days, hours and minutes: 30d, 3h or 1d12h.",
)
def clock(*, ahead: int | None) -> None:
    """Show the time of the local shop, or move it ahead.

    All services and the stand-ins of the sandbox move at once, without a restart. Everything that
    is due by then happens. The clock never goes back, and stays ahead until `turnpike clean`. A
    shop with a real bot or a real payment provider keeps the real time.
    """
    try:
        answer = asyncio.run(_asked(os.environ, ahead))
    except (NoShopError, CannotMoveError) as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED_STATUS)
    click.echo(sentence(datetime.fromtimestamp(answer["now_s"], UTC), answer["ahead_s"]))


async def _asked(environment: Mapping[str, str], by_s: int | None) -> dict[str, Any]:
    """The answer of the sandbox about the clock. Raises NoShopError and CannotMoveError."""
    if environment.get("TURNPIKE_NATS_URL"):
        raise CannotMoveError(
            "TURNPIKE_NATS_URL names another shop: `turnpike clock` knows that of `make up` only."
        )
    if not any(folder.is_dir() for folder in state_folders(environment)):
        raise CannotMoveError("No shop of `make up` was found here: only its clock moves.")
    url = f"{_sandbox_of(running_shop(environment))}/sandbox/clock"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_TIMEOUT_S)) as session:
            if by_s is None:
                return await _answer(await session.get(url))
            return await _answer(await session.post(url, json={"by_s": by_s}))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CannotMoveError(
            "The sandbox does not answer; `turnpike status` shows its log."
        ) from (error)


async def _answer(response: aiohttp.ClientResponse) -> dict[str, Any]:
    answer: dict[str, Any] = await response.json()
    if response.status != 200:
        raise CannotMoveError(answer["error"])
    if not answer["moves"]:
        raise CannotMoveError(
            "This shop takes money at a real provider: it has the time of this machine."
        )
    return answer


def _sandbox_of(shop: LocalShop) -> str:
    for part in shop.parts:
        if part.name == "sandbox":
            return part.address
    raise CannotMoveError("This shop has a real bot: it has the time of this machine.")
