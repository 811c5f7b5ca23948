"""How a command acts: as an operator whose role bot-gateway answers, and with a reason."""

import getpass
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import click

from shared.contracts.bot import OperatorQuery
from shared.contracts.message import MAX_REASON_CHARACTERS, Refused, Value
from shared.contracts.operators import OPERATOR_PATTERN, Act, Role
from shared.messaging.rpc import Bus
from turnpike_cli.formatting import printable
from turnpike_cli.local_shop import shop_time
from turnpike_cli.querying import QUERY_TIMEOUT_S, CannotActError
from turnpike_cli.services import Named

# Generous: the clock of the owner decides, and the clock of this machine may differ.
EXECUTED_WITHIN = timedelta(minutes=10)

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Reason(Named):
    """Why an operator acts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        reason = super().convert(value, param, ctx)
        if len(reason) > MAX_REASON_CHARACTERS:
            self.fail(f"it has at most {MAX_REASON_CHARACTERS} characters.", param, ctx)
        return reason


class OperatorName(Named):
    """An operator, by name or Telegram id."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = super().convert(value, param, ctx)
        if not re.fullmatch(OPERATOR_PATTERN, name):
            self.fail("an operator is 1 to 64 of A-Z a-z 0-9 . _ @ + -.", param, ctx)
        return name


OPERATOR = OperatorName()


def login_name() -> str:
    """The login on this machine, or its number where it has no plain name."""
    with suppress(OSError, KeyError, ImportError):
        name = getpass.getuser()
        if re.fullmatch(OPERATOR_PATTERN, name):
            return name
    return str(os.getuid())


def acting_options(command: Decorated) -> Decorated:
    """Add the options of an act: its operator and its reason."""
    reason = click.option(
        "--reason",
        required=True,
        type=Reason(),
        metavar="SENTENCE",
        help="Say why. The service keeps it with the act.",
    )
    operator = click.option(
        "--as",
        "operator",
        type=OPERATOR,
        envvar="TURNPIKE_OPERATOR",
        default=login_name,
        metavar="OPERATOR",
        help="Act as this operator; without the option as TURNPIKE_OPERATOR, or by your login.",
    )
    return operator(reason(command))


@dataclass(frozen=True)
class Acting:
    """An operator with the present role, and the reason of what is done now."""

    operator: str
    role: Role
    reason: str

    def fields(self) -> dict[str, Any]:
        """The fields that every act has. The id is drawn here: repeated attempts act once."""
        return {
            "id": uuid4(),
            "actor": f"operator:{self.operator}",
            "role": self.role,
            "reason": self.reason,
            "deadline_at": shop_time(os.environ) + EXECUTED_WITHIN,
        }


async def acting(bus: Bus, operator: str, reason: str) -> Acting:
    """Asks bot-gateway for the role. Raises CannotActError for an unknown operator."""
    answer = await bus.query(OperatorQuery(operator=operator), timeout_s=QUERY_TIMEOUT_S)
    if isinstance(answer, Refused):
        raise CannotActError(
            f"{operator} is no operator of this shop. An owner adds one: turnpike operators set "
            f'{operator} ROLE --reason "…". The setting TURNPIKE_OWNERS names the first owners.'
        )
    return Acting(operator, answer.role, reason)


Ending = str | Callable[[str], str]
"""The end of a sentence about a refusal, or a function of its detail that returns one."""

COMMON_REFUSALS: Mapping[str, Ending] = {
    "not_allowed": "your role does not allow it.",
    "too_late": "the clock of this machine is wrong by more than ten minutes.",
}


async def act(
    bus: Bus,
    command: Act[Any],
    done: Callable[[Any], str],
    refusals: Mapping[str, Ending],
    *,
    as_json: bool,
) -> int:
    """Execute, and print what was done or why not. Returns the status of the command.

    `refusals` are the endings of sentences by the reason of a refusal.
    """
    answer: Value = await bus.execute(command)
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json"), indent=2, ensure_ascii=False))
    elif isinstance(answer, Refused):
        click.echo(f"Refused: {printable(ending_of(answer, refusals))}", err=True)
    else:
        click.echo(done(answer))
    return 1 if isinstance(answer, Refused) else 0


def ending_of(refused: Refused, refusals: Mapping[str, Ending]) -> str:
    ending = {**COMMON_REFUSALS, **refusals}.get(refused.reason, f"{refused.reason}.")
    return ending if isinstance(ending, str) else ending(refused.detail or "")
