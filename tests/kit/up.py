"""A `turnpike up` of a test: its output, its processes, and its end."""

import asyncio
import os
import re
import secrets
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.kit.processes import MARK, living, parent_of
from turnpike_local.ports import free_port
from turnpike_local.processes import program

UP_TIMEOUT_S = 600.0
END_TIMEOUT_S = 120.0


@dataclass
class Up:
    """A `turnpike up` process. `mark` is in the environment of all its processes."""

    process: Process
    state: Path
    mark: str
    others: frozenset[int]
    lines: list[str]

    async def prints(self, pattern: str, timeout_s: float = UP_TIMEOUT_S) -> re.Match[str]:
        """The first match of the pattern in the next lines."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"it ended without {pattern!r}:\n{''.join(self.lines)}")

    def processes(self) -> dict[int, str]:
        """The command lines of its running processes.

        PostgreSQL starts a process for each connection and each background job. Those of another
        shop on the same state are not ours, also when they began after us.
        """
        return {
            pid: command
            for pid, command in living(self.mark, self.state).items()
            if pid not in self.others and parent_of(pid) not in (None, *self.others)
        }

    def environment(self, pid: int) -> str:
        """Empty for a process that has ended meanwhile, as a connection of PostgreSQL does."""
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{pid}/environ").read_text(errors="replace")
        return ""

    def pid(self, package: str) -> int:
        """The process of one service."""
        return next(pid for pid, command in self.processes().items() if f"-m {package} " in command)

    async def end(self, by: signal.Signals) -> int:
        self.process.send_signal(by)
        async with asyncio.timeout(END_TIMEOUT_S):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def running_up(
    state: Path, *, env_file: str | Path = os.devnull, **environment: str
) -> AsyncIterator[Up]:
    """A `turnpike up` with this environment and file. It ends at the latest with the block."""
    mark = secrets.token_hex(8)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")}
    ours |= {
        "TURNPIKE_STATE_DIR": str(state),
        "TURNPIKE_SANDBOX_PORT": str(free_port()),
        MARK: mark,
    }
    others = frozenset(living(mark, state))
    process = await asyncio.create_subprocess_exec(
        program("turnpike"),
        "up",
        "--env-file",
        env_file,
        env=ours | environment,
        stdout=PIPE,
        stderr=STDOUT,
    )
    up = Up(process, state, mark, others, [])
    try:
        yield up
    finally:
        if process.returncode is None:
            await up.end(signal.SIGTERM)


async def refusal(state: Path, *, env_file: str | Path = os.devnull, **environment: str) -> str:
    """The sentence of a `turnpike up` that must refuse, with status 2 and no process left."""
    async with running_up(state, env_file=env_file, **environment) as up:
        async with asyncio.timeout(UP_TIMEOUT_S):
            output, _ = await up.process.communicate()
        assert up.process.returncode == 2, output.decode()
        assert not up.processes()
        return output.decode().splitlines()[-1]
