"""Operators change the catalogue: prices, plans, rates and ways to pay."""

from datetime import timedelta

from payments.store import offers
from shared.contracts.message import Refused
from shared.contracts.payments_acts import (
    PlanRecord,
    PriceSet,
    RateRecord,
    SetPlan,
    SetPrice,
    SetRate,
    SetWay,
    WayRecord,
)
from shared.messaging.idempotency import Changed
from shared.platform.db import Tx

RATE_BEGINS_AFTER = timedelta(minutes=1)
"""A rate is committed before it begins: bookings of that moment find it (I9)."""


async def set_price(command: SetPrice, tx: Tx) -> Changed | Refused:
    """Rubles and Stars in one row, so that an order never has one old and one new price."""
    if await offers.lock_plan(command.plan, tx) is None:
        return Refused(reason="plan_unknown")
    before = await offers.price(command.plan, command.months, tx)
    await offers.set_price(command.plan, command.months, command.price_minor, command.stars, tx)
    answer = PriceSet(
        plan=command.plan,
        months=command.months,
        price_minor=command.price_minor,
        stars=command.stars,
    )
    after = {"price_minor": command.price_minor, "stars": command.stars}
    return Changed(answer, dict(before) if before else None, after)


async def set_plan(command: SetPlan, tx: Tx) -> Changed | Refused:
    row = await offers.lock_plan(command.plan, tx)
    if row is None:
        return Refused(reason="plan_unknown")
    before = PlanRecord(**dict(row))
    wanted = given(command, "on_sale", "devices", "traffic_bytes")
    if command.traffic_bytes == 0:
        wanted["traffic_bytes"] = None
    after = before.model_copy(update=wanted)
    await offers.set_plan(after, tx)
    kept = {"plan", "position", "node_group"}
    return Changed(after, before.model_dump(exclude=kept), after.model_dump(exclude=kept))


def given(command: SetPlan | SetWay, *fields: str) -> dict[str, object]:
    """The fields that are to change."""
    wanted = command.model_dump(include=set(fields))
    return {name: value for name, value in wanted.items() if value is not None}


async def set_rate(command: SetRate, tx: Tx) -> Changed | Refused:
    """No rate is changed that has begun, or is dated back: bookings keep theirs."""
    if command.currency == "RUB":
        return Refused(reason="rubles_have_no_rate")
    earliest_at = await tx.now() + RATE_BEGINS_AFTER
    from_at = command.from_at or earliest_at
    if from_at < earliest_at:
        return Refused(reason="begins_too_early", detail=f"{earliest_at:%Y-%m-%d %H:%M:%S}")
    before = await offers.rate_at(command.currency, from_at, tx)
    answer = RateRecord(
        currency=command.currency,
        from_at=from_at,
        kopecks=command.kopecks,
        per_minor=command.per_minor,
        state="future",
    )
    if not await offers.add_rate(answer, tx):
        return Refused(reason="rate_exists")
    after = {"kopecks": command.kopecks, "per_minor": command.per_minor}
    return Changed(answer, dict(before) if before else None, after)


async def set_way(command: SetWay, tx: Tx) -> Changed | Refused:
    row = await offers.lock_way(command.way, tx)
    if row is None:
        return Refused(reason="way_unknown")
    before = WayRecord(**dict(row))
    after = before.model_copy(update=given(command, "on_sale", "least_minor", "most_minor"))
    if after.least_minor > after.most_minor:
        return Refused(reason="least_above_most")
    await offers.set_way(after, tx)
    kept = {"way", "acquirer"}
    return Changed(after, before.model_dump(exclude=kept), after.model_dump(exclude=kept))
