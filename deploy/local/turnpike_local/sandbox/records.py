"""The values in the state: people, invoices, checkouts, updates, Star transactions, photos."""

from dataclasses import dataclass
from typing import Literal

from .rules import InvoiceDraft, Json

Author = Literal["bot", "person"]
CheckoutState = Literal["asked", "paid", "refused", "expired"]
Direction = Literal["in", "out"]


@dataclass(frozen=True)
class Person:
    """A Telegram account. `stars` are test Stars; every change of the chat increases `version`."""

    id: int
    first_name: str
    username: str | None
    language_code: str
    stars: int
    started: bool
    blocked: bool
    version: int
    deactivated: bool


@dataclass(frozen=True)
class Invoice:
    """An invoice behind a link. With a message id it is shown in a chat and can be paid once."""

    slug: str
    message_id: int | None
    draft: InvoiceDraft


@dataclass(frozen=True)
class Checkout:
    """One attempt to pay.

    `report` is the body of the update that reported the payment, `report_id` its first id.
    """

    id: str
    person_id: int
    slug: str
    asked_at: float
    state: CheckoutState
    charge: str | None
    report_id: int | None
    report: Json | None


@dataclass(frozen=True)
class Update:
    update_id: int
    kind: str
    person_id: int
    made_at: float
    body: Json

    def as_json(self) -> Json:
        return {"update_id": self.update_id, self.kind: self.body}


@dataclass(frozen=True)
class StarTransaction:
    charge: str
    direction: Direction
    person_id: int
    amount: int
    payload: str
    made_at: float


@dataclass(frozen=True)
class Photo:
    file_id: str
    width: int
    height: int
    media_type: str
    content: bytes
