"""`turnpike accounts`: the trial balance, now or at the end of a closed day."""

import json
from collections.abc import Iterable
from datetime import date, datetime

import click

from shared.contracts.message import Refused
from shared.contracts.payments import TrialBalance, TrialBalanceQuery
from shared.contracts.payments_acts import AccountDay, AccountDayQuery
from shared.messaging.rpc import Bus
from turnpike_cli.formatting import money, printable, table
from turnpike_cli.options import json_option
from turnpike_cli.querying import QUERY_TIMEOUT_S, run


@click.command("accounts", epilog="Example: turnpike accounts --day 2026-11-29")
@click.option(
    "--day",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="Show the end of this closed day (UTC), not the present.",
)
@json_option
def accounts_command(*, day: datetime | None, as_json: bool) -> None:
    """Print the balance of every account of the shop.

    People's accounts are summed by kind. With --day, also print the debits and credits of that day.
    A day is closed ten minutes after its end, and never changes again. Money that an acquirer holds
    for the shop is shown below zero, so that all balances of a currency sum to zero.
    """
    run(lambda bus: print_accounts(bus, day and day.date(), as_json=as_json))


async def print_accounts(bus: Bus, day: date | None, *, as_json: bool) -> int:
    """Returns the status of the command."""
    answer: TrialBalance | AccountDay | Refused
    if day is None:
        answer = await bus.query(TrialBalanceQuery(), timeout_s=QUERY_TIMEOUT_S)
    else:
        answer = await bus.query(AccountDayQuery(day=day), timeout_s=QUERY_TIMEOUT_S)
    if isinstance(answer, Refused):
        click.echo(not_closed(day, answer), err=True)
        return 1
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(lines_of(answer)))
    return 0


def not_closed(day: date | None, refused: Refused) -> str:
    last = printable(refused.detail or "")
    return f"{day} is not closed. {f'The last closed day is {last}.' if last else 'No day is yet.'}"


def lines_of(answer: TrialBalance | AccountDay) -> list[str]:
    if not answer.lines:
        return ["No account was opened yet."]
    return day_lines(answer) if isinstance(answer, AccountDay) else now_lines(answer)


def day_lines(answer: AccountDay) -> list[str]:
    rows = [
        (
            one.account,
            money(one.debit_minor, one.currency),
            money(one.credit_minor, one.currency),
            money(one.balance_minor, one.currency),
        )
        for one in answer.lines
    ]
    sums = sums_of((one.currency, one.balance_minor) for one in answer.lines)
    rows += [("sum", "", "", total) for total in sums]
    return table(("ACCOUNT", "DEBIT", "CREDIT", "BALANCE"), rows)


def now_lines(answer: TrialBalance) -> list[str]:
    rows = [(one.account, money(one.amount_minor, one.currency)) for one in answer.lines]
    sums = sums_of((one.currency, one.amount_minor) for one in answer.lines)
    return table(("ACCOUNT", "BALANCE"), rows + [("sum", total) for total in sums])


def sums_of(balances: Iterable[tuple[str, int]]) -> list[str]:
    """One per currency: zero, where the ledger is right."""
    sums: dict[str, int] = {}
    for currency, amount_minor in balances:
        sums[currency] = sums.get(currency, 0) + amount_minor
    return [money(total_minor, currency) for currency, total_minor in sorted(sums.items())]
