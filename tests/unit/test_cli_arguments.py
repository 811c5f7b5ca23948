"""Arguments of the commands that name something: a blank one names nothing."""

import click
import pytest
from click.testing import CliRunner

from turnpike_cli.dead_letters import dead_letters_command
from turnpike_cli.operators import operators_command
from turnpike_cli.reconcile import reconcile_command
from turnpike_cli.why import why_command

BLANK = ["", "  ", "\t\n"]


@pytest.mark.parametrize("blank", BLANK)
@pytest.mark.parametrize(
    ("command", "arguments", "named"),
    [
        (why_command, [], "PAYMENT"),
        (dead_letters_command, ["show", "payments"], "ID"),
        (dead_letters_command, ["replay", "payments"], "[ID]..."),
        (dead_letters_command, ["replay", "payments", "--handler"], "--handler"),
        (dead_letters_command, ["replay", "payments", "7", "--reason"], "--reason"),
        (operators_command, ["remove", "olga", "--reason", "left", "--as"], "--as"),
        (operators_command, ["remove"], "OPERATOR"),
        (reconcile_command, ["show"], "RUN"),
        (reconcile_command, ["run", "--provider"], "--provider"),
    ],
    ids=["why", "show", "replay", "handler", "reason", "as", "operator", "run", "provider"],
)
def test_blank_argument_is_refused(
    command: click.Command, arguments: list[str], named: str, blank: str
) -> None:
    """R-34: `why` with an empty charge showed the wrong payment."""
    result = CliRunner().invoke(command, [*arguments, blank], env={"TURNPIKE_NATS_URL": ""})
    assert result.exit_code == 2
    assert f"Invalid value for '{named}': it is empty." in result.output
