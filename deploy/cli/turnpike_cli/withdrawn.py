"""`turnpike withdrawn`: book what the owner took from the account at an acquirer."""

import re

import click

from shared.contracts.payments_acts import (
    CURRENCY_PATTERN,
    MAX_WITHDRAWAL_MINOR,
    RecordWithdrawal,
    WithdrawalRecorded,
)
from shared.messaging.rpc import Bus
from turnpike_cli.acting import Ending, act, acting, acting_options
from turnpike_cli.amounts import digits_of, minor_units
from turnpike_cli.formatting import money
from turnpike_cli.options import json_option
from turnpike_cli.querying import CannotActError, run
from turnpike_cli.services import NAMED


@click.command(
    "withdrawn",
    epilog='Example: turnpike withdrawn cryptobot 25 USDT --reason "to the bank"',
)
@click.argument("acquirer", type=NAMED, metavar="ACQUIRER")
@click.argument("amount", type=NAMED, metavar="AMOUNT")
@click.argument("currency", type=NAMED, metavar="CURRENCY")
@click.option(
    "--back",
    is_flag=True,
    help="Book money that was put into the account, or undo an earlier booking.",
)
@acting_options
@json_option
def withdrawn_command(
    *,
    acquirer: str,
    amount: str,
    currency: str,
    back: bool,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Book money that you withdrew in the cabinet of a provider.

    No money moves. The ledger books it to the account `withdrawn`, so that its balance equals the
    provider's again. ACQUIRER is telegram_stars, telegram_card, yookassa or cryptobot. Write AMOUNT
    with all decimals of its currency, or with none. Only an owner may do this.
    """
    amount_minor = minor_units(amount, currency)

    async def recorded(bus: Bus) -> int:
        if not re.fullmatch(CURRENCY_PATTERN, currency):
            raise CannotActError(f"{currency!r} is not a currency: write RUB, XTR or USDT.")
        if amount_minor is None or amount_minor > MAX_WITHDRAWAL_MINOR:
            raise CannotActError(not_an_amount(amount, currency))
        by = await acting(bus, operator, reason)
        command = RecordWithdrawal(
            **by.fields(),
            acquirer=acquirer[:64],
            currency=currency,
            amount_minor=-amount_minor if back else amount_minor,
        )
        refusals = refusals_of(currency)
        return await act(bus, command, sentence_of, refusals, as_json=as_json)

    run(recorded)


def not_an_amount(amount: str, currency: str) -> str:
    digits = digits_of(currency)
    form = f"25, or 25.{'0' * digits}" if digits else "25"
    return f"{amount!r} is not an amount in {currency!r}: write {form}."


def refusals_of(currency: str) -> dict[str, Ending]:
    return {
        "acquirer_unknown": "there is no such acquirer; known are {}.".format,
        "not_held": lambda held: f"by the ledger it holds {money(int(held), currency)}.",
    }


def sentence_of(answer: WithdrawalRecorded) -> str:
    did = "taken from" if answer.amount_minor > 0 else "put into"
    moved = money(abs(answer.amount_minor), answer.currency)
    held = money(answer.held_minor, answer.currency)
    return f"Booked: {moved} {did} {answer.acquirer}, which holds {held} now."
