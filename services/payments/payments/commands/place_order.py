"""Placing an order: what is wanted, at today's price, which is frozen."""

from datetime import timedelta

from payments.store import catalogue, orders
from payments.store.orders import Wanted, terms_from
from shared.contracts.message import Refused
from shared.contracts.money import stars_of
from shared.contracts.payments import OrderedWhat, PlacedOrder, PlaceOrder
from shared.platform import telemetry
from shared.platform.db import Tx

ORDER_HONOURED_FOR = timedelta(days=30)


async def place_order(command: PlaceOrder, tx: Tx) -> PlacedOrder | Refused:
    """The command's id becomes the order's id. The order keeps the trace in which it is placed.

    It supersedes the person's older open orders of its kind, so a person has few of them.
    """
    wanted = await (topup(command, tx) if command.topup_minor else subscription(command, tx))
    if isinstance(wanted, Refused):
        return wanted
    order, trace = command.id, telemetry.current_trace()
    what: OrderedWhat = "subscription" if wanted.terms else "topup"
    await orders.insert_order(order, command.person, wanted, ORDER_HONOURED_FOR, trace, tx)
    await orders.supersede_older(command.person, order, what, tx)
    return PlacedOrder(
        order=order,
        what=what,
        plan=command.plan,
        months=command.months,
        list_month_minor=wanted.terms.list_month_minor if wanted.terms else None,
        price_minor=wanted.price_minor,
    )


async def subscription(command: PlaceOrder, tx: Tx) -> Wanted | Refused:
    assert command.plan is not None, "an order wants one thing"
    assert command.months is not None, "a plan has months"
    price = await catalogue.price_of(command.plan, command.months, tx)
    if price is None:
        detail = f"{command.plan} for {command.months} months is not on sale"
        return Refused(reason="plan_unknown", detail=detail)
    return Wanted(terms_from(price), price["price_minor"], price["stars"])


async def topup(command: PlaceOrder, tx: Tx) -> Wanted:
    """Its price is its amount. Without a rate it cannot be paid in Stars."""
    assert command.topup_minor is not None, "an order wants one thing"
    rate = (await catalogue.rates_in_force(tx)).get("XTR")
    stars = stars_of(command.topup_minor, *rate) if rate else None
    return Wanted(None, command.topup_minor, stars)
