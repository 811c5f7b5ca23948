"""The `.env` file: variables for `turnpike up` and `turnpike demo`.

A variable of the real environment takes precedence.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from dotenv.parser import parse_stream

from turnpike_local.processes import StartError

ROOT = Path(__file__).resolve().parents[3]


def beside_the_sources() -> Path:
    """The folder of the sources, or the working folder when Turnpike is an installed package."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()


def env_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that names another file than the `.env` beside the sources."""
    return click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        metavar="ENV_FILE",
        help="Read variables that the environment does not set from this file; without the option "
        "from .env beside the sources.",
    )(command)


def read_env_file(given: Path | None) -> None:
    """Set its variables in this process where they are not set yet. Raises `StartError`."""
    path = given or beside_the_sources() / ".env"
    if given is None and not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as file:
            lines = list(parse_stream(file))
    except (OSError, ValueError) as error:
        raise StartError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    for line in lines:
        if line.error:
            blank = len(line.original.string) - len(line.original.string.lstrip("\n"))
            raise StartError(f"{path}, line {line.original.line + blank}: NAME=value is expected.")
        if line.key is not None:
            os.environ.setdefault(line.key, line.value or "")
