"""`--help` of every command: whole sentences, a valid example, and metavars with a meaning."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from turnpike_cli.main import main

SENTENCE = re.compile(r"[A-Z(].*\.$", re.DOTALL)
TYPES = {"TEXT", "PATH", "FILE", "DIRECTORY", "INTEGER", "FLOAT", "FLOAT RANGE", "NAMED"}
"""Metavars of click that name the type of a value, and not its meaning."""
WIDTH = 78
"""Of a help text on a terminal of 80 columns: click leaves two of them free."""


def commands(
    group: click.Group = main, path: tuple[str, ...] = ("turnpike",)
) -> Iterator[tuple[str, click.Command]]:
    """Each command with its full name, groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())
every_command = pytest.mark.parametrize("name", COMMANDS)


def test_every_command_of_the_project_is_listed() -> None:
    assert {name.split()[1] for name in COMMANDS} == {
        *("accounts", "acts", "audit", "balance", "clean", "clock", "dead-letters", "demo"),
        *("migrate", "operators", "parked", "plans", "prices", "rates", "reconcile", "refund"),
        *("refunds", "restored", "status", "streams", "up", "ways", "why", "withdrawn"),
    }


@every_command
def test_the_help_is_whole_sentences(name: str) -> None:
    command = COMMANDS[name]
    text = " ".join((command.help or "").split())
    assert SENTENCE.match(text), text
    for option in command.params:
        if isinstance(option, click.Option):
            about = re.sub(r" \[default: .*\]$", "", option.help or "")
            assert SENTENCE.match(about), f"{option.name}: {about}"


@every_command
def test_the_first_sentence_is_listed_whole(name: str) -> None:
    """A list of commands cuts a long sentence; in 80 columns none is cut."""
    siblings = [one.split()[-1] for one in COMMANDS if one.split()[:-1] == name.split()[:-1]]
    room = WIDTH - max(map(len, siblings)) - 6
    assert not COMMANDS[name].get_short_help_str(room).endswith("..."), room


@every_command
def test_the_example_parses(name: str) -> None:
    """The line can be typed as it stands: it names this command, and its arguments are valid."""
    command = COMMANDS[name]
    found = re.fullmatch(r"Example: (turnpike [^|]+)", command.epilog or "")
    assert found, command.epilog
    assert len(found.group()) <= WIDTH - 2
    arguments = shlex.split(found.group(1))
    assert arguments[: len(name.split())] == name.split()
    if isinstance(command, click.Group):
        assert " ".join(arguments[: len(name.split()) + 1]) in COMMANDS
    else:
        command.make_context(name, arguments[len(name.split()) :], resilient_parsing=False)


@every_command
def test_metavars_say_what_is_wanted(name: str) -> None:
    command = COMMANDS[name]
    context = click.Context(command)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.is_flag:
            continue
        metavar = parameter.make_metavar(context)
        assert metavar.strip("[].") not in TYPES, f"{parameter.name}: {metavar}"
        assert metavar.strip("[].").isupper(), f"{parameter.name}: {metavar}"
