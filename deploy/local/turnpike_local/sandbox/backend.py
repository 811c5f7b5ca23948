"""Telegram's side of every chat: changes of messages and updates, by bots and by people."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from . import shapes
from .changes import Hub, Signal
from .limits import FloodControl, Limits
from .records import Author, Person
from .rules import BLOCKED, Json, Refused, bad_request
from .state import State

REPORTS = frozenset({"successful_payment", "refunded_payment"})
"""The parts of a message that report money."""


@dataclass
class Backend:
    """The state, and signals for its changes. All writes run inside `transaction()`."""

    state: State
    limits: Limits
    me: Json
    now: Callable[[], float]
    hub: Hub = field(default_factory=Hub)
    chat_changed: Signal = field(default_factory=Signal)
    updates_changed: Signal = field(default_factory=Signal)
    updates_to_lose: int = 0
    reports_to_lose: int = 0
    _changed: set[int] = field(default_factory=set)
    _has_updates: bool = False
    _has_purchases: bool = False

    def __post_init__(self) -> None:
        self.floods = FloodControl(self.limits)

    @property
    def sender(self) -> Json:
        """The bot as the author of a message: getMe without the bot's abilities."""
        return {key: self.me[key] for key in ("id", "is_bot", "first_name", "username")}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit, then wake every waiter. A refusal does neither."""
        try:
            with self.state.transaction():
                yield
                for person_id in self._changed:
                    self.state.touch(person_id)
        except BaseException:
            self._changed.clear()
            self._has_updates = self._has_purchases = False
            raise
        self._announce()

    def _announce(self) -> None:
        changed, self._changed = self._changed, set()
        for person_id in changed:
            self.hub.publish({"kind": "chat", "person": person_id})
        if changed:
            self.chat_changed.set()
        if self._has_updates:
            self._has_updates = False
            self.updates_changed.set()
        if self._has_purchases:
            self._has_purchases = False
            self.hub.publish({"kind": "traces"})

    def changed(self, person_id: int) -> None:
        self._changed.add(person_id)

    def reachable(self, chat_id: str) -> Person:
        """The person of a `chat_id`, if the bot may write to them."""
        if not chat_id:
            raise bad_request("chat_id is empty")
        person = self.state.person(int(chat_id)) if re.fullmatch(r"[0-9]{1,18}", chat_id) else None
        # To a bot, Telegram hides every person who has not started it.
        if person is None or not person.started:
            raise bad_request("chat not found")
        if person.deactivated:
            raise Refused(403, "Forbidden: user is deactivated")
        if person.blocked:
            raise Refused(403, BLOCKED)
        return person

    def bot_says(self, person: Person, content: Json) -> Json:
        body = shapes.message(self.sender, person, self.now(), content)
        return self._keep(person, "bot", body)

    def person_says(self, person: Person, content: Json) -> tuple[Json, int | None]:
        """Store a person's message and its update for the bot. Returns the body and update id."""
        body = self._keep(
            person, "person", shapes.message(shapes.user(person), person, self.now(), content)
        )
        return body, self.queue_update("message", person.id, body)

    def replace(self, person_id: int, body: Json) -> Json:
        self.changed(person_id)
        return self.state.put_message(body)

    def queue_update(self, kind: str, person_id: int, body: Json) -> int | None:
        """Queue an update. Returns its id.

        None when the bot did not ask for its kind, or when a planned fault drops it.
        """
        allowed = self.state.setting("allowed_updates", [])
        if allowed and kind not in allowed:
            return None
        if self.updates_to_lose > 0:
            self.updates_to_lose -= 1
            return None
        if self.reports_to_lose > 0 and not REPORTS.isdisjoint(body):
            self.reports_to_lose -= 1
            return None
        self._has_updates = True
        return self.state.add_update(kind, person_id, body, self.now())

    def clock_moved(self, by_s: int) -> None:
        """An update that waits becomes no older: it is dropped after a day without its bot."""
        with self.transaction():
            self.state.redate_updates(by_s)
        self.hub.publish({"kind": "clock"})

    def updates_are_waiting(self) -> None:
        self._has_updates = True

    def purchase_was_placed(self) -> None:
        """It is in the list of purchases at once, also where no chat shows it yet."""
        self._has_purchases = True

    def commands_for(self, person: Person) -> list[Json]:
        """The menu of this person: the narrowest scope and language with commands."""
        kept = self.state.setting("commands", {})
        for scope, chat_id in (("chat", person.id), ("all_private_chats", ""), ("default", "")):
            for language in (person.language_code, ""):
                commands: list[Json] = kept.get(commands_key(scope, chat_id, language), [])
                if commands:
                    return commands
        return []

    def toast(self, person_id: int, kind: str, text: str, *, alert: bool = False) -> None:
        self.state.add_toast(person_id, kind, text, alert=alert, now=self.now())
        self.changed(person_id)

    def _keep(self, person: Person, author: Author, body: Json) -> Json:
        self.changed(person.id)
        return self.state.add_message(person.id, author, self.now(), body)


def commands_key(scope: str, chat_id: object, language: str) -> str:
    return f"{scope}:{chat_id}:{language}"
