"""A stand-in as a separate process."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.kit.waiting import HANG_S


@asynccontextmanager
async def process(package: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m turnpike_local.<package>`. It ends at the latest with the block."""
    argv = [sys.executable, "-m", f"turnpike_local.{package}", *arguments]
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def url_of(running: asyncio.subprocess.Process, name: str) -> str:
    """The address in the next line that the process prints, which begins with this name."""
    assert running.stdout is not None
    line = (await asyncio.wait_for(running.stdout.readline(), HANG_S)).decode()
    assert line.startswith(f"{name} listens on http://127.0.0.1:"), line
    return line.split()[-1]
