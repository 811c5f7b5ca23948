"""Makes a virtual environment from a lock: built aside, moved when whole, one command at a time.

    .venv.lock        held by the command that installs; the kernel releases it
    .venv.new/        what is being built; after an interruption, rubbish
    .venv.old/        the replaced environment, between two renames
    .venv.log         what pip and uv wrote
    .venv/.installed  what it was made from, written last

`install` runs this with the Python that it chose. There is only the standard library.
"""

import argparse
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

REFUSED_STATUS = 2
INTERRUPTED_STATUS = 130
PROGRESS_EVERY_S = 1.0 if sys.stdout.isatty() else 2.0
POLL_S = 0.2
GRACE_S = 5.0
SHOWN_CHARACTERS = 60

AGAIN = (
    "check the network (PIP_INDEX_URL and UV_DEFAULT_INDEX name another index), "
    "then run the command again"
)
# What pip and uv write, in lower case. The first that fits says what to do.
KNOWN = (
    ("no space left on device", "The disk is full: free some space, then run the command again"),
    (
        r"hash mismatch|hashes are required|do not match the hashes",
        "The package index has a file that is not the locked one: use another index "
        "(PIP_INDEX_URL, UV_DEFAULT_INDEX)",
    ),
    (
        r"certificate|\btls\b|sslerror",
        "The package index has a certificate that this machine does not trust: add its authority "
        "to the system's (PIP_CERT and SSL_CERT_FILE name another file)",
    ),
    (
        r"name resolution|name or service not known|lookup address|dns error|connection refused"
        r"|unreachable|no route to host|timed out|timeout|connection reset|connecterror"
        r"|connection error|error sending request|newconnectionerror|proxyerror",
        f"No package index answers: {AGAIN}",
    ),
    (
        r"http (status|error)|(client|server) error|forbidden|unauthorized|not found in the"
        r"|no matching distribution|there is no version",
        f"The package index does not give the packages: {AGAIN}",
    ),
)

Argv = Sequence[str | Path]


class InstallError(Exception):
    """The environment could not be made. Its text is one sentence."""


class Install:
    """One environment, and the files beside it."""

    def __init__(self, venv: Path, made_from: str, lock: Path, packages: Sequence[Path]) -> None:
        # A link leads to another disk. Only folders of one disk are exchanged by a rename.
        self.venv = venv.resolve() if venv.is_symlink() else venv
        self.made_from = made_from
        self.lock = lock
        self.packages = packages
        self.aside = self._beside("new")
        self.built = self.aside / "venv"
        self.wheels = self.aside / "wheels"
        self.log = self._beside("log")
        self._held_fd = -1

    def run(self) -> None:
        """Build what is missing. Raises `InstallError`."""
        with self._one_at_a_time():
            self._repair()
            if _mark_of(self.venv) != self.made_from:
                if _mark_of(self.built) != self.made_from:
                    self._build()
                self._replace()
            _remove(self.aside)

    def _beside(self, ending: str) -> Path:
        return self.venv.with_name(f"{self.venv.name}.{ending}")

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold the lock. Children inherit it: those of a killed command may still write."""
        with self._beside("lock").open("a+") as file:
            self._take(file.fileno())
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            self._held_fd = file.fileno()
            yield

    def _take(self, fd: int) -> None:
        began = time.monotonic()
        shown_at: float | None = None
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if shown_at is None:
                    print(
                        f"Another command installs into {self.venv}{_by(fd)}: this one waits ...",
                        flush=True,
                    )
                    shown_at = began
                elif time.monotonic() - shown_at > PROGRESS_EVERY_S:
                    shown_at = time.monotonic()
                    self._show("waiting", shown_at - began)
                time.sleep(POLL_S)
            else:
                return

    def _repair(self) -> None:
        """Finish or undo the exchange in which a command was killed."""
        old = self._beside("old")
        if old.exists() and not self.venv.exists():
            old.rename(self.venv)
        _remove(old)

    def _build(self) -> None:
        print(f"installing into {self.venv} ...", flush=True)
        _remove(self.aside)
        self.aside.mkdir(parents=True)
        self.log.write_bytes(b"")
        uv = self._uv()
        python = self.built / "bin/python"
        # Programs with the absolute path of their Python would not outlive the move.
        self._step(
            "environment", [uv, "venv", "--relocatable", "--python", sys.executable, self.built]
        )
        sync: Argv = [uv, "pip", "sync", "--python", python, "--require-hashes", self.lock]
        if self.wheels.exists():  # pip fetched the wheel of uv already.
            sync = [*sync, "--find-links", self.wheels]
        # Compiled once, here: a service starts twice as fast, even where it may write no bytecode.
        sync = [*sync, "--compile-bytecode"]
        try:
            self._step("cached packages", [*sync, "--offline"])
        except InstallError:  # Something is not in uv's cache.
            self._step("packages", sync)
        if self.packages:
            install: Argv = [uv, "pip", "install", "--python", python, "--no-deps"]
            editable: Argv = [part for package in self.packages for part in ("-e", package)]
            self._step("our packages", [*install, "--no-build-isolation", *editable])
            self._step("bytecode", [python, "-m", "compileall", "-q", *self.packages])
        (self.built / ".installed").write_text(f"{self.made_from}\n")

    def _uv(self) -> Path:
        """The locked uv: the given one, that of the environment to replace, or a new one."""
        if given := os.environ.get("UV_TO_USE"):
            return Path(given).absolute()
        requirement = re.search(r"^uv==(\S+).*(?:\n .*)*", self.lock.read_text(), re.MULTILINE)
        if requirement is None:
            raise InstallError(f"{self.lock} has no uv.")
        at_hand = (self.venv / "bin/uv").absolute()
        if _version_of(at_hand) == requirement[1]:
            return at_hand
        if find_spec("ensurepip") is None:
            raise InstallError(
                "Python's venv module is missing; on Debian and Ubuntu: "
                "apt-get install python3-venv."
            )
        installer, locked = self.aside / "installer", self.aside / "uv.lock"
        locked.write_text(requirement[0] + "\n")
        self._step("pip", [sys.executable, "-m", "venv", installer])
        pip: Argv = [installer / "bin/python", "-m", "pip", "--disable-pip-version-check"]
        hashed: Argv = ["--no-deps", "--require-hashes", "--requirement", locked]
        fetch: Argv = ["download", "--progress-bar", "off", "--dest", self.wheels]
        self._step("uv", [*pip, *fetch, *hashed])
        self._step("uv", [*pip, "install", "--no-index", "--find-links", self.wheels, *hashed])
        return installer / "bin/uv"

    def _step(self, name: str, argv: Argv) -> None:
        """Run a program to its end, and show that it works. Raises `InstallError`."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            begins_at = log.tell()
            log.write(f"$ {shlex.join(map(str, argv))}\n".encode())
            log.flush()
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(os.environ),
                pass_fds=[self._held_fd],
            )
        try:
            while True:
                try:
                    status = process.wait(PROGRESS_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    self._show(name, time.monotonic() - began, self._last_line(begins_at))
        except BaseException:
            _end(process)
            raise
        self._show(name, time.monotonic() - began, ends=True)
        if status:
            with self.log.open("rb") as log:
                log.seek(begins_at)
                log.readline()  # Our own line.
                written = log.read().decode(errors="replace")
            raise InstallError(f"{problem(name, written)}; the rest is in {self.log}.")

    def _show(self, step: str, seconds: float, doing: str = "", *, ends: bool = False) -> None:
        line = f"  {step:<16}{seconds:5.1f} s  {doing}".rstrip()
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="\n" if ends else "", flush=True)
        else:
            print(line, flush=True)

    def _last_line(self, begins_at: int) -> str:
        """What the program wrote last, after its command at this byte of the log."""
        with self.log.open("rb") as log:
            log.seek(max(begins_at, log.seek(0, os.SEEK_END) - 1000))
            lines = log.read().decode(errors="replace").splitlines()
        shown = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
        return shown[-1][:SHOWN_CHARACTERS] if shown else ""

    def _replace(self) -> None:
        """Exchange the environments; a running program finds the old one until then."""
        old = self._beside("old")
        if self.venv.exists():
            self.venv.rename(old)
        self.built.rename(self.venv)
        _remove(old)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Our environment for pip and uv. pip says why it fetched nothing only when it tries again."""
    left_out = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH")
    # pip trusts the certificates of the system, including those of a corporate proxy. So does uv.
    defaults = {"UV_SYSTEM_CERTS": "true", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    return defaults | {"PIP_RETRIES": "2"} | {k: v for k, v in ours.items() if k not in left_out}


def problem(step: str, written: str) -> str:
    """Why a step failed, and what to do about it, by the output of pip or uv."""
    for pattern, sentence in KNOWN:
        if re.search(pattern, written.lower()):
            return sentence
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(?i)error\b", line)] or lines
    return f"The step {step!r} failed ({errors[-1][:200]})"


def _by(lock_fd: int) -> str:
    holder = os.pread(lock_fd, 20, 0).decode().strip()
    return f" (process {holder})" if holder else ""


def _mark_of(venv: Path) -> str | None:
    try:
        return (venv / ".installed").read_text().strip() if (venv / "bin/python").exists() else None
    except OSError:
        return None


def _version_of(uv: Path) -> str | None:
    try:
        done = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.match(r"uv (\S+)", done.stdout)
    return found[1] if found else None


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("venv", type=Path)
    arguments.add_argument("made_from")
    arguments.add_argument("lock", type=Path)
    arguments.add_argument("packages", type=Path, nargs="*")
    install = Install(**vars(arguments.parse_args()))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        install.run()
    except KeyboardInterrupt:
        print("\nInterrupted: the next command installs again.", file=sys.stderr)
        sys.exit(INTERRUPTED_STATUS)
    except (InstallError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED_STATUS)


if __name__ == "__main__":
    main()
