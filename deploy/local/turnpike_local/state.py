"""The state folder of one shop at a time, with secrets that only its owner can read."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnpike_cli.local_shop import WRITTEN_BY_UP
from turnpike_local.processes import StartError

LOCK = "lock"

_SECRET_BYTES = 32


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Lock the folder, which is created when missing.

    The kernel releases the lock when the process ends. The process id in the file is for people.
    Raises `StartError` when the folder cannot be written or another process holds the lock.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StartError(
            f"The state folder {state_dir} cannot be written: {error.strerror}."
        ) from error
    with os.fdopen(lock, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"Turnpike already runs on {state_dir}: process {file.read().strip()}. "
                "Stop it first (Ctrl-C in its terminal)."
            ) from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def listed(state_dir: Path, listing: Mapping[str, Any]) -> Iterator[None]:
    """List the parts of the running shop for `turnpike status`, until the end of the block."""
    path = state_dir / WRITTEN_BY_UP
    half = path.with_suffix(".half")
    half.write_text(json.dumps({"process": os.getpid(), **listing}, indent=2))
    half.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def draw_secret(path: Path) -> str:
    """Write a new random secret of 64 hexadecimal digits to a file of mode 600."""
    secret = secrets.token_hex(_SECRET_BYTES)
    write_secret(path, secret)
    return secret


def write_secret(path: Path, secret: str) -> None:
    """Write the text to a new file of mode 600, in the place of an older one."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secret)


def read_secret(path: Path) -> str:
    """The secret in the file. Raises `StartError` when it is missing, unreadable or truncated."""
    try:
        secret = path.read_text()
    except OSError as error:
        raise StartError(f"The secret {path} cannot be read: {error.strerror}.") from error
    if len(secret) != 2 * _SECRET_BYTES:
        raise StartError(f"The secret {path} is broken.")
    return secret
