"""`turnpike operators …`: list operators, give roles, and take them away."""

import json
from typing import get_args

import click

from shared.contracts.bot import Operator, OperatorChanged, Operators, OperatorsQuery, SetOperator
from shared.contracts.operators import ROLES, Role
from shared.messaging.rpc import Bus
from turnpike_cli.acting import OPERATOR, act, acting, acting_options
from turnpike_cli.formatting import moment, table
from turnpike_cli.options import json_option
from turnpike_cli.querying import QUERY_TIMEOUT_S, run

REFUSALS = {
    "owner_by_setting": "the setting TURNPIKE_OWNERS of bot-gateway names this owner.",
    "operator_unknown": "there is no such operator.",
    "too_many_operators": "the shop has as many operators as it may have.",
}

operator_argument = click.argument("name", type=OPERATOR, metavar="OPERATOR")


@click.group("operators", epilog="Example: turnpike operators list")
def operators_command() -> None:
    """List operators, give roles and take them away.

    OPERATOR is a name of your choice or a Telegram id. ROLE is owner (everything), admin
    (everything but operators) or support (reading and replays, no money and no prices).
    """


@operators_command.command("list", epilog="Example: turnpike operators list --json")
@json_option
def list_command(*, as_json: bool) -> None:
    """List everybody who has a role."""
    run(lambda bus: print_operators(bus, as_json=as_json))


async def print_operators(bus: Bus, *, as_json: bool) -> int:
    """Returns the status of the command."""
    answer = await bus.query(OperatorsQuery(), timeout_s=QUERY_TIMEOUT_S)
    assert isinstance(answer, Operators), answer
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json"), indent=2, ensure_ascii=False))
    elif answer.operators:
        rows = [row_of(one) for one in answer.operators]
        click.echo("\n".join(table(("OPERATOR", "ROLE", "SINCE (UTC)", "BY"), rows)))
    else:
        click.echo("There are no operators. The setting TURNPIKE_OWNERS names the first ones.")
    return 0


def row_of(one: Operator) -> tuple[str, ...]:
    since = moment(one.since)[:19] if one.since else "always"
    return one.operator, one.role, since, one.by or "TURNPIKE_OWNERS"


@operators_command.command(
    "set", epilog='Example: turnpike operators set olga support --reason "joins the team"'
)
@operator_argument
@click.argument("role", type=click.Choice(get_args(Role)), metavar="ROLE")
@acting_options
@json_option
def set_command(*, name: str, role: Role, operator: str, reason: str, as_json: bool) -> None:
    """Give a role to an operator."""
    assert role in ROLES
    run(lambda bus: set_role(bus, name, role, operator, reason, as_json=as_json))


@operators_command.command(
    "remove", epilog='Example: turnpike operators remove olga --reason "left the team"'
)
@operator_argument
@acting_options
@json_option
def remove_command(*, name: str, operator: str, reason: str, as_json: bool) -> None:
    """Take the role of an operator away."""
    run(lambda bus: set_role(bus, name, None, operator, reason, as_json=as_json))


async def set_role(
    bus: Bus, name: str, role: Role | None, operator: str, reason: str, *, as_json: bool
) -> int:
    """Returns the status of the command."""
    by = await acting(bus, operator, reason)
    command = SetOperator(**by.fields(), operator=name, new_role=role)
    return await act(bus, command, sentence_of, REFUSALS, as_json=as_json)


def sentence_of(answer: OperatorChanged) -> str:
    if answer.role is None:
        return f"{answer.operator} is no operator any more."
    return f"{answer.operator} is now {answer.role}."
