"""What rides in buttons: typed, at most 64 bytes, and never trusted: what is wanted, not by whom or for how much."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Literal
from uuid import UUID

from aiogram.filters.callback_data import CallbackData
from pydantic import Field

from bot_gateway.people import Language

Place = Literal[
    "menu", "my_access", "access", "key", "qr", "buy", "balance", "friends", "language", "terms", "privacy", "support"
]


class Go(CallbackData, prefix="go"):
    """Show a screen in place of this one.

    `go:access` alone stands under notifier's receipts, which stay: its screen is the one below them.
    """

    to: Place


class PickPlan(CallbackData, prefix="plan"):
    plan: str


class PickPeriod(CallbackData, prefix="period"):
    plan: str
    months: int = Field(ge=1, le=120)


class Pay(CallbackData, prefix="pay"):
    """Place the order. Its id was drawn with the screen that shows the button, so two taps are one order."""

    plan: str
    months: int = Field(ge=1, le=120)
    way: Literal["stars"]
    command: str

    @classmethod
    def drawn(cls, command: UUID, *, plan: str, months: int, way: Literal["stars"]) -> "Pay":
        packed = urlsafe_b64encode(command.bytes).decode().rstrip("=")
        return cls(plan=plan, months=months, way=way, command=packed)

    @property
    def command_id(self) -> UUID:
        """Raises ValueError when it is not one of ours."""
        return UUID(bytes=urlsafe_b64decode(self.command + "=="))


class Speak(CallbackData, prefix="speak"):
    language: Language


class Accept(CallbackData, prefix="accept"):
    """The offer, in the version that was shown."""

    version: int


class Hide(CallbackData, prefix="hide"):
    """Delete the message under which the button stands."""
