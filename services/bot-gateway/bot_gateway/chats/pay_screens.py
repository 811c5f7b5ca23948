"""The screens of paying: an invoice, the ways to pay the rest of an order, and its end."""

from dataclasses import dataclass, replace
from datetime import timedelta

from bot_gateway.chats.buttons import Go, PayOrder, PickPeriod, Remember, SkipEmail
from bot_gateway.chats.buy_screens import how, lacking, outlook_text, saved_rows, way_rows
from bot_gateway.chats.screens import Button, Say, Screen, back, menu_button, plain, screen, to
from shared.contracts.money import Money
from shared.contracts.payments import (
    InvoiceRefusedReason,
    OpenedInvoice,
    Rest,
    SavedName,
    Way,
)
from shared.contracts.vpn import Outlook


def invoice(
    opened: OpenedInvoice,
    outlook: Outlook | None,
    link: str,
    to_pay: timedelta,
    say: Say,
    *,
    from_balance: bool = False,
) -> Screen:
    """`to_pay` is the time that is left to pay it."""
    parts = [wanted(opened, say)]
    if opened.plan and is_whole(opened):
        parts.append(outlook_text(opened.plan, outlook, say))
    if from_balance:
        parts.append(say("rest-from-balance"))
    parts.append(say("buy-invoice", minutes=max(1, to_pay // timedelta(minutes=1))))
    if opened.remembers:
        parts.append(say("remember-consent", way=opened.way))
    asked = Money(opened.asked_minor, opened.currency)
    pay = Button(plain(say("button-pay", asked=asked)), url=link)
    return screen("\n\n".join(parts), [pay], remembering(opened, say), leave(opened, say))


def remembering(opened: OpenedInvoice, say: Say) -> list[Button]:
    """Consent to save the method that pays: off until the person turns it on."""
    if opened.remembers is None:
        return []
    data = Remember(
        order=opened.order,
        way=opened.way,
        from_balance=opened.from_balance,
        on=not opened.remembers,
    )
    text = say("button-remembers", way=opened.way) if opened.remembers else None
    return [to(text or say("button-remember", way=opened.way), data)]


def charging(opened: OpenedInvoice, say: Say) -> Screen:
    """A saved method is charged: there is nothing to press, and a message will say how it ended."""
    asked = Money(opened.asked_minor, opened.currency)
    return screen(
        "\n\n".join([wanted(opened, say), say("charging", way=opened.way, asked=asked)]),
        [to(say("button-access"), Go(to="my_access"))],
        leave(opened, say),
    )


def asking(opened: OpenedInvoice, say: Say, *, from_balance: bool = False) -> Screen:
    """The provider has not answered yet. It usually does so within a second."""
    wish = {"order": opened.order, "way": opened.way, "from_balance": from_balance}
    again = Remember(**wish, on=True) if opened.remembers else PayOrder(**wish)
    return screen(
        "\n\n".join([wanted(opened, say), say("buy-asking")]),
        [to(say("button-look-again"), again)],
        leave(opened, say),
    )


def email(skip: SkipEmail, say: Say, *, again: bool) -> Screen:
    """The next message is the e-mail for the receipt of the tax office."""
    parts = [say("email-not-read")] if again else []
    parts += [say("email-for-receipt")]
    return screen("\n\n".join(parts), [to(say("button-skip-email"), skip)], back(say, "buy"))


def wanted(opened: OpenedInvoice, say: Say) -> str:
    """The order, and the amount that is asked for."""
    if opened.plan is None or opened.months is None:
        return say("topup-order", amount=Money(opened.price_minor))
    asked = Money(opened.asked_minor, opened.currency)
    values = {"plan": opened.plan, "months": opened.months, "price": asked}
    return say("buy-order", **values) if is_whole(opened) else say("buy-rest", **values)


def is_whole(opened: OpenedInvoice) -> bool:
    """Whether the invoice asks for the whole price, and not for a part of it."""
    return opened.worth_minor >= opened.price_minor


def leave(opened: OpenedInvoice, say: Say) -> list[Button]:
    return back(say, "buy" if opened.plan else "topup")


def rest(order: Rest, say: Say, *, from_balance: bool) -> Screen:
    """The ways to pay what an order lacks, and the balance where it holds the whole price."""

    def button(way: Way | SavedName) -> PayOrder:
        return PayOrder(order=order.order, way=way, from_balance=from_balance)

    asked = {one.way: one.asked_minor for one in order.ways}
    most = {one.name: asked.get(one.way) for one in order.saved}

    def charge(name: SavedName) -> PayOrder:
        return button(name).model_copy(update={"most_minor": most[name]})

    parts = [ordered(order, say)]
    if order.missing_minor == 0:
        parts.append(say("rest-is-nothing"))
    elif from_balance and order.balance_minor > 0:
        parts.append(say("rest-from-balance"))
    enough = order.balance_minor >= order.price_minor
    parts += how(order.ways, order.missing_minor, say, enough=enough)
    return screen(
        "\n\n".join(parts),
        *saved_rows(order.saved, order.ways, charge, say),
        *way_rows(order.ways, button, say),
        whole_from_balance(order, say),
        go_back(order, say),
    )


def other_ways(
    order: Rest,
    say: Say,
    *,
    was_canceled: bool = False,
    refused: InvoiceRefusedReason | None = None,
) -> Screen:
    """The ways to pay after a provider refused an invoice, or did not answer.

    `was_canceled`: it had a page, and there the payment was refused, or its time ended. `refused`:
    why a saved method was not charged.
    """
    shown = rest(order, say, from_balance=order.missing_minor < order.price_minor)
    if refused is not None:
        why = say("charge-refused", reason=refused)
    else:
        why = say("way-canceled") if was_canceled else say("way-failed")
    return replace(shown, text=why + "\n\n" + shown.text)


def ordered(order: Rest, say: Say) -> str:
    if order.plan is None or order.months is None:
        return say("topup-order", amount=Money(order.price_minor))
    values = {"plan": order.plan, "months": order.months}
    if 0 < order.missing_minor < order.price_minor:
        return say("buy-rest", price=lacking(order.ways, order.missing_minor), **values)
    return say("buy-order", price=lacking(order.ways, order.price_minor), **values)


def whole_from_balance(order: Rest, say: Say) -> list[Button]:
    if order.what == "topup" or order.balance_minor < order.price_minor:
        return []
    data = PayOrder(order=order.order, way="balance", from_balance=True)
    return [to(say("button-from-balance", price=Money(order.price_minor)), data)]


def go_back(order: Rest, say: Say) -> list[Button]:
    if order.plan is None or order.months is None:
        return back(say, "topup")
    return [to(say("button-back"), PickPeriod(plan=order.plan, months=order.months))]


def order_over(reason: str | None, say: Say) -> Screen:
    """For an old pay button: the order or its invoice was paid, or can be paid no more."""
    return screen(
        say("order-over", reason=reason),
        [to(say("button-buy"), Go(to="buy")), to(say("button-access"), Go(to="my_access"))],
        [to(say("button-support"), Go(to="support")), *menu_button(say)],
    )


@dataclass(frozen=True)
class InvoiceTexts:
    """Texts of Telegram's pay sheet: at most 32 and 255 characters, no markup."""

    title: str
    description: str
    label: str


def invoice_texts(opened: OpenedInvoice, say: Say) -> InvoiceTexts:
    if opened.plan is None or opened.months is None:
        amount = Money(opened.price_minor)
        title, description = say("topup-title", amount=amount), say("topup-description")
    else:
        values = {"plan": opened.plan, "months": opened.months}
        title, description = (
            say("invoice-title", **values),
            say("invoice-description", **values),
        )
    title, description = plain(title), plain(description)
    return InvoiceTexts(title[:32], description[:255], title)
