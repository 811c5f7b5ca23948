"""What a person sees: pure functions from values to a text and its buttons."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any, Protocol
from urllib.parse import urlencode
from uuid import UUID

from bot_gateway.buttons import Accept, Go, Hide, Pay, PickPeriod, PickPlan, Place, Speak
from bot_gateway.people import OFFER_VERSION
from shared.commands import Invoice
from shared.money import Money
from shared.questions import Access, Balance, Invitations, Key, Outlook, Plan, Plans, Price, Receipts


class Say(Protocol):
    """The catalogue in the person's language; what a person typed is escaped by it."""

    def __call__(self, key: str, /, **arguments: Any) -> str: ...


@dataclass(frozen=True)
class Button:
    """Exactly one of a callback and an address."""

    text: str
    data: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Screen:
    text: str
    rows: tuple[tuple[Button, ...], ...]


def screen(text: str, *rows: Sequence[Button]) -> Screen:
    return Screen(text, tuple(tuple(row) for row in rows if row))


class Packed(Protocol):
    """What rides in a button."""

    def pack(self) -> str: ...


def to(text: str, data: Packed) -> Button:
    return Button(plain(text), data=data.pack())


def plain(text: str) -> str:
    """For buttons and the pay sheet, where Telegram reads no markup: what the catalogue escaped is itself again."""
    return unescape(text)


def welcome(say: Say) -> Screen:
    """Before anything else: the language, and the offer."""
    return screen(
        say("welcome"),
        languages(say),
        [to(say("button-terms"), Go(to="terms")), to(say("button-privacy"), Go(to="privacy"))],
        accepting(say),
    )


def accepting(say: Say) -> list[Button]:
    return [to(say("button-accept"), Accept(version=OFFER_VERSION))]


def hello(say: Say) -> Screen:
    """For somebody whom we do not know (any more)."""
    return screen(say("hello"))


def languages(say: Say) -> list[Button]:
    return [to(say("button-russian"), Speak(language="ru")), to(say("button-english"), Speak(language="en"))]


def menu(say: Say) -> Screen:
    return screen(
        say("menu"),
        [to(say("button-access"), Go(to="my_access")), to(say("button-buy"), Go(to="buy"))],
        [to(say("button-balance"), Go(to="balance")), to(say("button-friends"), Go(to="friends"))],
        [to(say("button-support"), Go(to="support")), to(say("button-language"), Go(to="language"))],
    )


def back(say: Say, place: Place = "menu") -> list[Button]:
    return [to(say("button-back"), Go(to=place))]


def language(say: Say) -> Screen:
    return screen(say("language"), languages(say), back(say))


def terms(say: Say, *, accepted: bool) -> Screen:
    """Whoever has not accepted them yet may do so here, or go back to where he came from."""
    onward = [] if accepted else accepting(say)
    return screen(say("terms"), onward, [to(say("button-privacy"), Go(to="privacy")), *back(say)])


def privacy(say: Say) -> Screen:
    return screen(say("privacy"), [to(say("button-terms"), Go(to="terms")), *back(say)])


def support(contact: str | None, paid: Receipts | None, say: Say) -> Screen:
    """Whom to write to, if the operator named somebody, and what to name; `paid` is None where nobody can say."""
    parts = [say("support-contact", contact=contact) if contact else say("support-nobody")]
    if paid is None:
        parts.append(say("support-payments-unknown"))
    elif paid.lines:
        lines = [
            say(
                "support-payment",
                day=day_of(line.paid_at),
                amount=Money(line.amount_minor, line.currency),
                charge=line.charge,
            )
            for line in paid.lines
        ]
        parts.append("\n".join([say("support-payments"), *lines]))
    else:
        parts.append(say("support-no-payments"))
    write = [Button(plain(say("button-write")), url=address_of(contact))] if contact else []
    return screen("\n\n".join(parts), write, back(say))


def address_of(contact: str) -> str:
    return f"https://t.me/{contact[1:]}" if contact.startswith("@") else contact


# Buying: plan, period, way, invoice


def plans(offered: Plans, say: Say) -> Screen:
    rows = [[to(plan_line(plan, say), PickPlan(plan=plan.plan))] for plan in offered.plans if plan.prices]
    return screen(say("buy-plan"), *rows, back(say))


def plan_line(plan: Plan, say: Say) -> str:
    cheapest_minor = min(price.price_minor for price in plan.prices)
    return say("button-plan", plan=plan.plan, devices=plan.devices, price=Money(cheapest_minor))


def periods(plan: Plan, say: Say) -> Screen:
    rows = [
        [to(say("button-period", months=price.months, price=Money(price.price_minor)), pick_period(plan, price))]
        for price in plan.prices
    ]
    return screen(say("buy-period", plan=plan.plan, devices=plan.devices), *rows, back(say, "buy"))


def pick_period(plan: Plan, price: Price) -> PickPeriod:
    return PickPeriod(plan=plan.plan, months=price.months)


def ways(plan: Plan, price: Price, outlook: Outlook | None, command: UUID, say: Say) -> Screen:
    """`command` becomes the order's id: whoever draws this screen offers one order, however often it is tapped."""
    stars = Pay.drawn(command, plan=plan.plan, months=price.months, way="stars")
    wanted = say("buy-order", plan=plan.plan, months=price.months, price=Money(price.price_minor))
    return screen(
        "\n\n".join([wanted, becoming(plan.plan, outlook, say), say("buy-way")]),
        [to(say("button-way-stars", stars=Money(price.stars, "XTR")), stars)],
        [to(say("button-back"), PickPlan(plan=plan.plan))],
    )


def becoming(plan: str, outlook: Outlook | None, say: Say) -> str:
    """What the purchase makes of the present access; the rule in words where nobody could say."""
    if outlook is None:
        return say("outlook-rule")
    ends = moment(outlook.ends_at)
    match outlook.effect:
        case "begins":
            return say("outlook-begins", **ends)
        case "extends":
            return say("outlook-extends", **ends)
        case "converts":
            present = plain(say("plan", plan=outlook.plan or ""))
            days, hours = divmod(outlook.converted_hours, 24)
            return say("outlook-converts", present=present, plan=plan, days=days, hours=hours, **ends)


def invoice(placed: Invoice, outlook: Outlook | None, link: str, say: Say) -> Screen:
    wanted = say("buy-order", plan=placed.plan, months=placed.months, price=Money(placed.price_minor))
    ready = say("buy-invoice", until=time_of(placed.expires_at))
    text = "\n\n".join([wanted, becoming(placed.plan, outlook, say), ready])
    pay = Button(plain(say("button-pay", asked=Money(placed.asked_minor, placed.currency))), url=link)
    return screen(text, [pay], [to(say("button-back"), Go(to="buy"))])


def paid(amount_minor: int, currency: str, say: Say) -> Screen:
    """Where the invoice was. Nothing is promised here: what was bought comes in a message of its own."""
    return screen(
        say("buy-paid", asked=Money(amount_minor, currency)),
        [to(say("button-access"), Go(to="my_access")), to(say("button-menu"), Go(to="menu"))],
    )


@dataclass(frozen=True)
class InvoiceTexts:
    """What Telegram's pay sheet shows: at most 32 and 255 characters, no markup."""

    title: str
    description: str
    label: str


def invoice_texts(placed: Invoice, say: Say) -> InvoiceTexts:
    values = {"plan": placed.plan, "months": placed.months}
    title, description = plain(say("invoice-title", **values)), plain(say("invoice-description", **values))
    return InvoiceTexts(title[:32], description[:255], title)


# What one has


def access(held: Access, now: datetime, say: Say) -> Screen:
    match held.state:
        case "none":
            return screen(say("access-none"), [to(say("button-buy"), Go(to="buy"))], back(say))
        case "issuing":
            return screen(say("access-issuing"), [to(say("button-look-again"), Go(to="my_access"))], back(say))
        case "ended":
            return screen(
                say("access-ended", **moment(held.ends_at or now)), [to(say("button-buy"), Go(to="buy"))], back(say)
            )
        case "up":
            return access_up(held, now, say)


def access_up(held: Access, now: datetime, say: Say) -> Screen:
    ends_at = held.ends_at or now
    text = say(
        "access-up",
        plan=held.plan or "",
        devices=held.devices or 0,
        days=max(0, -((now - ends_at) // timedelta(days=1))),
        **moment(ends_at),
    )
    return screen(
        text,
        [to(say("button-key"), Go(to="key")), to(say("button-qr"), Go(to="qr"))],
        [to(say("button-renew"), Go(to="buy"))],
        back(say),
    )


def key(held: Key, say: Say) -> Screen:
    return screen(
        say("key", link=held.link, **moment(held.ends_at)),
        [to(say("button-qr"), Go(to="qr"))],
        back(say, "my_access"),
    )


def qr_caption(held: Key, say: Say) -> Screen:
    return screen(say("key-qr", **moment(held.ends_at)), [to(say("button-hide"), Hide())])


def balance(held: Balance, say: Say) -> Screen:
    standing = say(
        "balance",
        total=Money(held.wallet_minor + held.earned_minor),
        wallet=Money(held.wallet_minor),
        earned=Money(held.earned_minor),
        withdrawable=Money(held.withdrawable_minor),
    )
    if held.owed_minor:
        standing += "\n" + say("balance-owed", owed=Money(held.owed_minor))
    lines = [
        say("balance-line", day=day_of(line.at), amount=Money(line.amount_minor, signed=True), reason=line.reason)
        for line in held.lines
    ]
    lately = "\n".join([say("balance-lines"), *lines]) if lines else ""
    return screen(f"{standing}\n\n{lately}".rstrip(), back(say))


def friends(standing: Invitations, link: str, say: Say) -> Screen:
    parts = [
        say("friends", link=link, percent=standing.percent),
        say(
            "friends-so-far",
            invited=standing.invited,
            paying=standing.paying,
            earned=Money(standing.earned_minor),
        ),
    ]
    if standing.next_level_at is not None and standing.next_percent is not None:
        missing = max(0, standing.next_level_at - standing.paying)
        parts.append(say("friends-next-level", missing=missing, percent=standing.next_percent))
    share = "https://t.me/share/url?" + urlencode({"url": link, "text": say("friends-share-text")})
    return screen("\n\n".join(parts), [Button(say("button-share"), url=share)], back(say))


def trouble(again: str | None, say: Say) -> Screen:
    """Somebody behind us does not answer. `again` is the very button that was tapped, so it is the same act."""
    retry = [Button(say("button-again"), data=again)] if again else []
    return screen(say("trouble"), retry, back(say))


# How values are written


def moment(at: datetime) -> dict[str, Any]:
    """The parts of a moment for `{ moment }` in the catalogue; the year is no number to be grouped."""
    utc = at.astimezone(UTC)
    return {"day": utc.day, "month": utc.month, "year": str(utc.year), "time": f"{utc:%H:%M}"}


def day_of(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d.%m.%Y}"


def time_of(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M} UTC"
