"""The screens of choosing: plan, period, and the ways to pay for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from bot_gateway.chats.buttons import Pay, PickPeriod, PickPlan, packed, priced
from bot_gateway.chats.screens import Button, Packed, Say, Screen, back, plain, screen, to
from bot_gateway.domain.ways import (
    asked_by_ways,
    last_digits,
    least_above,
    other_title,
    shown_price,
)
from shared.contracts.money import Money, stars_for
from shared.contracts.payments import (
    AskedByWay,
    Plan,
    Plans,
    Price,
    SavedMethod,
    SavedName,
    Way,
    WayToPay,
)
from shared.contracts.vpn import Outlook


def on_buttons(offered: Plans) -> Plans:
    """The plans and periods that buttons can name. Another one would fail the screen of all."""
    plans = (
        plan.model_copy(update={"prices": tuple(p for p in plan.prices if has_button(plan, p))})
        for plan in offered.plans
    )
    return offered.model_copy(update={"plans": tuple(plan for plan in plans if plan.prices)})


def has_button(plan: Plan, price: Price) -> bool:
    """Whether the longest button of this period can be packed, and sent as UTF-8."""
    command = packed(UUID(int=0))
    try:
        Pay(plan=plan.plan, months=price.months, way="missing", command=command).pack()
    except ValueError:
        return False
    return True


def plans(offered: Plans, say: Say) -> Screen:
    rows = [
        [to(plan_line(plan, offered.ways, say), PickPlan(plan=plan.plan))]
        for plan in offered.plans
        if plan.prices
    ]
    return screen(say("buy-plan"), *rows, back(say))


def plan_line(plan: Plan, ways: Sequence[WayToPay], say: Say) -> str:
    cheapest = min(plan.prices, key=lambda price: price.price_minor)
    price = shown_price(ways, cheapest.price_minor, cheapest.stars)
    return say("button-plan", plan=plan.plan, devices=plan.devices, price=price)


def periods(plan: Plan, ways: Sequence[WayToPay], say: Say) -> Screen:
    rows = [
        [
            to(
                say(
                    "button-period",
                    months=price.months,
                    price=shown_price(ways, price.price_minor, price.stars),
                ),
                PickPeriod(plan=plan.plan, months=price.months),
            )
        ]
        for price in plan.prices
    ]
    return screen(say("buy-period", plan=plan.plan, devices=plan.devices), *rows, back(say, "buy"))


@dataclass(frozen=True)
class Offer:
    """The plans and periods on sale, with the ways to pay today."""

    plan: Plan
    price: Price
    ways: tuple[WayToPay, ...]
    balance_minor: int
    """Wallet and rewards together."""
    outlook: Outlook | None
    saved: tuple[SavedMethod, ...] = ()


def ways(offer: Offer, command: UUID, say: Say) -> Screen:
    """`command` becomes the order's id: a screen offers one order, however often it is tapped."""
    plan, price = offer.plan.plan, offer.price
    command = priced(command, price.price_minor)
    asked = asked_by_ways(offer.ways, price.price_minor, price.stars)
    shown = shown_price(offer.ways, price.price_minor, price.stars)

    def button(way: Way | SavedName) -> Pay:
        return Pay(plan=plan, months=price.months, way=way, command=packed(command))

    wanted = say("buy-order", plan=plan, months=price.months, price=shown)
    enough = offer.balance_minor >= price.price_minor
    question = how(asked, price.price_minor, say, enough=enough)
    parts = [wanted, outlook_text(plan, offer.outlook, say), *question]
    return screen(
        "\n\n".join(parts),
        *saved_rows(offer.saved, asked, button, say),
        *way_rows(asked, button, say),
        from_balance(offer, command, say),
        [to(say("button-back"), PickPlan(plan=plan))],
    )


def how(
    asked: Sequence[AskedByWay], amount_minor: int, say: Say, *, enough: bool = False
) -> list[str]:
    """The question, with the least amount of each way that asks for more than `amount_minor`.

    `enough`: the balance can pay too.
    """
    if not asked and not enough:
        return [say("ways-none")]
    least = [
        say("way-least", way=one.way, least=Money(one.asked_minor, one.currency))
        for one in least_above(asked, amount_minor)
    ]
    return ["\n".join(least), say("buy-way")] if least else [say("buy-way")]


def saved_rows(
    saved: Sequence[SavedMethod],
    asked: Sequence[AskedByWay],
    data: Callable[[SavedName], Packed],
    say: Say,
) -> list[list[Button]]:
    """A button for each saved method, with what it is charged: as much as its way asks for."""
    by_way = {one.way: Money(one.asked_minor, one.currency) for one in asked}
    return [
        [to(say("button-saved", method=title_of(one, say), asked=by_way[one.way]), data(one.name))]
        for one in saved
        if one.way in by_way
    ]


def title_of(method: SavedMethod, say: Say) -> str:
    """In the person's language, where the provider's title says no more than the digits or the way.

    Any other title is a text of outside, which the catalogue escapes.
    """
    if method.way == "card" and (digits := last_digits(method.title)):
        return plain(say("saved-card", digits=digits))
    return other_title(method.title) or plain(say("saved-method", way=method.way))


def way_rows(
    asked: Sequence[AskedByWay], data: Callable[[Way], Packed], say: Say
) -> list[list[Button]]:
    """A button for each way, with the price in the currency that it charges."""
    return [
        [
            to(
                say("button-way", way=one.way, asked=Money(one.asked_minor, one.currency)),
                data(one.way),
            )
        ]
        for one in asked
    ]


def from_balance(offer: Offer, command: UUID, say: Say) -> list[Button]:
    """The balance pays the price, or what it has. Without any money in it there is no button."""
    price = offer.price
    missing_minor = price.price_minor - offer.balance_minor
    if offer.balance_minor <= 0:
        return []
    data = Pay(
        plan=offer.plan.plan,
        months=price.months,
        way="balance" if missing_minor <= 0 else "missing",
        command=packed(command),
    )
    if missing_minor <= 0:
        return [to(say("button-from-balance", price=Money(price.price_minor)), data)]
    stars = stars_for(missing_minor, price.price_minor, price.stars)
    asked = asked_by_ways(offer.ways, missing_minor, stars)
    if not asked:
        return []
    return [to(say("button-missing", missing=lacking(asked, missing_minor)), data)]


def lacking(asked: Sequence[AskedByWay], missing_minor: int) -> Money:
    """In the currency of the only way to pay; in rubles where there is a choice."""
    if len(asked) == 1:
        return Money(asked[0].asked_minor, asked[0].currency)
    return Money(missing_minor)


def outlook_text(plan: str, outlook: Outlook | None, say: Say) -> str:
    """The effect of the purchase on the present access. Without an outlook, the rule in words."""
    if outlook is None:
        return say("outlook-rule")
    ends = outlook.ends_at
    match outlook.effect:
        case "begins":
            return say("outlook-begins", moment=ends)
        case "extends":
            return say("outlook-extends", moment=ends)
        case "converts":
            present = plain(say("plan", plan=outlook.plan or ""))
            days, hours = divmod(outlook.converted_hours, 24)
            return say(
                "outlook-converts", present=present, plan=plan, days=days, hours=hours, moment=ends
            )
