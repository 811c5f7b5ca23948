"""Screens: pure functions from values to a text and its buttons.

They stand here and not in `domain/` because their buttons carry callback data of aiogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from typing import Any, Protocol
from urllib.parse import urlencode

from bot_gateway.chats.buttons import (
    Accept,
    Go,
    Hide,
    PickLanguage,
    ScreenName,
)
from bot_gateway.domain.people import OFFER_VERSION
from shared.contracts.money import Money
from shared.contracts.payments import Receipts
from shared.contracts.referrals import Invitations
from shared.contracts.vpn import Access, Key
from shared.platform.texts import Day


class Say(Protocol):
    """The catalogue in the language of the person. It escapes its arguments."""

    def __call__(self, key: str, /, **arguments: Any) -> str: ...


@dataclass(frozen=True)
class Button:
    """A button with either callback data or a URL."""

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
    """Callback data of a button."""

    def pack(self) -> str: ...


def to(text: str, data: Packed) -> Button:
    return Button(plain(text), data=data.pack())


def plain(text: str) -> str:
    """Undo the catalogue's escaping: buttons and the pay sheet have no markup."""
    return unescape(text)


def welcome(say: Say) -> Screen:
    """The first screen of a person: the language and the offer."""
    return screen(
        say("welcome"),
        languages(say),
        [to(say("button-terms"), Go(to="terms")), to(say("button-privacy"), Go(to="privacy"))],
        accepting(say),
    )


def accepting(say: Say) -> list[Button]:
    return [to(say("button-accept"), Accept(version=OFFER_VERSION))]


def hello(say: Say) -> Screen:
    """For a person who never pressed /start."""
    return screen(say("hello"))


def languages(say: Say) -> list[Button]:
    return [
        to(say("button-russian"), PickLanguage(language="ru")),
        to(say("button-english"), PickLanguage(language="en")),
    ]


def menu(say: Say) -> Screen:
    return screen(say("menu"), *menu_rows(say))


def menu_rows(say: Say) -> list[list[Button]]:
    return [
        [to(say("button-access"), Go(to="my_access")), to(say("button-buy"), Go(to="buy"))],
        [to(say("button-balance"), Go(to="balance")), to(say("button-friends"), Go(to="friends"))],
        [to(say("button-connect"), Go(to="connect")), to(say("button-support"), Go(to="support"))],
        [to(say("button-language"), Go(to="language"))],
    ]


def not_understood(say: Say) -> Screen:
    """For a text, a picture or an unknown command: the bot answers buttons."""
    return screen(say("not-understood"), *menu_rows(say))


def slowly(say: Say) -> Screen:
    """For a person whose messages came too fast, so that they were left unread."""
    return screen(say("slowly"), menu_button(say))


def menu_button(say: Say) -> list[Button]:
    return [to(say("button-menu"), Go(to="menu"))]


def back(say: Say, target: ScreenName = "menu") -> list[Button]:
    return [to(say("button-back"), Go(to=target))]


def language(say: Say) -> Screen:
    return screen(say("language"), languages(say), back(say))


def terms(say: Say, *, accepted: bool) -> Screen:
    """A person who has not accepted the terms can accept them here, or go back."""
    onward = [] if accepted else accepting(say)
    return screen(say("terms"), onward, [to(say("button-privacy"), Go(to="privacy")), *back(say)])


def privacy(say: Say) -> Screen:
    return screen(say("privacy"), [to(say("button-terms"), Go(to="terms")), *back(say)])


def support(contact: str | None, paid: Receipts | None, say: Say) -> Screen:
    """The contact, if the operator set one, and the ids of the last payments.

    `paid` is None where payments did not answer.
    """
    parts = [say("support-contact", contact=contact) if contact else say("support-nobody")]
    if paid is None:
        parts.append(say("support-payments-unknown"))
    elif paid.lines:
        lines = [
            say(
                "support-payment",
                day=Day(line.paid_at),
                amount=Money(line.amount_minor, line.currency),
                charge=line.charge,
            )
            for line in paid.lines
        ]
        parts.append("\n".join([say("support-payments"), *lines]))
    else:
        parts.append(say("support-no-payments"))
    write = [Button(plain(say("button-write")), url=url_of(contact))] if contact else []
    return screen("\n\n".join(parts), write, back(say))


def url_of(contact: str) -> str:
    return f"https://t.me/{contact[1:]}" if contact.startswith("@") else contact


# Access, friends


def access(held: Access, now: datetime, say: Say) -> Screen:
    match held.state:
        case "none":
            return screen(say("access-none"), [to(say("button-buy"), Go(to="buy"))], back(say))
        case "issuing":
            return screen(
                say("access-issuing"), [to(say("button-look-again"), Go(to="my_access"))], back(say)
            )
        case "ended":
            return screen(
                say("access-ended", moment=held.ends_at or now),
                [to(say("button-buy"), Go(to="buy"))],
                back(say),
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
        moment=ends_at,
    )
    return screen(
        text,
        [to(say("button-key"), Go(to="key")), to(say("button-qr"), Go(to="qr"))],
        [to(say("button-connect"), Go(to="connect")), to(say("button-renew"), Go(to="buy"))],
        back(say),
    )


def key(held: Key, say: Say) -> Screen:
    return screen(
        say("key", link=held.link, moment=held.ends_at),
        [to(say("button-connect"), Go(to="connect")), to(say("button-qr"), Go(to="qr"))],
        back(say, "my_access"),
    )


def connect(say: Say) -> Screen:
    """How a key is used. The apps and their sites are in the catalogue."""
    apps = [
        Button(plain(say("button-app-happ")), url=plain(say("url-app-happ"))),
        Button(plain(say("button-app-hiddify")), url=plain(say("url-app-hiddify"))),
    ]
    keys = [to(say("button-key"), Go(to="key")), to(say("button-qr"), Go(to="qr"))]
    return screen(say("connect"), apps, keys, back(say, "my_access"))


def qr_caption(held: Key, say: Say) -> Screen:
    return screen(say("key-qr", moment=held.ends_at), [to(say("button-hide"), Hide())])


def friends(invited: Invitations, link: str, say: Say) -> Screen:
    parts = [
        say("friends", link=link, percent=invited.percent),
        say(
            "friends-so-far",
            invited=invited.invited,
            paying=invited.paying,
            earned=Money(invited.earned_minor),
        ),
    ]
    if invited.next_level_at is not None and invited.next_percent is not None:
        missing = max(0, invited.next_level_at - invited.paying)
        parts.append(say("friends-next-level", missing=missing, percent=invited.next_percent))
    share = "https://t.me/share/url?" + urlencode({"url": link, "text": say("friends-share-text")})
    return screen("\n\n".join(parts), [Button(say("button-share"), url=share)], back(say))


def trouble(again: str | None, say: Say) -> Screen:
    """Another service does not answer. `again` is the callback data of the tapped button."""
    retry = [Button(say("button-again"), data=again)] if again else []
    return screen(say("trouble"), retry, menu_button(say))
