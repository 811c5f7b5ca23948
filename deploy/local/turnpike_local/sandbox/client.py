"""A person in the sandbox, for tests and demos: speak, press, pay, and wait for what the chat shows."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

Json = dict[str, Any]

_POLL_MOST_S = 20.0
_REQUEST_S = 60.0


class SandboxError(Exception):
    """The sandbox says no, in its own sentence."""


@dataclass(frozen=True)
class Button:
    """A button of a message; `row` and `column` count from 0."""

    message_id: int
    row: int
    column: int
    text: str
    action: Json

    @property
    def data(self) -> str | None:
        return self.action.get("callback_data")

    @property
    def url(self) -> str | None:
        return self.action.get("url")


@dataclass(frozen=True)
class Message:
    """One message of a chat; `text` is the text or the caption, `raw` the Bot API's object."""

    id: int
    author: Literal["bot", "person"]
    text: str
    buttons: list[Button]
    raw: Json

    @property
    def code(self) -> list[str]:
        """What stands in `<code>` or `<pre>`, in order."""
        entities = self.raw.get("entities") or self.raw.get("caption_entities") or []
        units = self.text.encode("utf-16-le")
        spans = [
            (entity["offset"] * 2, entity["length"] * 2) for entity in entities if entity["type"] in ("code", "pre")
        ]
        return [units[begin : begin + length].decode("utf-16-le") for begin, length in spans]

    @property
    def photo(self) -> str | None:
        """The file id of its photo."""
        sizes = self.raw.get("photo") or []
        return sizes[-1]["file_id"] if sizes else None

    def button(self, text: str) -> Button | None:
        """The first button whose words contain `text`."""
        return next((button for button in self.buttons if text.lower() in button.text.lower()), None)


@dataclass(frozen=True)
class Chat:
    """A chat as its person sees it, oldest message first."""

    stars: int
    version: int
    messages: list[Message]
    toasts: list[Json]

    @property
    def from_bot(self) -> list[Message]:
        return [message for message in self.messages if message.author == "bot"]

    @property
    def last(self) -> Message | None:
        return self.messages[-1] if self.messages else None

    def says(self, text: str) -> Message | None:
        """The newest message of the bot that contains `text`."""
        return next((message for message in reversed(self.from_bot) if text in message.text), None)

    def button(self, text: str) -> Button | None:
        """The button whose words contain `text`, in the newest message that has one."""
        return next((found for m in reversed(self.messages) if (found := m.button(text)) is not None), None)

    def invoice_buttons(self) -> list[Button]:
        """Buttons that open a pay sheet, newest first."""
        buttons = [button for message in reversed(self.messages) for button in message.buttons]
        return [
            b
            for b in buttons
            if "pay" in b.action or (b.url or "").startswith(("https://t.me/$", "https://t.me/invoice/"))
        ]


@dataclass(frozen=True)
class Payment:
    """What came of paying: a charge, or the sentence that the person saw."""

    charge: str | None
    error: str | None

    @property
    def paid(self) -> bool:
        return self.charge is not None


class SandboxClient:
    """The control API; use it as an async context manager."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "SandboxClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, **query: str | int | float) -> Json:
        return await self._ask("GET", path, params=query)

    async def post(self, path: str, body: Json) -> Json:
        return await self._ask("POST", path, json=body)

    async def health(self) -> Json:
        return await self.get("/sandbox/health")

    async def new_person(
        self, first_name: str, *, language: str = "en", username: str | None = None, stars: int = 10_000
    ) -> "PersonClient":
        body = {"first_name": first_name, "language_code": language, "stars": stars}
        made = await self.post("/sandbox/people", {**body, **({"username": username} if username else {})})
        return PersonClient(self, made["id"], first_name)

    async def people(self) -> "list[PersonClient]":
        known = (await self.get("/sandbox/people"))["people"]
        return [PersonClient(self, person["id"], person["first_name"]) for person in known]

    async def payments(self) -> list[Json]:
        """Charges in the order of their payments, each with what its invoice asked for."""
        payments: list[Json] = (await self.get("/sandbox/payments"))["payments"]
        return payments

    async def repeat(self, charge: str, *, same_update: bool) -> None:
        """Report a payment again: the very update, or another update about the same charge."""
        await self.post(f"/sandbox/payments/{charge}/repeat", {"as": "same" if same_update else "new"})

    async def stumble(
        self, answer: Literal["429", "500", "lost"], *, calls: int = 1, method: str = "", retry_after_s: int = 1
    ) -> None:
        """The next `calls` calls (of one method, if named) go wrong in this way."""
        body = {"answer": answer, "calls": calls, "method": method, "retry_after_s": retry_after_s}
        await self.post("/sandbox/stumble", body)

    async def go_down(self, for_s: int) -> None:
        """Telegram is away: connections are cut, nothing is posted."""
        await self.post("/sandbox/stumble", {"down_s": for_s})

    async def lose_updates(self, count: int) -> None:
        """The next `count` updates never reach the bot."""
        await self.post("/sandbox/stumble", {"lose_updates": count})

    async def drop_updates(self) -> int:
        """Everything that waits for the bot is gone; answers how many updates that were."""
        return int((await self.post("/sandbox/updates/drop", {}))["dropped"])

    async def recover(self) -> None:
        """No fault is planned any more."""
        await self.post("/sandbox/stumble", {"clear": True})

    async def newest_story(self) -> str | None:
        """The id of the newest trace that belongs to a payment or an order."""
        story: str | None = (await self.get("/sandbox/traces"))["newest_story"]
        return story

    async def spans(self, trace_id: str) -> list[Json]:
        """The spans of a trace and of what is linked to it, by their start."""
        spans: list[Json] = (await self.get("/sandbox/traces", about=trace_id))["spans"]
        return spans

    async def file(self, file_id: str) -> bytes:
        async with self._http().get(f"{self._base_url}/sandbox/files/{file_id}") as answer:
            answer.raise_for_status()
            return await answer.read()

    async def _ask(self, verb: str, path: str, **how: Any) -> Json:
        async with self._http().request(verb, f"{self._base_url}{path}", **how) as answer:
            body: Json = await answer.json()
            if answer.status >= 400:
                raise SandboxError(body["error"])
            return body

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST_S))
        return self._session


class PersonClient:
    """One person; every wait ends with a TimeoutError that shows the chat."""

    def __init__(self, sandbox: SandboxClient, person_id: int, first_name: str) -> None:
        self._sandbox = sandbox
        self.id = person_id
        self.first_name = first_name

    async def chat(self) -> Chat:
        return await self._read(since=-1, wait_s=0)

    async def say(self, text: str) -> None:
        await self._post("say", text=text)

    async def press(self, text: str, *, times: int = 1, timeout_s: float = 10) -> Json:
        """Press the button whose words contain `text` in the newest message that has one; wait until there is one."""
        button = await self.button(text, timeout_s=timeout_s)
        opened: Json = {}
        for _ in range(times):
            opened = await self.press_at(button)
        return opened

    async def press_at(self, button: Button) -> Json:
        """Press this very button, also when the message has changed since: then the old data is sent."""
        if button.data is not None:
            return await self.press_data(button.message_id, button.data)
        return await self._post("press", message_id=button.message_id, row=button.row, column=button.column)

    async def press_data(self, message_id: int, data: str) -> Json:
        """A callback query with any data, as an old button or a changed app would send it."""
        return await self._post("press", message_id=message_id, data=data)

    async def open(self, url: str) -> Json:
        """Follow a link: `opens` in the answer is "invoice", "chat" or "link"."""
        return await self._post("open", url=url)

    async def pay(self, *, timeout_s: float = 10) -> Payment:
        """Open the newest invoice of the chat and confirm the pay sheet."""
        chat = await self.wait_for(lambda chat: bool(chat.invoice_buttons()), timeout_s=timeout_s, what="an invoice")
        opened = await self.press_at(chat.invoice_buttons()[0])
        return await self.pay_invoice(opened["invoice"]["slug"])

    async def pay_invoice(self, slug: str) -> Payment:
        paid = await self._post("pay", invoice=slug)
        return Payment(paid["charge"], paid["error"])

    async def block(self) -> None:
        await self._post("block")

    async def unblock(self) -> None:
        await self._post("unblock")

    async def button(self, text: str, *, timeout_s: float = 10) -> Button:
        chat = await self.wait_for(lambda chat: chat.button(text) is not None, timeout_s=timeout_s, what=f"[{text}]")
        button = chat.button(text)
        assert button is not None  # Waited for.
        return button

    async def hears(self, text: str, *, timeout_s: float = 10) -> Message:
        """Wait until a message of the bot contains `text`."""
        chat = await self.wait_for(lambda chat: chat.says(text) is not None, timeout_s=timeout_s, what=f"“{text}”")
        message = chat.says(text)
        assert message is not None  # Waited for.
        return message

    async def wait_for(self, wanted: Callable[[Chat], bool], *, timeout_s: float = 10, what: str = "") -> Chat:
        """The chat, once it is as wanted; a TimeoutError after `timeout_s` seconds."""
        ends_at_s = asyncio.get_running_loop().time() + timeout_s
        chat = await self.chat()
        while not wanted(chat):
            left_s = ends_at_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise TimeoutError(f"{self.first_name} waited {timeout_s} s for {what or 'a change'}; {_told(chat)}")
            chat = await self._read(since=chat.version, wait_s=min(left_s, _POLL_MOST_S))
        return chat

    async def _read(self, *, since: int, wait_s: float) -> Chat:
        read = await self._sandbox.get(f"/sandbox/people/{self.id}/chat", since=since, wait_s=wait_s)
        messages = [_message(raw) for raw in read["messages"]]
        return Chat(read["person"]["stars"], read["version"], messages, read["toasts"])

    async def _post(self, act: str, **body: Any) -> Json:
        return await self._sandbox.post(f"/sandbox/people/{self.id}/{act}", body)


def _message(raw: Json) -> Message:
    rows = raw.get("reply_markup", {}).get("inline_keyboard", [])
    buttons = [
        Button(raw["message_id"], i, j, button["text"], {key: value for key, value in button.items() if key != "text"})
        for i, row in enumerate(rows)
        for j, button in enumerate(row)
    ]
    return Message(raw["message_id"], raw["author"], raw.get("text") or raw.get("caption") or "", buttons, raw)


def _told(chat: Chat) -> str:
    last = chat.last
    if last is None:
        return "the chat is empty"
    buttons = " ".join(f"[{button.text}]" for button in last.buttons)
    return f"the last message is {last.text!r} {buttons}".strip()
