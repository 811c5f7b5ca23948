"""The `.env` file: variables for `turnpike up` and `turnpike demo`, under those of the real environment."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from dotenv.parser import parse_stream

from turnpike_local.processes import StartError

ROOT = Path(__file__).resolve().parents[3]


def beside_the_sources() -> Path:
    """The folder of the sources; where they are not (an installed package), the one that the command runs in."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()


def env_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that names another file than the `.env` beside the sources."""
    return click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        help="Variables that the environment does not set [default: .env beside the sources, when there].",
    )(command)


def read_env_file(given: Path | None) -> None:
    """Put its variables into our environment, where they are not set yet. Raises `StartError`."""
    path = given or beside_the_sources() / ".env"
    if given is None and not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as file:
            lines = list(parse_stream(file))
    except (OSError, ValueError) as error:
        raise StartError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    for line in lines:
        if line.error:
            blank = len(line.original.string) - len(line.original.string.lstrip("\n"))
            raise StartError(f"{path}, line {line.original.line + blank}: NAME=value is expected.")
        if line.key is not None:
            os.environ.setdefault(line.key, line.value or "")
