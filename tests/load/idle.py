"""The cost of `make up` without load: seconds to the first answered /start, and memory."""

import asyncio
import os
import sys
import time
from pathlib import Path

from shared.contracts.owners import OWNERS
from tests.load.testbed import memory_bytes
from turnpike_local.demo import throw_away_state
from turnpike_local.ports import free_port
from turnpike_local.processes import Child, surroundings
from turnpike_local.sandbox.client import SandboxClient

START_TIMEOUT_S = 120.0
REST_S = 10.0


async def measure() -> tuple[float, float]:
    """Seconds to the first answer, and bytes of the five services at rest.

    The packages are installed; the state folder is new.
    """
    port = free_port()
    with throw_away_state() as folder:
        environment = {
            "TURNPIKE_SANDBOX_PORT": str(port),
            "TURNPIKE_STATE_DIR": str(folder / "state"),
        }
        began = time.monotonic()
        child = await Child.start(
            "up",
            [str(Path(sys.executable).parent / "turnpike"), "up"],
            log=folder / "up.log",
            env=surroundings() | environment,
            cwd=folder,
        )
        try:
            took_s = await _first_answer(f"http://127.0.0.1:{port}", child) - began
            await asyncio.sleep(REST_S)
            used = sum(memory_bytes(pid) for pid in _services_of(child.pid))
        finally:
            await child.stop(60)
    return took_s, used


async def _first_answer(url: str, child: Child) -> float:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    async with SandboxClient(url) as sandbox:
        while True:
            try:
                person = await sandbox.new_person("Alice", language="en")
                break
            except OSError:
                if time.monotonic() > give_up_at or not child.alive:
                    raise TimeoutError(child.last_lines()) from None
                await asyncio.sleep(0.02)
        await person.say("/start")
        await person.wait_for(
            lambda chat: bool(chat.from_bot), timeout_s=START_TIMEOUT_S, what="an answer to /start"
        )
        return time.monotonic()


def _services_of(parent: int) -> list[int]:
    """The processes of the five services that this process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            except (FileNotFoundError, ProcessLookupError):
                continue
            if (
                ours
                and b"-m" in words
                and words[words.index(b"-m") + 1].decode() in OWNERS.values()
            ):
                found.append(int(entry.name))
    assert len(found) == len(OWNERS), f"{len(found)} services run, of {len(OWNERS)}: {os.getpid()}"
    return found
