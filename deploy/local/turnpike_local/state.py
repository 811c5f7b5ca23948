"""The state folder: one shop at a time lives in it, and its secrets are readable by its owner only."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnpike_local.processes import StartError

_SECRET_BYTES = 32


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Hold the folder, made when missing. Raises `StartError` when it cannot be written or another process holds it.

    The kernel lets go of the lock with the process that took it, however that ends; the number in it is for people.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StartError(f"The state folder {state_dir} cannot be written: {error.strerror}.") from error
    with os.fdopen(lock, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"Turnpike already runs on {state_dir}: process {file.read().strip()}.") from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def draw_secret(path: Path) -> str:
    """A new random secret in a file of mode 600, in the place of an older one: 64 hexadecimal digits."""
    path.unlink(missing_ok=True)
    secret = secrets.token_hex(_SECRET_BYTES)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secret)
    return secret


def read_secret(path: Path) -> str:
    """The secret drawn before. Raises `StartError` when it is gone, unreadable or cut short."""
    try:
        secret = path.read_text()
    except OSError as error:
        raise StartError(f"The secret {path} cannot be read: {error.strerror}.") from error
    if len(secret) != 2 * _SECRET_BYTES:
        raise StartError(f"The secret {path} is broken.")
    return secret
