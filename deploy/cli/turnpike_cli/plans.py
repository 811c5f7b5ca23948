"""`turnpike plans …` and `turnpike prices …`: what is sold, and for how much."""

import json
from collections.abc import Callable
from typing import Any

import click

from shared.contracts.payments import MAX_MONTHS
from shared.contracts.payments_acts import (
    MAX_DEVICES,
    MAX_PRICE_STARS,
    Catalogue,
    CatalogueQuery,
    PlanRecord,
    PriceSet,
    SetPlan,
    SetPrice,
)
from shared.messaging.rpc import Bus
from turnpike_cli.acting import act, acting, acting_options
from turnpike_cli.amounts import amount_argument
from turnpike_cli.formatting import moment, money, table
from turnpike_cli.options import json_option
from turnpike_cli.querying import QUERY_TIMEOUT_S, run
from turnpike_cli.services import NAMED

GIB = 2**30
MAX_TRAFFIC_GIB = 2**20

PLAN_REFUSALS = {"plan_unknown": "there is no such plan; see turnpike plans list."}

plan_argument = click.argument("plan", type=NAMED, metavar="PLAN")
on_sale_option = click.option(
    "--on-sale/--off-sale", "on_sale", default=None, help="Offer it to people, or not."
)


async def catalogue_of(bus: Bus) -> Catalogue:
    answer = await bus.query(CatalogueQuery(), timeout_s=QUERY_TIMEOUT_S)
    assert isinstance(answer, Catalogue), answer
    return answer


async def print_part(
    bus: Bus, part: str, lines: Callable[[Any], list[str]], *, as_json: bool
) -> int:
    """Print one of the four parts of the catalogue. Returns the status of the command."""
    rows = getattr(await catalogue_of(bus), part)
    if as_json:
        answer = {part: [row.model_dump(mode="json") for row in rows]}
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(lines(rows)))
    return 0


# Plans


@click.group("plans", epilog="Example: turnpike plans list")
def plans_command() -> None:
    """List the plans and change them.

    PLAN is the code of a plan. Orders that were placed keep their terms.
    """


@plans_command.command("list", epilog="Example: turnpike plans list --json")
@json_option
def list_plans_command(*, as_json: bool) -> None:
    """List all plans, also those that are not on sale."""
    run(lambda bus: print_part(bus, "plans", plan_lines, as_json=as_json))


def plan_lines(plans: tuple[PlanRecord, ...]) -> list[str]:
    rows = [
        (one.plan, str(one.devices), traffic(one), one.node_group, sale(on_sale=one.on_sale))
        for one in plans
    ]
    return table(("PLAN", "DEVICES", "TRAFFIC", "NODE GROUP", "ON SALE"), rows)


def traffic(plan: PlanRecord) -> str:
    return "no limit" if plan.traffic_bytes is None else f"{plan.traffic_bytes / GIB:g} GiB"


def sale(*, on_sale: bool) -> str:
    return "yes" if on_sale else "no"


@plans_command.command(
    "set", epilog='Example: turnpike plans set plus --off-sale --reason "the nodes are full"'
)
@plan_argument
@on_sale_option
@click.option(
    "--devices",
    type=click.IntRange(1, MAX_DEVICES),
    metavar="COUNT",
    help="Allow so many devices.",
)
@click.option(
    "--traffic",
    "traffic_gib",
    type=click.IntRange(0, MAX_TRAFFIC_GIB),
    metavar="GIB",
    help="Limit the traffic to so many GiB; 0 is no limit.",
)
@acting_options
@json_option
def set_plan_command(
    *,
    plan: str,
    on_sale: bool | None,
    devices: int | None,
    traffic_gib: int | None,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Change a plan; the rest of it stays."""
    if on_sale is None and devices is None and traffic_gib is None:
        raise click.UsageError("Name a change: --on-sale, --off-sale, --devices or --traffic.")
    fields = {
        "plan": plan,
        "on_sale": on_sale,
        "devices": devices,
        "traffic_bytes": None if traffic_gib is None else traffic_gib * GIB,
    }

    async def changed(bus: Bus) -> int:
        by = await acting(bus, operator, reason)
        command = SetPlan.model_validate(by.fields() | fields)
        return await act(bus, command, plan_sentence, PLAN_REFUSALS, as_json=as_json)

    run(changed)


def plan_sentence(plan: PlanRecord) -> str:
    offered = "on sale" if plan.on_sale else "not on sale"
    return f"{plan.plan} is {offered}: {plan.devices} devices, traffic {traffic(plan)}."


# Prices


@click.group("prices", epilog="Example: turnpike prices list")
def prices_command() -> None:
    """List the prices and change them.

    An order that was placed keeps its price. AMOUNT is in rubles: 149, or 149.50 with kopecks.
    """


@prices_command.command("list", epilog="Example: turnpike prices list --json")
@json_option
def list_prices_command(*, as_json: bool) -> None:
    """List the price of each plan for each number of months."""
    run(lambda bus: print_part(bus, "prices", price_lines, as_json=as_json))


def price_lines(prices: tuple[Any, ...]) -> list[str]:
    rows = [
        (
            one.plan,
            str(one.months),
            money(one.price_minor, "RUB"),
            money(one.stars, "XTR"),
            moment(one.since)[:19],
        )
        for one in prices
    ]
    return table(("PLAN", "MONTHS", "PRICE", "IN STARS", "SINCE (UTC)"), rows)


@prices_command.command(
    "set", epilog='Example: turnpike prices set basic 1 159 106 --reason "the new season"'
)
@plan_argument
@click.argument("months", type=click.IntRange(1, MAX_MONTHS), metavar="MONTHS")
@amount_argument
@click.argument("stars", type=click.IntRange(1, MAX_PRICE_STARS), metavar="STARS")
@acting_options
@json_option
def set_price_command(
    *,
    plan: str,
    months: int,
    amount_minor: int,
    stars: int,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Set the price of a plan for some months, in rubles and in Stars."""
    fields = {"plan": plan, "months": months, "price_minor": amount_minor, "stars": stars}

    async def changed(bus: Bus) -> int:
        by = await acting(bus, operator, reason)
        command = SetPrice.model_validate(by.fields() | fields)
        return await act(bus, command, price_sentence, PLAN_REFUSALS, as_json=as_json)

    run(changed)


def price_sentence(price: PriceSet) -> str:
    costs = f"{money(price.price_minor, 'RUB')}, or {money(price.stars, 'XTR')}"
    return f"{price.plan} for {price.months} months costs {costs}."
