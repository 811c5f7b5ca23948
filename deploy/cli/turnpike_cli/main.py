"""`turnpike …`: the commands of every installed package that offers some under `turnpike.commands`."""

import logging
import sys
from importlib.metadata import EntryPoint, entry_points

import click
import structlog

GROUP = "turnpike.commands"
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 13)


class InstalledCommands(click.Group):
    """Finds commands by their entry points, and imports only the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_installed())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _installed().get(cmd_name)
        if entry is None:
            return None
        command = entry.load()
        assert isinstance(command, click.Command), entry
        return command


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


@click.group(cls=InstalledCommands, context_settings={"max_content_width": 100})
def main() -> None:
    """Turnpike: a shop for VPN access inside Telegram."""
    if (problem := python_problem(sys.version_info[:2])) is not None:
        click.echo(problem, err=True)
        sys.exit(2)
    structlog.configure(  # What a command prints is its answer; only what is wrong is said beside it.
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def python_problem(version: tuple[int, int]) -> str | None:
    """Why this Python cannot run Turnpike, or None when it can."""
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return None
    return f"Turnpike runs on Python 3.11, 3.12 and 3.13, and this is Python {version[0]}.{version[1]}."


if __name__ == "__main__":
    main()
