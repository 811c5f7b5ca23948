"""`turnpike clean`: removes the state of the local shop, and no other file."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from turnpike_cli.local_shop import WRITTEN_BY_UP
from turnpike_local.environment import beside_the_sources, env_file, read_env_file
from turnpike_local.processes import StartError
from turnpike_local.state import LOCK, held

REFUSED_STATUS = 2
# What `turnpike up` makes in its folder.
_FILES = {LOCK, WRITTEN_BY_UP}
_MADE = _FILES | {"logs", "nats", "postgres", "sandbox", "xray"}


@click.command(epilog="Example: turnpike clean --env-file my-shop.env")
@env_file
def clean(*, env_file: Path | None) -> None:
    """Remove the state of the local shop.

    That is its database, its events and its logs. The folder is .turnpike beside the sources, or
    TURNPIKE_STATE_DIR. It stays as it is while a shop runs on it, and when it holds anything that
    `turnpike up` does not make.
    """
    try:
        read_env_file(env_file)
        remove(state_dir_of(os.environ))
    except StartError as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED_STATUS)


def state_dir_of(environment: Mapping[str, str]) -> Path:
    """The folder in `TURNPIKE_STATE_DIR`. A blank variable is not set."""
    given = environment.get("TURNPIKE_STATE_DIR", "")
    return Path(given) if given.strip() else beside_the_sources() / ".turnpike"


def remove(state_dir: Path) -> None:
    """Remove the folder; a missing one is removed.

    Raises `StartError` before anything is removed, or where a file cannot be.
    """
    state_dir = state_dir.resolve()
    try:
        found = set(os.listdir(state_dir))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"{state_dir} cannot be removed: {error.strerror}.") from error
    if foreign := sorted(found - _MADE):
        raise StartError(
            f"{state_dir} is not only the state of a shop, it holds {', '.join(foreign[:3])}: "
            "remove it yourself."
        )
    if found and LOCK not in found:
        raise StartError(f"{state_dir} is not the state of a shop: remove it yourself.")
    with held(state_dir):
        try:
            for name in found - _FILES:
                shutil.rmtree(state_dir / name)
            shutil.rmtree(state_dir)  # The lock is the last: what was interrupted is still ours.
        except OSError as error:
            raise StartError(f"{state_dir} cannot be removed: {error.strerror}.") from error
