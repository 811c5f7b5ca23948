"""What a person with Telegram in the hand can do: speak, press, follow a link, pay, block."""

import asyncio
import re
from dataclasses import asdict
from urllib.parse import parse_qs, urlsplit

from . import shapes
from .backend import Backend
from .checkout import PaymentRefused, Payments
from .markup import formatted
from .records import Invoice, Person
from .rules import START_PAYLOAD, TEXT_UNITS, Json, utf16_units

_MESSAGES_SHOWN = 200
_NAME_CHARACTERS = 64  # Telegram's bound of a first name.
_USERNAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{3,31}")


class Unable(Exception):  # noqa: N818 - what a person cannot do is an answer.
    """Telegram's app would not let a person do this; the message says why."""

    def __init__(self, reason: str, *, code: int = 409) -> None:
        super().__init__(reason)
        self.code = code


class People:
    """Everybody who has an account here, and their acts."""

    def __init__(self, backend: Backend, payments: Payments) -> None:
        self._backend = backend
        self._payments = payments

    def new(self, first_name: str, username: str | None, language_code: str, stars: int) -> Person:
        name = first_name.strip()
        if not 1 <= len(name) <= _NAME_CHARACTERS:
            raise Unable("A first name of 1 to 64 characters is needed.", code=400)
        if username is not None and not _USERNAME.fullmatch(username):
            raise Unable("A username has 4 to 32 letters, digits and underscores.", code=400)
        if stars < 0:
            raise Unable("Stars cannot be fewer than none.", code=400)
        with self._backend.transaction():
            person = self._backend.state.add_person(name, username, language_code, stars)
            self._backend.changed(person.id)
        self._backend.hub.publish({"kind": "people"})
        return person

    def all(self) -> list[Json]:
        return [asdict(person) for person in self._backend.state.people()]

    def find(self, person_id: int) -> Person:
        person = self._backend.state.person(person_id)
        if person is None:
            raise Unable("There is nobody with this id.", code=404)
        return person

    def chat(self, person_id: int) -> Json:
        """What this person sees: messages, passing notices, the menu of commands."""
        person = self.find(person_id)
        state = self._backend.state
        return {
            "person": asdict(person),
            "version": person.version,
            "messages": [{**body, "author": author} for author, body in state.messages(person_id, _MESSAGES_SHOWN)],
            "toasts": state.toasts(person_id),
            "commands": self._backend.commands_for(person),
        }

    async def chat_after(self, person_id: int, version: int, wait_s: float) -> Json:
        """The chat, as soon as it is newer than `version`; after `wait_s` seconds as it is."""
        ends_at_s = asyncio.get_running_loop().time() + wait_s
        while self.find(person_id).version <= version:
            left_s = ends_at_s - asyncio.get_running_loop().time()
            if left_s <= 0 or not await self._backend.chat_changed.wait(left_s):
                break
        return self.chat(person_id)

    def say(self, person_id: int, text: str) -> Json:
        """A message in this person's words; the first one must be /start."""
        person = self._able(person_id)
        text = text.strip()
        if not text or utf16_units(text) > TEXT_UNITS:
            raise Unable("A message has 1 to 4096 characters.", code=400)
        starts = text.split(maxsplit=1)[0] == "/start"
        if not person.started and not starts:
            raise Unable("The bot hears nothing before /start.")
        with self._backend.transaction():
            if starts:
                self._backend.state.set_started(person_id)
            body, _ = self._backend.person_says(person, shapes.text_content(formatted(text, "", None)))
        return body

    def press(self, person_id: int, message_id: int, button: Json) -> Json:
        """Press one of the buttons of a message; answers what the app then opens."""
        person = self._able(person_id)
        if "callback_data" in button:
            return {"callback": self.call_back(person, message_id, str(button["callback_data"]))}
        if "pay" in button:
            invoice = self._backend.state.invoice_of_message(message_id)
            return _opened_invoice(invoice) if invoice else {"opens": "nothing"}
        if "copy_text" in button:
            return {"opens": "copy", "text": button["copy_text"]["text"]}
        if "web_app" in button:
            return {"opens": "link", "url": button["web_app"]["url"]}
        return self.open(person_id, str(button["url"])) if "url" in button else {"opens": "nothing"}

    def button(self, person_id: int, message_id: int, row: int, column: int) -> Json:
        """The button at this place of a message, counted from 0."""
        known = self._backend.state.message(person_id, message_id)
        rows = known[2].get("reply_markup", {}).get("inline_keyboard", []) if known else []
        if not (0 <= row < len(rows) and 0 <= column < len(rows[row])):
            raise Unable("This message has no such button.", code=404)
        button: Json = rows[row][column]
        return button

    def call_back(self, person: Person, message_id: int, data: str) -> str:
        """A callback query; the data may be an old button's or a forged one, as Telegram's servers let through."""
        backend = self._backend
        known = backend.state.message(person.id, message_id)
        message = known[2] if known else {"chat": shapes.chat(person), "message_id": message_id, "date": 0}
        with backend.transaction():
            query_id = backend.state.add_callback(person.id, backend.now())
            query = {
                "id": query_id,
                "from": shapes.user(person),
                "message": message,
                "chat_instance": str(person.id * 7919),
                "data": data,
            }
            backend.tell_bot("callback_query", person.id, query)
        return query_id

    def open(self, person_id: int, url: str) -> Json:
        """Follow a link: an invoice, a start of this bot, or something outside the chat."""
        person = self.find(person_id)
        slug = _invoice_slug(url)
        if slug is not None:
            invoice = self._backend.state.invoice(slug)
            if invoice is None:
                raise Unable("This invoice does not exist.", code=404)
            return _opened_invoice(invoice)
        payload = _start_payload(url, self._backend.me["username"])
        if payload is None:
            return {"opens": "link", "url": url}
        if payload and not START_PAYLOAD.fullmatch(payload):
            raise Unable("A start parameter has 1 to 64 characters of A-Z, a-z, 0-9, _ and -.", code=400)
        if person.blocked:
            self.block(person_id, blocked=False)  # The app's "Restart" does the same.
        return {"opens": "chat", "message": self.say(person_id, f"/start {payload}".strip())}

    async def pay(self, person_id: int, slug: str) -> Json:
        """Confirm the pay sheet; answers when the bot has, or after the ten seconds it has."""
        person = self._able(person_id)
        try:
            payment = await self._payments.pay(person, slug)
        except PaymentRefused as refusal:
            return {"paid": False, "charge": None, "error": str(refusal)}
        return {"paid": payment.charge is not None, **asdict(payment)}

    def block(self, person_id: int, *, blocked: bool) -> None:
        """Block the bot or let it in again; the bot is told either way."""
        person = self.find(person_id)
        if person.blocked == blocked:
            return
        with self._backend.transaction():
            update = shapes.membership(person, self._backend.sender, self._backend.now())
            self._backend.tell_bot("my_chat_member", person_id, update)
            self._backend.state.set_blocked(person_id, blocked=blocked)
            self._backend.changed(person_id)
        self._backend.hub.publish({"kind": "people"})

    def _able(self, person_id: int) -> Person:
        person = self.find(person_id)
        if person.blocked:
            raise Unable("This person has blocked the bot.")
        return person


def _opened_invoice(invoice: Invoice) -> Json:
    return {"opens": "invoice", "invoice": {"slug": invoice.slug, **asdict(invoice.draft)}}


def _invoice_slug(url: str) -> str | None:
    match = re.fullmatch(r"https?://t\.me/(?:\$|invoice/)([\w-]+)", url)
    return match.group(1) if match else None


def _start_payload(url: str, bot_username: str) -> str | None:
    """What a link to this bot carries, "" for a plain one; None for any other link."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    name = query.get("domain", [""])[0] if parts.scheme == "tg" else parts.path.strip("/")
    ours = parts.scheme == "tg" or parts.hostname == "t.me"
    if not ours or name.lower() != bot_username.lower():
        return None
    return query.get("start", [""])[0]
