"""`turnpike balance …`: credit or debit the wallet of a person."""

from typing import Literal
from uuid import UUID

import click

from shared.contracts.payments_acts import MAX_ADJUSTMENT_MINOR, AdjustBalance, Adjusted
from shared.messaging.rpc import Bus
from turnpike_cli.acting import act, acting, acting_options
from turnpike_cli.amounts import amount_argument
from turnpike_cli.formatting import money
from turnpike_cli.options import json_option
from turnpike_cli.people import person_argument, person_named
from turnpike_cli.querying import CannotActError, run

Source = Literal["adjustments", "promotions", "opening"]


@click.group("balance", epilog='Example: turnpike balance add 777000 50 --reason "an outage"')
def balance_command() -> None:
    """Credit or debit the wallet of a person.

    PERSON is a Telegram id, or the id of a person. AMOUNT is in rubles: 149, or 149.50 with
    kopecks. The other side of the transfer is the account `adjustments`, or the one of `--from`.
    """


source_option = click.option(
    "--from",
    "source",
    type=click.Choice(["adjustments", "promotions", "opening"]),
    metavar="ACCOUNT",
    default="adjustments",
    help="The shop's account: adjustments (a correction), promotions (a gift) or opening (a "
    "balance that came from another shop).",
)


@balance_command.command(
    "add", epilog='Example: turnpike balance add 777000 149.50 --reason "an outage"'
)
@person_argument
@amount_argument
@source_option
@acting_options
@json_option
def add_command(
    *,
    person: int | UUID,
    amount_minor: int,
    source: Source,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Add money to the wallet of a person.

    A debt of the person is settled first.
    """
    run(lambda bus: adjust(bus, person, amount_minor, source, operator, reason, as_json=as_json))


@balance_command.command(
    "take", epilog='Example: turnpike balance take 777000 50 --reason "added twice"'
)
@person_argument
@amount_argument
@source_option
@acting_options
@json_option
def take_command(
    *,
    person: int | UUID,
    amount_minor: int,
    source: Source,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Take money from the wallet of a person, at most what it holds."""
    run(lambda bus: adjust(bus, person, -amount_minor, source, operator, reason, as_json=as_json))


async def adjust(
    bus: Bus,
    named: int | UUID,
    amount_minor: int,
    source: Source,
    operator: str,
    reason: str,
    *,
    as_json: bool,
) -> int:
    """Returns the status of the command."""
    if abs(amount_minor) > MAX_ADJUSTMENT_MINOR:
        raise CannotActError(f"One act moves at most {money(MAX_ADJUSTMENT_MINOR, 'RUB')}.")
    by = await acting(bus, operator, reason)
    person = await person_named(bus, named)
    fields = {"person": person, "amount_minor": amount_minor, "source": source}
    command = AdjustBalance(**by.fields(), **fields)
    return await act(bus, command, sentence_of, {"balance_short": short}, as_json=as_json)


def short(missing: str) -> str:
    return f"the wallet lacks {money(int(missing), 'RUB')} for that."


def sentence_of(answer: Adjusted) -> str:
    did = "Added" if answer.amount_minor > 0 else "Took"
    sentence = f"{did} {money(abs(answer.amount_minor), 'RUB')}"
    sentence += f"; the wallet holds {money(answer.wallet_minor, 'RUB')} now"
    owed = f", and {money(answer.owed_minor, 'RUB')} are owed" if answer.owed_minor else ""
    return f"{sentence}{owed}."
