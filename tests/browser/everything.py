"""A chat with every kind of message, made by a bot without a shop."""

import asyncio
from dataclasses import dataclass

from aiogram import Bot
from aiogram.types import (
    BotCommand,
    BufferedInputFile,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LabeledPrice,
)

from tests.kit.sandbox import png, started
from turnpike_local.sandbox import SandboxClient
from turnpike_local.sandbox.client import PersonClient

KEY = "vless://0a1b2c3d-0000-4000-8000-000000000000@127.0.0.1:9?type=tcp#Turnpike"
TEXTS = (
    "Welcome. Press <b>Buy</b> or read <a href='https://example.org/terms'>the terms</a>.",
    "<blockquote>30 days</blockquote> /support <tg-spoiler>hidden</tg-spoiler> <code>word</code>",
    f"Your key\n<pre>{KEY}</pre>",
)
PRICE_STARS = 99


@dataclass(frozen=True)
class Talk:
    """A person, the bot that writes to them, and short ways to write."""

    bot: Bot
    person: PersonClient

    async def screen(self, text: str, *labels: str) -> int:
        """A message with a button per label, each on a line of its own. Returns its id."""
        sent = await self.bot.send_message(
            self.person.id, text, parse_mode="HTML", reply_markup=keyboard(*labels)
        )
        return sent.message_id

    async def link(self, label: str, url: str) -> None:
        """A message with this link as a button, and in its text."""
        button = InlineKeyboardButton(text=label, url=url)
        await self.bot.send_message(
            self.person.id,
            f"<a href='{url}'>The page</a>",
            parse_mode="HTML",
            reply_markup=InlineKeyboardMarkup(inline_keyboard=[[button]]),
        )

    async def edit(self, message_id: int, text: str, *labels: str) -> None:
        await self.bot.edit_message_text(
            text,
            chat_id=self.person.id,
            message_id=message_id,
            parse_mode="HTML",
            reply_markup=keyboard(*labels),
        )

    async def invoice(self, stars: int = PRICE_STARS) -> int:
        sent = await self.bot.send_invoice(
            self.person.id,
            title="Basic for 1 month",
            description="Access for 5 devices",
            payload="p",
            currency="XTR",
            prices=[LabeledPrice(label="Basic", amount=stars)],
        )
        return sent.message_id

    async def relabel(self, invoice: int, label: str) -> None:
        """Give the invoice's button another label."""
        pays = InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text=label, pay=True)]])
        await self.bot.edit_message_reply_markup(
            chat_id=self.person.id, message_id=invoice, reply_markup=pays
        )

    async def approve(self) -> None:
        """Approve the next pre-checkout query."""
        offset = 0
        while True:
            for update in await self.bot.get_updates(offset=offset, timeout=5):
                offset = update.update_id + 1
                if update.pre_checkout_query is not None:
                    await self.bot.answer_pre_checkout_query(update.pre_checkout_query.id, ok=True)
                    return

    async def picture(self) -> int:
        photo = BufferedInputFile(png(240, 240), "key.png")
        sent = await self.bot.send_photo(self.person.id, photo, caption="Scan it")
        return sent.message_id


def keyboard(*labels: str) -> InlineKeyboardMarkup | None:
    rows = [[InlineKeyboardButton(text=label, callback_data=label)] for label in labels]
    return InlineKeyboardMarkup(inline_keyboard=rows) if rows else None


async def talk(
    client: SandboxClient, bot: Bot, name: str = "Alice", *, stars: int = 10_000
) -> Talk:
    """A person who started the bot, and whose chat is empty otherwise."""
    return Talk(bot, await started(client, name, stars=stars))


async def everything(client: SandboxClient, bot: Bot, name: str = "Alice") -> Talk:
    """A chat with every kind of message. The newest is an invoice."""
    await bot.set_my_commands([BotCommand(command="start", description="Begin again")])
    made = await talk(client, bot, name)
    for text in TEXTS:
        await made.screen(text, "Buy", "My access")
    await made.person.say("https://example.org/mine and /help")
    await made.link("Pay by SBP", "http://127.0.0.1:9/checkout")
    await made.picture()
    await made.invoice()
    await asyncio.gather(made.person.pay(), made.approve())
    await made.invoice()
    return made
