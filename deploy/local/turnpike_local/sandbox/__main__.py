"""The sandbox as a process of its own, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from .app import Sandbox
from .state import BrokenStateError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m turnpike_local.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one and prints it")
    parser.add_argument("--state", type=Path, required=True, help="the folder that keeps people, chats and payments")
    parser.add_argument("--token", default=os.environ.get("TURNPIKE_BOT_TOKEN"), help="default: TURNPIKE_BOT_TOKEN")
    options = parser.parse_args()
    if not options.token:
        parser.error("a token is needed: --token or TURNPIKE_BOT_TOKEN")
    try:
        asyncio.run(_serve(Sandbox(options.state, options.token, port=options.port)))
    except (ValueError, BrokenStateError, OSError) as problem:
        print(f"The sandbox cannot start: {problem}", file=sys.stderr)
        return 2
    return 0


async def _serve(sandbox: Sandbox) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await sandbox.start()
    try:
        print(f"The sandbox listens on {sandbox.url}", flush=True)
        await ended.wait()
    finally:
        await sandbox.stop()


if __name__ == "__main__":
    sys.exit(main())
