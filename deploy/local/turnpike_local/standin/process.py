"""Stand-ins as a separate process, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from .app import StandIn
from .state import BrokenStateError


def parser(package: str, description: str | None, kept: str) -> argparse.ArgumentParser:
    """The options of every stand-in: a port and a folder, which keeps what `kept` names."""
    options = argparse.ArgumentParser(prog=f"python -m {package}", description=description)
    options.add_argument(
        "--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one and prints it"
    )
    options.add_argument("--state", type=Path, required=True, help=f"the folder that keeps {kept}")
    return options


def add_notices(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--notices-to", default="", help="the shop's address for notices; default: the kept one"
    )


def run(make: Callable[[], Sequence[StandIn]]) -> int:
    """Run the stand-ins in this order, and print their addresses. Returns the exit status."""
    try:
        asyncio.run(_serve(make()))
    except (ValueError, BrokenStateError, OSError) as problem:
        print(f"The stand-in cannot start: {problem}", file=sys.stderr)
        return 2
    return 0


async def _serve(stand_ins: Sequence[StandIn]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as exits:
        for one in stand_ins:
            await exits.enter_async_context(one)
            print(f"{one.name} listens on {one.url}", flush=True)
        await ended.wait()
