"""The objects of the Bot API, built from the state (core.telegram.org/bots/api#available-types)."""

from typing import Literal

from .markup import Formatted
from .records import Checkout, Invoice, Person, Photo, StarTransaction
from .rules import STARS, Json


def user(person: Person) -> Json:
    return {
        "id": person.id,
        "is_bot": False,
        "first_name": person.first_name,
        **({"username": person.username} if person.username else {}),
        "language_code": person.language_code,
    }


def chat(person: Person) -> Json:
    return {
        "id": person.id,
        "type": "private",
        "first_name": person.first_name,
        **({"username": person.username} if person.username else {}),
    }


def full_chat(person: Person) -> Json:
    """The chat with the other fields that getChat always has."""
    gifts = (
        "unlimited_gifts",
        "limited_gifts",
        "unique_gifts",
        "premium_subscription",
        "gifts_from_channels",
    )
    return {
        **chat(person),
        "accent_color_id": 0,
        "max_reaction_count": 11,
        "accepted_gift_types": dict.fromkeys(gifts, False),
    }


def message(sender: Json, person: Person, date: float, content: Json) -> Json:
    """A message without its id, which the chat assigns."""
    return {"from": sender, "chat": chat(person), "date": int(date), **content}


def text_content(text: Formatted) -> Json:
    return {"text": text.text, **({"entities": text.entities} if text.entities else {})}


def photo_content(photo: Photo, caption: Formatted) -> Json:
    size = {
        "file_id": photo.file_id,
        "file_unique_id": unique_id(photo.file_id),
        "width": photo.width,
        "height": photo.height,
        "file_size": len(photo.content),
    }
    kept: Json = {"photo": [size]}
    if caption.text:
        kept["caption"] = caption.text
    if caption.entities:
        kept["caption_entities"] = caption.entities
    return kept


def unique_id(file_id: str) -> str:
    return file_id[-16:]


def file(photo: Photo) -> Json:
    return {
        "file_id": photo.file_id,
        "file_unique_id": unique_id(photo.file_id),
        "file_size": len(photo.content),
        "file_path": f"photos/{photo.file_id}",
    }


def invoice_content(invoice: Invoice, start_parameter: str) -> Json:
    draft = invoice.draft
    return {
        "invoice": {
            "title": draft.title,
            "description": draft.description,
            "start_parameter": start_parameter,
            "currency": draft.currency,
            "total_amount": draft.total_amount,
        }
    }


def pre_checkout_query(checkout_id: str, person: Person, invoice: Invoice) -> Json:
    return {
        "id": checkout_id,
        "from": user(person),
        "currency": invoice.draft.currency,
        "total_amount": invoice.draft.total_amount,
        "invoice_payload": invoice.draft.payload,
    }


def payment_content(
    kind: Literal["successful_payment", "refunded_payment"],
    invoice: Invoice,
    checkout: Checkout,
    charge: str,
    reference: str | None = None,
) -> Json:
    """`reference` is the acquirer's id of the payment. Stars have none of an acquirer."""
    return {
        kind: {
            "currency": invoice.draft.currency,
            "total_amount": invoice.draft.total_amount,
            "invoice_payload": invoice.draft.payload,
            "telegram_payment_charge_id": charge,
            "provider_payment_charge_id": reference or f"{checkout.person_id}_{checkout.id}",
        }
    }


def star_transaction(moved: StarTransaction, person: Person) -> Json:
    """A payment has a source, a refund has a receiver. The amount has no sign."""
    partner = {
        "type": "user",
        "transaction_type": "invoice_payment",
        "user": user(person),
        "invoice_payload": moved.payload,
    }
    return {
        "id": moved.charge,
        "amount": moved.amount,
        "date": int(moved.made_at),
        "source" if moved.direction == "in" else "receiver": partner,
    }


def membership(person: Person, me: Json, date: float) -> Json:
    """The update about a block or unblock. `person` is the record before the change."""
    member, kicked = (
        {"user": me, "status": "member"},
        {"user": me, "status": "kicked", "until_date": 0},
    )
    old, new = (kicked, member) if person.blocked else (member, kicked)
    return {
        "chat": chat(person),
        "from": user(person),
        "date": int(date),
        "old_chat_member": old,
        "new_chat_member": new,
    }


def pay_button(invoice: Invoice) -> Json:
    """The button that Telegram adds to an invoice without buttons."""
    draft = invoice.draft
    price = (
        f"⭐️ {draft.total_amount}"
        if draft.currency == STARS
        else f"{draft.total_amount / 100:.2f} {draft.currency}"
    )
    return {"inline_keyboard": [[{"text": f"Pay {price}", "pay": True}]]}
