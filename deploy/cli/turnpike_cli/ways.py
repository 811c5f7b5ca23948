"""`turnpike ways …` and `turnpike rates …`: how people pay, and what other currencies are worth."""

from datetime import datetime
from typing import Any, get_args

import click

from shared.contracts.payments import Way
from shared.contracts.payments_acts import (
    MAX_WAY_MINOR,
    RateRecord,
    SetRate,
    SetWay,
    WayRecord,
)
from shared.messaging.rpc import Bus
from turnpike_cli.acting import Ending, act, acting, acting_options
from turnpike_cli.amounts import MOMENT, amount_argument, digits_of, minor_units
from turnpike_cli.formatting import moment, money, table
from turnpike_cli.options import json_option
from turnpike_cli.plans import catalogue_of, on_sale_option, print_part, sale
from turnpike_cli.querying import CannotActError, run
from turnpike_cli.services import NAMED

WAY_REFUSALS = {
    "way_unknown": "there is no such way to pay; see turnpike ways list.",
    "least_above_most": "the least amount is above the most.",
}
RATE_REFUSALS: dict[str, Ending] = {
    "rubles_have_no_rate": "a ruble is a ruble.",
    "begins_too_early": "a rate begins a minute from now at the earliest: {} UTC.".format,
    "rate_exists": "another rate of this currency begins at that time.",
}


@click.group("ways", epilog="Example: turnpike ways list")
def ways_command() -> None:
    """List the ways to pay and change them.

    WAY is stars, sbp, card, crypto or telegram (a card in Telegram). A way without the credentials
    of its provider is not offered, whatever is set here.
    """


@ways_command.command("list", epilog="Example: turnpike ways list --json")
@json_option
def list_ways_command(*, as_json: bool) -> None:
    """List all ways to pay, also those that are not on sale."""
    run(lambda bus: print_part(bus, "ways", way_lines, as_json=as_json))


def way_lines(ways: tuple[WayRecord, ...]) -> list[str]:
    rows = [
        (
            one.way,
            one.acquirer,
            money(one.least_minor, one.currency),
            money(one.most_minor, one.currency),
            sale(on_sale=one.on_sale),
        )
        for one in ways
    ]
    return table(("WAY", "ACQUIRER", "LEAST", "MOST", "ON SALE"), rows)


@ways_command.command(
    "set", epilog='Example: turnpike ways set card --least 64 --reason "their new minimum"'
)
@click.argument("way", type=click.Choice(get_args(Way)), metavar="WAY")
@on_sale_option
@click.option("--least", type=NAMED, metavar="AMOUNT", help="Ask for this amount at the least.")
@click.option("--most", type=NAMED, metavar="AMOUNT", help="Ask for this amount at the most.")
@acting_options
@json_option
def set_way_command(
    *,
    way: Way,
    on_sale: bool | None,
    least: str | None,
    most: str | None,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Change a way to pay; the rest of it stays.

    AMOUNT is in the currency of the way: rubles with kopecks, or whole Stars.
    """
    if on_sale is None and least is None and most is None:
        raise click.UsageError("Name a change: --on-sale, --off-sale, --least or --most.")

    async def changed(bus: Bus) -> int:
        by = await acting(bus, operator, reason)
        currency = await currency_of(bus, way)
        fields = {
            "way": way,
            "on_sale": on_sale,
            "least_minor": amount_in(least, currency),
            "most_minor": amount_in(most, currency),
        }
        command = SetWay.model_validate(by.fields() | fields)
        return await act(bus, command, way_sentence, WAY_REFUSALS, as_json=as_json)

    run(changed)


async def currency_of(bus: Bus, way: str) -> str:
    found = {one.way: one.currency for one in (await catalogue_of(bus)).ways}
    return found.get(way, "RUB")


def amount_in(text: str | None, currency: str) -> int | None:
    """In the smallest unit of the currency. Raises CannotActError for a text of another form."""
    if text is None:
        return None
    amount_minor = minor_units(text, currency)
    if amount_minor is None or amount_minor > MAX_WAY_MINOR:
        form = "149, or 149.50" if digits_of(currency) else "149"
        raise CannotActError(f"{text!r} is not an amount in {currency}: write {form}.")
    return amount_minor


def way_sentence(way: WayRecord) -> str:
    offered = "on sale" if way.on_sale else "not on sale"
    least, most = money(way.least_minor, way.currency), money(way.most_minor, way.currency)
    return f"{way.way} is {offered}, from {least} to {most}."


# Rates


@click.group("rates", epilog="Example: turnpike rates list")
def rates_command() -> None:
    """List the rates of other currencies and add new ones.

    A rate values money that no invoice gives a value to. A rate that has begun is never changed.
    """


@rates_command.command("list", epilog="Example: turnpike rates list --json")
@json_option
def list_rates_command(*, as_json: bool) -> None:
    """List the rates, of each currency the newest first."""
    run(lambda bus: print_part(bus, "rates", rate_lines, as_json=as_json))


def rate_lines(rates: tuple[RateRecord, ...]) -> list[str]:
    rows = [
        (one.currency, money(one.kopecks, "RUB"), per(one), moment(one.from_at)[:19], one.state)
        for one in rates
    ]
    return table(("CURRENCY", "WORTH", "PER", "FROM (UTC)", "STATE"), rows)


def per(rate: RateRecord) -> str:
    return money(rate.per_minor, rate.currency)


@rates_command.command(
    "set", epilog='Example: turnpike rates set XTR 1.52 --reason "the new price of Stars"'
)
@click.argument("currency", type=NAMED, metavar="CURRENCY")
@amount_argument
@click.option(
    "--per",
    "units",
    type=click.IntRange(1, 1_000_000),
    default=1,
    metavar="COUNT",
    help="Give AMOUNT for so many whole units of the currency.",
)
@click.option(
    "--from",
    "from_at",
    type=MOMENT,
    metavar="TIME",
    help="Begin at this time in UTC; without the option in a minute.",
)
@acting_options
@json_option
def set_rate_command(
    *,
    currency: str,
    amount_minor: int,
    units: int,
    from_at: datetime | None,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Add a rate: AMOUNT rubles for one unit of a currency."""
    if not (currency.isascii() and currency.isupper() and currency.isalpha()):
        raise click.UsageError(f"{currency!r} is not the code of a currency, such as XTR.")
    fields: dict[str, Any] = {"currency": currency, "kopecks": amount_minor, "from_at": from_at}
    fields["per_minor"] = units * 10 ** digits_of(currency)

    async def changed(bus: Bus) -> int:
        by = await acting(bus, operator, reason)
        command = SetRate.model_validate(by.fields() | fields)
        return await act(bus, command, rate_sentence, RATE_REFUSALS, as_json=as_json)

    run(changed)


def rate_sentence(rate: RateRecord) -> str:
    worth = f"{per(rate)} is worth {money(rate.kopecks, 'RUB')}"
    return f"From {moment(rate.from_at)[:19]} UTC {worth}."
