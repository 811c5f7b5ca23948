"""The parameter PERSON: a Telegram id, or the id that the shop gave to a person."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import click

from shared.contracts.bot import PersonQuery, RecipientQuery
from shared.contracts.message import Refused
from shared.messaging.rpc import Bus
from turnpike_cli.querying import QUERY_TIMEOUT_S, CannotActError


class PersonName(click.ParamType[int | UUID]):
    """A whole number is a Telegram id; a UUID is the id of a person."""

    name = "person"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | UUID:
        named = person_in(str(value).strip())
        if named is None:
            self.fail(f"{value!r} is neither a Telegram id nor the id of a person.", param, ctx)
        return named


def person_in(text: str) -> int | UUID | None:
    with suppress(ValueError):
        number = text.isascii() and text.isdecimal() and int(text) < 2**63
        return int(text) if number else UUID(text)
    return None


PERSON = PersonName()

person_argument = click.argument("person", type=PERSON, metavar="PERSON")


async def person_named(bus: Bus, named: int | UUID) -> UUID:
    """The person, whom bot-gateway must know. Raises CannotActError."""
    if isinstance(named, UUID):
        recipient = await bus.query(RecipientQuery(person=named), timeout_s=QUERY_TIMEOUT_S)
        if isinstance(recipient, Refused):
            raise CannotActError(f"The shop knows no person {named}.")
        return named
    answer = await bus.query(PersonQuery(telegram_id=named), timeout_s=QUERY_TIMEOUT_S)
    if isinstance(answer, Refused):
        raise CannotActError(f"Nobody with the Telegram id {named} started the bot.")
    return answer.person
