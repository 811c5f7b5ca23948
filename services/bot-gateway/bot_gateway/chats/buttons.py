"""Callback data of buttons: typed, at most 64 bytes, and never trusted.

They name a wish; the person and the price come from the database. They stand here and not in
`domain/` because aiogram packs, parses and filters them.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Literal, get_args
from uuid import UUID

from aiogram.filters.callback_data import CallbackData
from pydantic import Field

from bot_gateway.domain.people import Language
from shared.contracts.message import derived_id
from shared.contracts.payments import (
    LEAST_TOPUP_MINOR,
    MAX_MONTHS,
    MAX_PLAN_CHARACTERS,
    MOST_TOPUP_MINOR,
    SavedName,
    Way,
)

PRICE_BYTES = 5
"""Of the 16 bytes of a drawn id. Prices are at most 10^10 kopecks."""

ScreenName = Literal[
    "menu",
    "my_access",
    "access",
    "key",
    "qr",
    "connect",
    "buy",
    "balance",
    "topup",
    "amount",
    "email",
    "no_email",
    "friends",
    "language",
    "terms",
    "privacy",
    "support",
]


class Go(CallbackData, prefix="go"):
    """Show a screen in place of the current one. `access` and `qr` leave their message as it is."""

    to: ScreenName

    @classmethod
    def unpack(cls, value: str) -> "Go":
        """Also of `Below`: the same screens, at another place."""
        below = f"{Below.__prefix__}{cls.__separator__}"
        if value.startswith(below):
            value = cls.__prefix__ + cls.__separator__ + value.removeprefix(below)
        return super().unpack(value)


class Below(CallbackData, prefix="below"):
    """Show a screen below the message of the button, which stays: a message of notifier."""

    to: ScreenName


def leaves_its_message(data: str) -> bool:
    """Whether the message of this button stays, and the screen appears below it."""
    own = (Go(to="access").pack(), Go(to="qr").pack())
    prefixes = tuple(f"{kind.__prefix__}{kind.__separator__}" for kind in (Below, PayRest))
    return data in own or data.startswith(prefixes)


class PickPlan(CallbackData, prefix="plan"):
    plan: str


class PickPeriod(CallbackData, prefix="period"):
    plan: str
    months: int = Field(ge=1, le=MAX_MONTHS)


class Pay(CallbackData, prefix="pay"):
    """Order this. The id was drawn with the screen of the button, so two taps are one order.

    `balance` pays from the balance. `missing` asks for what the balance lacks.
    """

    plan: str = Field(min_length=1, max_length=MAX_PLAN_CHARACTERS)
    months: int = Field(ge=1, le=MAX_MONTHS)
    way: Literal[Way, "balance", "missing"] | SavedName
    command: str

    def command_id(self, person: UUID) -> UUID:
        return order_id(self.command, person)

    @property
    def pays_at_once(self) -> bool:
        """Whether no screen with the price comes between the tap and the payment."""
        return self.way not in (*get_args(Way), "missing")

    @property
    def price_minor(self) -> int:
        """The price on the screen of the button, by `priced`."""
        return int.from_bytes(drawn_in(self.command).bytes[-PRICE_BYTES:])


class PayTopUp(CallbackData, prefix="add"):
    """Order a top-up of so many rubles. Its id was drawn with the screen, as that of `Pay`."""

    rubles: int = Field(ge=LEAST_TOPUP_MINOR // 100, le=MOST_TOPUP_MINOR // 100)
    way: Way | SavedName
    command: str

    def command_id(self, person: UUID) -> UUID:
        return order_id(self.command, person)


def packed(drawn: UUID) -> str:
    """22 characters for an id that is drawn with a screen."""
    return urlsafe_b64encode(drawn.bytes).decode().rstrip("=")


def priced(drawn: UUID, price_minor: int) -> UUID:
    """The drawn id with the price of its screen in place of its end: a button has no room left."""
    return UUID(bytes=drawn.bytes[:-PRICE_BYTES] + price_minor.to_bytes(PRICE_BYTES))


def drawn_in(command: str) -> UUID:
    """Raises ValueError for a text that is no packed id."""
    return UUID(bytes=urlsafe_b64decode(command + "=="))


def order_id(command: str, person: UUID) -> UUID:
    """The id of the order, derived from the person: a forged button uses up nobody else's.

    Raises ValueError for a text that is no packed id.
    """
    return derived_id("order", person, drawn_in(command))


class PayOrder(CallbackData, prefix="order"):
    """Pay for an order that was placed. payments refuses an order of somebody else."""

    order: UUID
    way: Literal[Way, "balance"] | SavedName
    from_balance: bool
    """The balance pays first, and the way asks for what is missing."""
    most_minor: int | None = None
    """What the button of a saved method names: no more is charged."""


class SkipEmail(CallbackData, prefix="skip"):
    """Give no e-mail for receipts, and go on to the invoice that waits for the answer."""

    order: UUID
    way: Way | SavedName
    from_balance: bool


class Remember(CallbackData, prefix="keep"):
    """Ask for the same money anew, with or without consent to save the method that pays."""

    order: UUID
    way: Way
    from_balance: bool
    on: bool


class AskForget(CallbackData, prefix="forget"):
    """Ask whether the shop is to forget a saved method."""

    method: SavedName


class Forget(CallbackData, prefix="forgot"):
    """Forget it. Another person's is not found."""

    method: SavedName


class PayRest(CallbackData, prefix="rest"):
    """Pay what this order still lacks: a button of notifier's message about too little money.

    That message stays, and the screen appears below it.
    """

    order: UUID


class TopUp(CallbackData, prefix="topup"):
    """Show the ways to add so many rubles to the balance."""

    rubles: int = Field(ge=LEAST_TOPUP_MINOR // 100, le=MOST_TOPUP_MINOR // 100)


class History(CallbackData, prefix="history"):
    """Show the movements of the balance before or after this one."""

    page: Literal["before", "after"]
    transfer: UUID


class PickLanguage(CallbackData, prefix="language"):
    language: Language


class Accept(CallbackData, prefix="accept"):
    """Accept the offer in the version that was shown."""

    version: int


class Hide(CallbackData, prefix="hide"):
    """Delete the message of the button."""
