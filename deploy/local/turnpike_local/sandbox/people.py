"""The acts of a person in Telegram: send, press, follow a link, pay, block."""

import asyncio
import re
from dataclasses import asdict
from urllib.parse import parse_qs, urlsplit

from . import shapes
from .backend import Backend
from .checkout import PaymentRefused, Payments, invoice_slug
from .markup import formatted
from .records import Invoice, Person
from .rules import START_PAYLOAD, TEXT_UNITS, Json, utf16_units

_MESSAGES_SHOWN = 200
STARS_MOST = 1_000_000_000
_NAME_CHARACTERS = 64  # Telegram's limit of a first name.
_USERNAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{3,31}")


class Unable(Exception):  # noqa: N818 - an answer to the person, not an error.
    """Telegram's app does not allow this act. The message is the reason."""

    def __init__(self, reason: str, *, code: int = 409) -> None:
        super().__init__(reason)
        self.code = code


class People:
    """All people with an account, and their acts."""

    def __init__(self, backend: Backend, payments: Payments) -> None:
        self._backend = backend
        self._payments = payments

    def new(self, first_name: str, username: str | None, language_code: str, stars: int) -> Person:
        name = first_name.strip()
        if not 1 <= len(name) <= _NAME_CHARACTERS:
            raise Unable("A first name of 1 to 64 characters is needed.", code=400)
        if username is not None and not _USERNAME.fullmatch(username):
            raise Unable("A username has 4 to 32 characters of A-Z, a-z, 0-9 and _.", code=400)
        if not 0 <= stars <= STARS_MOST:
            raise Unable(f"A person has 0 to {STARS_MOST:,} test Stars.", code=400)
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
            raise Unable("There is no person with this id.", code=404)
        return person

    def chat(self, person_id: int) -> Json:
        """The chat on the screen: messages, toasts, the menu of commands."""
        person = self.find(person_id)
        state = self._backend.state
        return {
            "person": asdict(person),
            "version": person.version,
            "messages": [
                {**body, "author": author}
                for author, body in state.messages(person_id, _MESSAGES_SHOWN)
            ],
            "toasts": state.toasts(person_id),
            "commands": self._backend.commands_for(person),
        }

    async def chat_after(self, person_id: int, version: int, wait_s: float) -> Json:
        """The chat, once it is newer than `version`, or after `wait_s` seconds."""
        ends_at_s = asyncio.get_running_loop().time() + wait_s
        while self.find(person_id).version <= version:
            left_s = ends_at_s - asyncio.get_running_loop().time()
            if left_s <= 0 or not await self._backend.chat_changed.wait(left_s):
                break
        return self.chat(person_id)

    def say(self, person_id: int, text: str) -> Json:
        """Send a message. The first one must be /start."""
        person = self._able(person_id)
        text = text.strip()
        if not text or utf16_units(text) > TEXT_UNITS:
            raise Unable("A message has 1 to 4096 characters.", code=400)
        starts = text.split(maxsplit=1)[0] == "/start"
        if not person.started and not starts:
            raise Unable("The bot receives nothing before /start.")
        with self._backend.transaction():
            if starts:
                self._backend.state.set_started(person_id)
            body, _ = self._backend.person_says(
                person, shapes.text_content(formatted(text, "", None))
            )
        return body

    def press(self, person_id: int, message_id: int, button: Json) -> Json:
        """Press a button of a message. Returns the thing that the app then opens."""
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
        """The button in this row and column, counted from 0."""
        known = self._backend.state.message(person_id, message_id)
        rows = known[2].get("reply_markup", {}).get("inline_keyboard", []) if known else []
        if not (0 <= row < len(rows) and 0 <= column < len(rows[row])):
            raise Unable("This message has no such button.", code=404)
        button: Json = rows[row][column]
        return button

    def call_back(self, person: Person, message_id: int, data: str) -> str:
        """Send a callback query. Like Telegram's servers, it accepts old and forged data."""
        backend = self._backend
        known = backend.state.message(person.id, message_id)
        message = (
            known[2]
            if known
            else {"chat": shapes.chat(person), "message_id": message_id, "date": 0}
        )
        with backend.transaction():
            query_id = backend.state.add_callback(person.id, backend.now())
            query = {
                "id": query_id,
                "from": shapes.user(person),
                "message": message,
                "chat_instance": str(person.id * 7919),
                "data": data,
            }
            backend.queue_update("callback_query", person.id, query)
        return query_id

    def open(self, person_id: int, url: str) -> Json:
        """Follow a link to an invoice, to this bot, or to another address."""
        person = self.find(person_id)
        slug = invoice_slug(url)
        if slug is not None:
            invoice = self._backend.state.invoice(slug)
            if invoice is None:
                raise Unable("This invoice does not exist.", code=404)
            return _opened_invoice(invoice)
        payload = _start_payload(url, self._backend.me["username"])
        if payload is None:
            return {"opens": "link", "url": url}
        if payload and not START_PAYLOAD.fullmatch(payload):
            raise Unable(
                "A start parameter has 1 to 64 characters of A-Z, a-z, 0-9, _ and -.", code=400
            )
        if person.blocked:
            self.block(person_id, blocked=False)  # "Restart" in the app does the same.
        return {"opens": "chat", "message": self.say(person_id, f"/start {payload}".strip())}

    async def pay(self, person_id: int, slug: str) -> Json:
        """Confirm the pay sheet. Returns after the bot's answer, or after its ten seconds."""
        person = self._able(person_id)
        try:
            payment = await self._payments.pay(person, slug)
        except PaymentRefused as refusal:
            return {"paid": False, "charge": None, "error": str(refusal)}
        return {"paid": payment.charge is not None, **asdict(payment)}

    def block(self, person_id: int, *, blocked: bool) -> None:
        """Block or unblock the bot. The bot gets an update in both cases."""
        person = self.find(person_id)
        if person.blocked == blocked:
            return
        with self._backend.transaction():
            update = shapes.membership(person, self._backend.sender, self._backend.now())
            self._backend.queue_update("my_chat_member", person_id, update)
            self._backend.state.set_blocked(person_id, blocked=blocked)
            self._backend.changed(person_id)
        self._backend.hub.publish({"kind": "people"})

    def check_has_key(self, person_id: int, key: str) -> None:
        """A key that the bot did not send to this person is not tried."""
        person = self.find(person_id)
        messages = self._backend.state.messages(person.id, _MESSAGES_SHOWN)
        texts = (body.get("text") or body.get("caption") or "" for _, body in messages)
        if not key.startswith("vless://") or not any(key in text for text in texts):
            raise Unable("There is no such key in this chat.", code=404)

    def add_stars(self, person_id: int, amount: int) -> int:
        """Add test Stars to the person's balance, which has a limit. Returns the new balance."""
        person = self.find(person_id)
        if amount < 1:
            raise Unable("At least one Star is added.", code=400)
        if person.stars + amount > STARS_MOST:
            raise Unable(f"A person has at most {STARS_MOST:,} test Stars.")
        with self._backend.transaction():
            self._backend.state.add_stars(person_id, amount)
            self._backend.changed(person_id)
        return person.stars + amount

    def deactivate(self, person_id: int) -> None:
        """Delete the account. The bot gets no update, and nobody can act in it again."""
        self.find(person_id)
        with self._backend.transaction():
            self._backend.state.set_deactivated(person_id)
            self._backend.changed(person_id)
        self._backend.hub.publish({"kind": "people"})

    def _able(self, person_id: int) -> Person:
        person = self.find(person_id)
        if person.deactivated:
            raise Unable("This account was deleted.")
        if person.blocked:
            raise Unable("This person has blocked the bot.")
        return person


def _opened_invoice(invoice: Invoice) -> Json:
    return {"opens": "invoice", "invoice": {"slug": invoice.slug, **asdict(invoice.draft)}}


def _start_payload(url: str, bot_username: str) -> str | None:
    """The start parameter of a link to this bot, or "". None for any other link."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    name = query.get("domain", [""])[0] if parts.scheme == "tg" else parts.path.strip("/")
    ours = parts.scheme == "tg" or parts.hostname == "t.me"
    if not ours or name.lower() != bot_username.lower():
        return None
    return query.get("start", [""])[0]
