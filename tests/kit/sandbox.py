"""Helpers for tests of the sandbox with a real aiogram bot."""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer

from tests.kit.waiting import HANG_S
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import Json, PersonClient

TOKEN = "4242:AAtest-token"

# No test reaches these limits, and a webhook is retried soon.
UNLIMITED = Limits(
    messages_per_s=1000,
    messages_burst=1000,
    chat_messages_per_s=1000,
    chat_messages_burst=1000,
    webhook_retry_first_s=0.1,
)


@asynccontextmanager
async def bot_of(sandbox: Sandbox, token: str = TOKEN) -> AsyncIterator[Bot]:
    """A bot that calls the sandbox's Bot API."""
    api = TelegramAPIServer.from_base(sandbox.url)
    bot = Bot(token, session=AiohttpSession(api=api, timeout=HANG_S))
    try:
        yield bot
    finally:
        await bot.session.close()


async def started(
    client: SandboxClient, name: str = "Alice", *, stars: int = 10_000
) -> PersonClient:
    """A new person who has started the bot."""
    person = await client.new_person(name, stars=stars)
    await person.say("/start")
    return person


async def offer(
    sandbox: Sandbox, trace: str, title: str = "Basic", *, to: PersonClient | None = None
) -> str:
    """An invoice for 5 Stars whose order has this trace. With `to`, a button in that chat."""
    prices = [{"label": "Basic", "amount": 5}]
    asked = {"title": title, "description": "A month", "currency": "XTR", "prices": prices}
    payload = f"{trace}.{77:032x}.{9:016x}"
    link = await call(sandbox, "createInvoiceLink", payload=payload, **asked)
    if to is not None:
        keyboard = {"inline_keyboard": [[{"text": "Pay", "url": link}]]}
        await call(sandbox, "sendMessage", chat_id=to.id, text="Pay", reply_markup=keyboard)
    return str(link)


async def call(sandbox: Sandbox, method: str, **arguments: object) -> object:
    async with (
        aiohttp.ClientSession(sandbox.url) as http,
        http.post(f"/bot{TOKEN}/{method}", json=arguments) as answer,
    ):
        body: Json = await answer.json()
    assert body["ok"], body
    return body["result"]


async def pay(sandbox: Sandbox, person: PersonClient, *, ok: bool = True) -> str | None:
    """Pay the newest invoice of the chat. The bot approves, or refuses."""
    paying = asyncio.create_task(person.pay())
    async with bot_of(sandbox) as bot:
        offset = None
        while not paying.done():
            for update in await bot.get_updates(offset=offset, timeout=0):
                offset = update.update_id + 1
                if update.pre_checkout_query:
                    query = update.pre_checkout_query.id
                    message = None if ok else "Too late"
                    await bot.answer_pre_checkout_query(query, ok, error_message=message)
            await asyncio.sleep(0.01)
    return (await paying).charge


def png(width: int, height: int) -> bytes:
    """A red picture of this size in pixels."""
    rows = b"".join(b"\x00" + b"\xff\x00\x00" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum
