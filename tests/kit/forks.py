"""Services of a test's shop, forked from a process that has imported their libraries already.

A service needs a second of processor to import them, and a run of the tests starts two hundred. A
forked one is a process of its own all the same: it imports its own package, has its own
environment, log and group, is a child of the test, and dies with it.
"""

import ctypes
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from shared.contracts.owners import OWNERS
from shared.platform import failpoints
from turnpike_local.processes import surroundings

FORKED = (*OWNERS.values(), "turnpike_local.sandbox")
"""The packages that are forked; other programs are started as always."""

# None of them has metrics: each service counts only its own.
IMPORTED = (
    "bot_gateway",  # aiogram, whose models it builds when they are first used.
    "shared.service",
    "shared.contracts.catalogue",
    "shared.operations.audit",
    "aiohttp.web",
    "opentelemetry.instrumentation.asyncpg",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)

ADOPTED_WITHIN_S = 30.0
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # Of prctl(2).

_libc = ctypes.CDLL(None)

Spawn = Callable[..., "subprocess.Popen[bytes] | Forked"]


class Forked:
    """A forked process, as far as `Child` uses a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """Reap it. `Child` calls this once the process has ended."""
        del timeout
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Forks:
    """The process with the imports. It starts with the first fork and ends with `close`."""

    def __init__(self) -> None:
        self._line: Any = None

    def spawn(self, package: str, arguments: Sequence[str], log: Path, env: Any) -> Forked:
        """Fork `python -m package` with that environment (None: ours)."""
        if self._line is None:
            self._line = _start()
        asked = {
            "package": package,
            "arguments": list(arguments),
            "log": str(log),
            "env": dict(surroundings() if env is None else env),
            "parent": os.getpid(),
        }
        log.touch()
        # The fork's own parent ends at once, and orphans are ours meanwhile.
        _libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
        try:
            self._line.write(json.dumps(asked) + "\n")
            self._line.flush()
            return Forked(int(self._line.readline()))
        finally:
            _libc.prctl(_SET_SUBREAPER, 0, 0, 0, 0)

    def close(self) -> None:
        if self._line is not None:
            self._line.close()


def forking(spawn: Spawn, forks: Forks) -> Spawn:
    """`spawn` of `turnpike_local.processes`, which forks the packages of the shop."""

    def forked(
        name: str, argv: Sequence[str], log: Path, env: Mapping[str, str] | None, *rest: Any
    ) -> "subprocess.Popen[bytes] | Forked":
        if tuple(argv[:2]) == (sys.executable, "-m") and argv[2] in FORKED:
            return forks.spawn(argv[2], argv[3:], log, env)
        return spawn(name, argv, log, env, *rest)

    return forked


def _start() -> Any:
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env=surroundings(),
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the tests, which end it.
        )
    return ours.makefile("rw")


def _serve(requests: socket.socket) -> None:
    """Fork for each request, until the test's process is gone."""
    for module in IMPORTED:
        importlib.import_module(module)
    with requests.makefile("rw") as line:
        for asked in line:
            line.write(f"{_fork(json.loads(asked), requests.fileno())}\n")
            line.flush()


def _fork(asked: dict[str, Any], requests: int) -> int:
    """The process id of the fork's fork, which the test's process adopts."""
    read, write = os.pipe()
    between = os.fork()
    if between == 0:
        if pid := os.fork():
            os.write(write, b"%d" % pid)
            os._exit(0)
        for open_here in (read, write, requests):
            os.close(open_here)
        _become(**asked)
    os.close(write)
    os.waitpid(between, 0)
    pid = int(os.read(read, 20))
    os.close(read)
    return pid


def _become(
    *, package: str, arguments: list[str], log: str, env: dict[str, str], parent: int
) -> NoReturn:
    """Run the package as a process of its own."""
    gives_up_at = time.monotonic() + ADOPTED_WITHIN_S
    while os.getppid() != parent:
        if time.monotonic() > gives_up_at:
            os._exit(1)
        time.sleep(0.001)
    os.setsid()
    _libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(env)
    importlib.reload(failpoints)  # It reads the environment when it is imported.
    sys.argv = [package, *arguments]
    status: object = 0
    try:
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        _serve(requests)
