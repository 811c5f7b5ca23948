"""A person in the sandbox, for tests and demos: send, press, pay, and wait for the chat."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from turnpike_local.standin.client import ControlClient

Json = dict[str, Any]

PATIENCE_S = 30.0
"""How long a person waits for the bot: ten times what it needs on a busy machine."""
_POLL_MOST_S = 20.0


class SandboxError(Exception):
    """The sandbox refused. The text is its sentence."""


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
    """One message of a chat. `text` is the text or caption, `raw` the Bot API's object."""

    id: int
    author: Literal["bot", "person"]
    text: str
    buttons: list[Button]
    raw: Json

    @property
    def code(self) -> list[str]:
        """The texts inside `<code>` and `<pre>`, in order."""
        entities = self.raw.get("entities") or self.raw.get("caption_entities") or []
        units = self.text.encode("utf-16-le")
        spans = [
            (entity["offset"] * 2, entity["length"] * 2)
            for entity in entities
            if entity["type"] in ("code", "pre")
        ]
        return [units[begin : begin + length].decode("utf-16-le") for begin, length in spans]

    @property
    def photo(self) -> str | None:
        """The file id of its photo."""
        sizes = self.raw.get("photo") or []
        return sizes[-1]["file_id"] if sizes else None

    def button(self, text: str) -> Button | None:
        """The first button with `text` in its label, in any case."""
        return next(
            (button for button in self.buttons if text.lower() in button.text.lower()), None
        )


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
        """The button with `text` in its label, in the newest message that has one."""
        return next(
            (found for m in reversed(self.messages) if (found := m.button(text)) is not None), None
        )

    def invoice_buttons(self) -> list[Button]:
        """Buttons that open a pay sheet, newest first."""
        buttons = [button for message in reversed(self.messages) for button in message.buttons]
        return [
            b
            for b in buttons
            if "pay" in b.action
            or (b.url or "").startswith(("https://t.me/$", "https://t.me/invoice/"))
        ]


@dataclass(frozen=True)
class Payment:
    """The result of a payment: a charge, or the error that the person saw."""

    charge: str | None
    error: str | None

    @property
    def paid(self) -> bool:
        return self.charge is not None


class SandboxClient(ControlClient):
    """The control API; use it as an async context manager."""

    refused = SandboxError

    async def get(self, path: str, **query: str | int | float) -> Json:
        return await self._request("GET", path, params=query)

    async def post(self, path: str, body: Json) -> Json:
        return await self._request("POST", path, json=body)

    async def health(self) -> Json:
        return await self.get("/sandbox/health")

    async def new_person(
        self,
        first_name: str,
        *,
        language: str = "en",
        username: str | None = None,
        stars: int = 10_000,
    ) -> "PersonClient":
        body = {"first_name": first_name, "language_code": language, "stars": stars}
        made = await self.post(
            "/sandbox/people", {**body, **({"username": username} if username else {})}
        )
        return PersonClient(self, made["id"], first_name)

    async def people(self) -> "list[PersonClient]":
        known = (await self.get("/sandbox/people"))["people"]
        return [PersonClient(self, person["id"], person["first_name"]) for person in known]

    async def payments(self) -> list[Json]:
        """Charges in the order of their payments, each with the fields of its invoice."""
        payments: list[Json] = (await self.get("/sandbox/payments"))["payments"]
        return payments

    async def repeat(self, charge: str, *, same_update: bool) -> None:
        """Report a payment again: by the same update, or by a new one about the same charge."""
        await self.post(
            f"/sandbox/payments/{charge}/repeat", {"as": "same" if same_update else "new"}
        )

    async def give_back(self, trace_id: str) -> None:
        """Return the money of this purchase at Telegram's or at the provider's side."""
        await self.post(f"/sandbox/purchases/{trace_id}/return", {})

    async def charge_back(self, trace_id: str) -> None:
        """A bank takes the money of this purchase back."""
        await self.post(f"/sandbox/purchases/{trace_id}/charge-back", {})

    async def plan_provider_fault(
        self, provider: str, fault: Literal["lost", "500", "notice"]
    ) -> None:
        """The next invoice's answer is lost or an error after success, or a notice never comes."""
        await self.post(f"/sandbox/providers/{provider}/faults", {"fault": fault})

    async def plan_fault(
        self,
        answer: Literal["403", "429", "500", "lost"],
        *,
        calls: int = 1,
        method: str = "",
        retry_after_s: int = 1,
    ) -> None:
        """Fail the next `calls` calls in this way, of one method or of any.

        "403" says that the person blocked the bot, and "lost" means that the call is executed, but
        its answer is lost.
        """
        body = {"answer": answer, "calls": calls, "method": method, "retry_after_s": retry_after_s}
        await self.post("/sandbox/faults", body)

    async def go_down(self, for_s: int) -> None:
        """Take Telegram away: connections are aborted, no update is posted."""
        await self.post("/sandbox/faults", {"down_s": for_s})

    async def lose_updates(self, count: int) -> None:
        """Drop the next `count` updates."""
        await self.post("/sandbox/faults", {"lose_updates": count})

    async def lose_reports(self, count: int) -> None:
        """Drop the updates of the next `count` payments and refunds. They are listed."""
        await self.post("/sandbox/faults", {"lose_reports": count})

    async def drop_updates(self) -> int:
        """Delete all pending updates. Returns their number."""
        return int((await self.post("/sandbox/updates/drop", {}))["dropped"])

    async def recover(self) -> None:
        """Remove all planned faults."""
        await self.post("/sandbox/faults", {"clear": True})

    async def purchases(self, **query: int) -> Json:
        """A page of purchases with their states, newest first; `before` begins an older one."""
        return await self.get("/sandbox/purchases", **query)

    async def newest_payment_trace(self) -> str | None:
        """The id of the newest trace that belongs to an invoice."""
        trace_id: str | None = (await self.get("/sandbox/traces"))["newest_payment"]
        return trace_id

    async def spans(self, trace_id: str) -> list[Json]:
        """The spans of a trace and of the batches linked to it, by their start."""
        spans: list[Json] = (await self.get("/sandbox/traces", about=trace_id))["spans"]
        return spans

    async def file(self, file_id: str) -> bytes:
        async with self._http().get(f"{self._base_url}/sandbox/files/{file_id}") as answer:
            answer.raise_for_status()
            return await answer.read()


class PersonClient:
    """One person. A wait that fails raises a TimeoutError with the last message of the chat."""

    def __init__(self, sandbox: SandboxClient, person_id: int, first_name: str) -> None:
        self._sandbox = sandbox
        self.id = person_id
        self.first_name = first_name

    async def chat(self) -> Chat:
        return await self._read(since=-1, wait_s=0)

    async def say(self, text: str) -> None:
        await self._post("say", text=text)

    async def press(self, text: str, *, times: int = 1, timeout_s: float = PATIENCE_S) -> Json:
        """Wait for a button with `text` in its label, and press it in the newest message."""
        button = await self.button(text, timeout_s=timeout_s)
        opened: Json = {}
        for _ in range(times):
            opened = await self.press_at(button)
        return opened

    async def press_at(self, button: Button) -> Json:
        """Press this button with its old data, even when the message has changed."""
        if button.data is not None:
            return await self.press_data(button.message_id, button.data)
        return await self._post(
            "press", message_id=button.message_id, row=button.row, column=button.column
        )

    async def press_data(self, message_id: int, data: str) -> Json:
        """Send a callback query with any data, like an old button or a modified app."""
        return await self._post("press", message_id=message_id, data=data)

    async def open(self, url: str) -> Json:
        """Follow a link. `opens` in the answer is "invoice", "chat" or "link"."""
        return await self._post("open", url=url)

    async def pay(self, *, timeout_s: float = PATIENCE_S) -> Payment:
        """Open the newest invoice of the chat and confirm the pay sheet."""
        chat = await self.wait_for(
            lambda chat: bool(chat.invoice_buttons()), timeout_s=timeout_s, what="an invoice"
        )
        opened = await self.press_at(chat.invoice_buttons()[0])
        return await self.pay_invoice(opened["invoice"]["slug"])

    async def pay_invoice(self, slug: str) -> Payment:
        paid = await self._post("pay", invoice=slug)
        return Payment(paid["charge"], paid["error"])

    async def try_key(self, key: str) -> tuple[str, str]:
        """Try a key of the chat with a real client. Returns the outcome and its sentence."""
        tried = await self._post("try", key=key)
        return tried["outcome"], tried["sentence"]

    async def add_stars(self, amount: int) -> int:
        """Add test Stars. Returns the new balance."""
        return int((await self._post("stars", add=amount))["stars"])

    async def block(self) -> None:
        await self._post("block")

    async def unblock(self) -> None:
        await self._post("unblock")

    async def deactivate(self) -> None:
        await self._post("deactivate")

    async def button(self, text: str, *, timeout_s: float = PATIENCE_S) -> Button:
        chat = await self.wait_for(
            lambda chat: chat.button(text) is not None, timeout_s=timeout_s, what=f"[{text}]"
        )
        button = chat.button(text)
        assert button is not None  # Waited for.
        return button

    async def receives(self, text: str, *, timeout_s: float = PATIENCE_S) -> Message:
        """Wait for a message of the bot that contains `text`."""
        chat = await self.wait_for(
            lambda chat: chat.says(text) is not None, timeout_s=timeout_s, what=f"“{text}”"
        )
        message = chat.says(text)
        assert message is not None  # Waited for.
        return message

    async def wait_for(
        self, wanted: Callable[[Chat], bool], *, timeout_s: float = PATIENCE_S, what: str = ""
    ) -> Chat:
        """Wait until the chat is as wanted. Raises TimeoutError after `timeout_s` seconds."""
        ends_at_s = asyncio.get_running_loop().time() + timeout_s
        chat = await self.chat()
        while not wanted(chat):
            left_s = ends_at_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                waited = f"{self.first_name} waited {timeout_s:g} s"
                raise TimeoutError(f"{waited} for {what or 'a change'}; {_end(chat)}")
            chat = await self._read(since=chat.version, wait_s=min(left_s, _POLL_MOST_S))
        return chat

    async def _read(self, *, since: int, wait_s: float) -> Chat:
        read = await self._sandbox.get(
            f"/sandbox/people/{self.id}/chat", since=since, wait_s=wait_s
        )
        messages = [_message(raw) for raw in read["messages"]]
        return Chat(read["person"]["stars"], read["version"], messages, read["toasts"])

    async def _post(self, act: str, **body: Any) -> Json:
        return await self._sandbox.post(f"/sandbox/people/{self.id}/{act}", body)


def _message(raw: Json) -> Message:
    rows = raw.get("reply_markup", {}).get("inline_keyboard", [])
    buttons = [
        Button(
            raw["message_id"],
            i,
            j,
            button["text"],
            {key: value for key, value in button.items() if key != "text"},
        )
        for i, row in enumerate(rows)
        for j, button in enumerate(row)
    ]
    return Message(
        raw["message_id"], raw["author"], raw.get("text") or raw.get("caption") or "", buttons, raw
    )


def _end(chat: Chat) -> str:
    last = chat.last
    if last is None:
        return "the chat is empty"
    buttons = " ".join(f"[{button.text}]" for button in last.buttons)
    return f"the last message is {last.text!r} {buttons}".strip()
