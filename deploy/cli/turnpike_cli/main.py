"""`turnpike …`: the commands that installed packages offer as entry points `turnpike.commands`."""

import logging
import sys
from importlib.metadata import EntryPoint, entry_points

import click
import structlog

GROUP = "turnpike.commands"
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 13)
MAX_ARGUMENT_CHARACTERS = 4096  # A path's. A command checks the rest.


class InstalledCommands(click.Group):
    """Finds commands by their entry points, and imports only the command that is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """A file name of another encoding, or a whole file, is no argument of any command."""
        for argument in args:
            if len(argument) > MAX_ARGUMENT_CHARACTERS:
                ctx.fail(f"an argument has at most {MAX_ARGUMENT_CHARACTERS} characters.")
            if any("\ud800" <= character <= "\udfff" for character in argument):
                ctx.fail("an argument is not UTF-8 text.")
        return super().parse_args(ctx, args)

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


@click.group(
    cls=InstalledCommands,
    context_settings={"max_content_width": 100},
    epilog="Example: turnpike status",
)
def main() -> None:
    """Run and operate Turnpike, a shop for VPN access inside Telegram.

    A command that asks the services reaches them over NATS at TURNPIKE_NATS_URL. Without that
    variable it finds the shop that `make up` runs on this machine. `turnpike COMMAND --help`
    explains a command and gives an example.
    """
    if (problem := python_problem(sys.version_info[:2])) is not None:
        click.echo(problem, err=True)
        sys.exit(2)
    structlog.configure(  # The answer goes to stdout. Only warnings and errors go to stderr.
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def python_problem(version: tuple[int, int]) -> str | None:
    """Why this Python cannot run Turnpike, or None when it can."""
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return None
    found = f"Python {version[0]}.{version[1]}"
    return f"Turnpike runs on Python 3.11, 3.12 and 3.13, and this is {found}."


if __name__ == "__main__":
    main()
