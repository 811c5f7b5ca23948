"""bot-gateway in a whole shop: a real database and broker, fakes of its owners, the sandbox."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot_gateway.settings import Settings
from shared.platform.db import Database
from tests.kit.bot import TOKEN, UNHURRIED, Owners, opened, settings
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import Chat, PersonClient


@dataclass
class Shop:
    people: SandboxClient
    owners: Owners
    database: Database
    place: FreshDatabase
    settings: Settings

    async def newcomer(self, name: str = "Ann", **about: Any) -> PersonClient:
        """A person who pressed /start and accepted the offer."""
        person = await self.people.new_person(name, **about)
        await person.say("/start")
        await person.press("accept" if about.get("language", "en") == "en" else "Принять")
        return person

    async def events(self, topic: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "select body::text as body from events where topic = $1 order by seq", topic
        )
        return [json.loads(row["body"]) for row in rows]

    async def has_events(self, topic: str, count: int) -> bool:
        return len(await self.events(topic)) == count

    async def refusals(self) -> list[tuple[str, str]]:
        rows = await self.database.fetch("select what, reason from refusals order by id")
        return [(row["what"], row["reason"]) for row in rows]

    async def has_refused(self, what: str, reason: str) -> bool:
        return (what, reason) in await self.refusals()

    async def is_quiescent(self) -> bool:
        return await no_update_waits(self.people, self.database)


async def no_update_waits(people: SandboxClient, database: Database) -> bool:
    """Neither at Telegram nor here.

    Telegram is asked first: an update leaves it only when it is a row here. In the other order one
    that arrives between the two questions is seen by neither.
    """
    if (await people.health())["pending_updates"]:
        return False
    waiting: bool = await database.fetchval(
        "select exists (select from updates where state = 'waiting')"
    )
    return not waiting


@asynccontextmanager
async def opened_shop(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> AsyncIterator[Shop]:
    """Everything but bot-gateway itself."""
    place, owners = await fresh_database("bot"), Owners(nats_url)
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        opened(place.dsn("bot_app")) as database,
        SandboxClient(sandbox.url) as people,
    ):
        await owners.open()
        configured = settings(place.dsn("bot_app"), nats_url, sandbox.url)
        yield Shop(people, owners, database, place, configured)
        await owners.close()


async def buy(person: PersonClient) -> None:
    """From the menu to the invoice."""
    await person.press("Buy")
    await choose(person)


async def choose(person: PersonClient) -> None:
    """From the plans to the invoice."""
    await person.press("Basic")
    await person.press("1 month")
    await person.press("Stars")
    await person.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def to_ways(person: PersonClient) -> None:
    """From the menu to the ways to pay."""
    await person.press("Buy")
    await person.press("Basic")
    await person.press("1 month")
    await person.receives("How would you like to pay?")


async def sees(person: PersonClient, *labels: str) -> None:
    """Wait until the newest screen begins with these buttons."""
    wanted = list(labels)
    await person.wait_for(lambda chat: _labels(chat)[: len(wanted)] == wanted, what=str(wanted))


def _labels(chat: Chat) -> list[str]:
    buttons = chat.from_bot[-1].buttons if chat.from_bot else []
    return [button.text.replace("\u00a0", " ") for button in buttons]


async def is_toasted(person: PersonClient, text: str) -> None:
    await person.wait_for(lambda chat: any(text in toast["text"] for toast in chat.toasts))
