"""A payment at a provider, as its stand-in tells the sandbox, and what a person may do to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Fault = Literal["lost", "500", "notice"]
"""The answer to the next new invoice is lost, or is an error after success; or the next notice of
a payment never comes."""

Act = Literal["return", "charge-back"]
OutsideState = Literal["open", "paid", "ended"]


@dataclass(frozen=True)
class Outside:
    """The whole present state of one payment. `payload` is the shop's, `url` leads to its page."""

    provider: str
    """The name of the provider for people."""
    reference: str
    payload: str
    way: str
    title: str
    amount_minor: int
    currency: str
    url: str
    state: OutsideState
    returned: bool = False
    charged_back: bool = False


Tell = Callable[[Outside], None]


class NotPossibleError(Exception):
    """The provider refuses. The text is its sentence."""


class CardTaker(Protocol):
    """An acquirer that Telegram charges cards with."""

    title: str

    def take_card(self, amount_minor: int, description: str) -> str:
        """Charge a card, in kopecks; the acquirer's id of the payment.

        Raises `NotPossibleError`: nothing was charged.
        """


class ProviderSide(Protocol):
    """The acts of a person at a provider's side."""

    title: str

    def plan(self, fault: Fault) -> None: ...

    def act(self, act: Act, reference: str) -> None:
        """Raises `NotPossibleError`."""
