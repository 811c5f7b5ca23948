"""Operating-system processes with a readiness check. They end with their parent at the latest."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

READY_TIMEOUT_S = 180.0
GRACE_S = 10.0
LOG_KEPT_BYTES = 10_000_000
TAIL_LINES = 15

_POLL_S = 0.01
_LONGEST_POLL_S = 0.2
_REAP_TIMEOUT_S = 10.0

# Runs between fork and the program. Not a `preexec_fn`: Python code in a forked copy of a process
# with threads may deadlock. The death signal is requested after every change of user, which clears
# it. The parent is checked after that: if it died before, no signal would ever come.
_LAUNCHER = """
import ctypes, os, sys
parent, death_signal, uid, gid = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
ctypes.CDLL(None).prctl(1, death_signal, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit("the parent is gone")
try:
    os.execv(sys.argv[5], sys.argv[5:])
except OSError as error:
    sys.exit(f"{sys.argv[5]}: {error.strerror}")
"""


class StartError(Exception):
    """A process did not start or did not become ready.

    Its text is one sentence, and after it the last lines of the log.
    """

    def complaint(self, mark: str) -> str:
        """The text behind the last match of `mark` in its log, or the sentence itself."""
        sentence, *lines = str(self).splitlines()
        complaints = [
            found.group(1).rstrip(".")
            for line in lines
            if (found := re.search(f"{mark}\\s*(.+)", line))
        ]
        return complaints[-1] if complaints else sentence.rstrip(".")


@dataclass(frozen=True)
class Identity:
    """The user of a program.

    A `prefix` command changes the user, or `uid` and `gid` do (which needs root).
    """

    prefix: tuple[str, ...] = ()
    uid: int = -1
    gid: int = -1


OURSELVES = Identity()


class Child:
    """A child process, leader of its own group.

    Linux sends `orphan_signal` when the *thread* that started the process ends: start it in a
    thread that lasts.
    """

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], log: Path, log_starts_at: int
    ) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._log_starts_at = log_starts_at

    @classmethod
    async def start(
        cls,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bytes | None = None,
        ready: Callable[[], Awaitable[bool]] | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        identity: Identity = OURSELVES,
        orphan_signal: signal.Signals = signal.SIGKILL,
    ) -> Self:
        """Start `argv` and return when `ready` answers true. Output is appended to `log`.

        `env` is the whole environment (None: our `surroundings`). `stdin` is the program's input,
        empty by default. The program gets `orphan_signal` when our process ends without stopping
        it. An `OSError` of `ready` means "not yet". Raises `StartError`, and then nothing is left
        running.
        """
        log_starts_at = _make_room(log)
        child = cls(
            name,
            _spawn(name, argv, log, env, cwd, stdin, identity, orphan_signal),
            log,
            log_starts_at,
        )
        try:
            await child._become_ready(ready, ready_timeout_s)
        except BaseException:
            child.kill()
            await child.wait()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self.returncode is None

    @property
    def returncode(self) -> int | None:
        """Exit status, or minus the number of the signal that ended it. None while it runs."""
        if self._process.returncode is None and _has_ended(self.pid):
            # The leader is not reaped yet, so no other group can have its number.
            self._signal(signal.SIGKILL)
            self._process.wait(_REAP_TIMEOUT_S)
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until the process has ended, for any reason. Returns the exit status."""
        pause_s = _POLL_S
        # Polling, because portable builds of Python lack `os.pidfd_open`.
        while (code := self.returncode) is None:
            await asyncio.sleep(pause_s)
            pause_s = min(1.2 * pause_s, _LONGEST_POLL_S)
        return code

    async def stop(self, grace_s: float = GRACE_S, *, by: signal.Signals = signal.SIGTERM) -> int:
        """Signal the whole group, and kill it after `grace_s`. Returns the exit status.

        Does nothing when the process has ended.
        """
        if self.alive:
            self._signal(by)
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()
        except asyncio.CancelledError:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL to the whole group. Does not wait for its end."""
        if self.alive:
            self._signal(signal.SIGKILL)

    def last_lines(self, count: int = TAIL_LINES) -> str:
        """The last lines of this process's output, at most `count`."""
        with self.log.open("rb") as written:
            size = written.seek(0, os.SEEK_END)
            written.seek(max(self._log_starts_at, size - 200 * count))
            return "\n".join(written.read().decode(errors="replace").splitlines()[-count:])

    async def _become_ready(
        self, ready: Callable[[], Awaitable[bool]] | None, timeout_s: float
    ) -> None:
        if ready is None:
            return
        give_up_at = time.monotonic() + timeout_s
        while not await _answers(ready, give_up_at - time.monotonic()):
            if (code := self.returncode) is not None:
                raise self._failure(f"ended with {ending(code)} while it was starting")
            if time.monotonic() >= give_up_at:
                raise self._failure(f"did not become ready within {timeout_s:g} s")
            await asyncio.sleep(_POLL_S)

    def _failure(self, problem: str) -> StartError:
        return StartError(f"{self.name} {problem}.\n{self.last_lines()}".rstrip())

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def run(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    identity: Identity = OURSELVES,
) -> None:
    """Run a program to its end. Raises `StartError` when it fails or exceeds `timeout_s`."""
    child = await Child.start(name, argv, log=log, env=env, cwd=cwd, identity=identity)
    try:
        async with asyncio.timeout(timeout_s):
            code = await child.wait()
    except TimeoutError:
        raise StartError(
            f"{name} took longer than {timeout_s:g} s.\n{child.last_lines()}".rstrip()
        ) from None
    finally:
        child.kill()
    if code:
        raise StartError(f"{name} ended with {ending(code)}.\n{child.last_lines()}".rstrip())


def surroundings() -> dict[str, str]:
    """Our environment for a child process.

    The shop's variables are left out, because they may be secrets. Loopback bypasses any proxy.
    """
    others = {name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")}
    bypassed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    direct = ",".join(filter(None, (bypassed, "127.0.0.1,localhost")))
    return others | {"NO_PROXY": direct, "no_proxy": direct}


def ending(code: int) -> str:
    """An exit status in words: "status 1", "SIGKILL"."""
    return f"status {code}" if code >= 0 else signal.Signals(-code).name


def program(name: str) -> str:
    """The path of a program beside the running Python, or on the PATH.

    Raises `StartError` when it is missing.
    """
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    found = shutil.which(name, path=folders)
    if found is None:
        raise StartError(
            f"The program {name} is missing: it is neither installed with Turnpike nor on the PATH."
        )
    return found


def _spawn(
    name: str,
    argv: Sequence[str],
    log: Path,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: bytes | None,
    identity: Identity,
    orphan_signal: signal.Signals,
) -> subprocess.Popen[bytes]:
    options = (os.getpid(), int(orphan_signal), identity.uid, identity.gid)
    launcher = (sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, options))
    with log.open("ab") as output, _file_of(stdin) as given:
        try:
            return subprocess.Popen(
                [*identity.prefix, *launcher, program(argv[0]), *argv[1:]],
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=surroundings() if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,  # Ctrl-C reaches only us: we stop the children in order.
            )
        except OSError as error:
            raise StartError(f"{name} could not be started: {error}.") from error


def _file_of(content: bytes | None) -> IO[bytes]:
    """An unnamed file: content of any length fits, and a secret has no path."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it.
    file.write(content or b"")
    file.seek(0)
    return file


def _make_room(log: Path) -> int:
    """Create the log's folder, and rename a large log to `….1`.

    Returns the byte offset of new lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    size = log.stat().st_size if log.exists() else 0
    if size <= LOG_KEPT_BYTES:
        return size
    log.replace(log.with_name(log.name + ".1"))
    return 0


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


async def _answers(ready: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(max(timeout_s, 0)):
            return await ready()
    except OSError:  # Includes TimeoutError.
        return False
