"""The crowd's side of the door in `tests.chaos.telegram`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

REQUEST_S = 60.0


@dataclass(frozen=True)
class Charge:
    """Stars that a person is about to be charged with, for what a payload names."""

    person: int
    payload: str
    stars: int


class Crowd:
    """Many people at once; every call is one request and one transaction there."""

    def __init__(self, url: str) -> None:
        self.arrived: dict[int, str] = {}
        """Everybody by his Telegram id, and what he said first."""
        self.blocked: set[int] = set()
        """Who has blocked the bot at some time."""
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def arrive(self, says: Sequence[str]) -> list[int]:
        """New people, each with a first message; answers their Telegram ids."""
        ids: list[int] = await self._ask("POST", "/crowd/people", {"says": list(says)})
        self.arrived |= dict(zip(ids, says, strict=True))
        return ids

    async def pay(self, charges: Sequence[Charge]) -> list[str]:
        """Once this returns, Telegram has the money and has the updates that say so."""
        taken: list[str] = await self._ask("POST", "/crowd/charges", {"charges": [vars(charge) for charge in charges]})
        return taken

    async def check_out(self, charge: Charge) -> str | None:
        """Pay through the pay sheet: the bot is asked first. None when it did not agree, and nothing was taken."""
        slug = await self._ask("POST", "/crowd/invoices", vars(charge))
        taken: str | None = (await self._ask("POST", f"/sandbox/people/{charge.person}/pay", {"invoice": slug}))[
            "charge"
        ]
        return taken

    async def report_again(self, charges: Sequence[str], *, same_update: bool) -> None:
        await self._ask("POST", "/crowd/repeats", {"charges": list(charges), "same": same_update})

    async def block(self, person: int, *, blocked: bool) -> None:
        self.blocked |= {person} if blocked else set()
        await self._ask("POST", f"/sandbox/people/{person}/{'block' if blocked else 'unblock'}", {})

    async def waiting(self) -> int:
        """Updates that the bot has not confirmed."""
        return int(await self._ask("GET", "/crowd/waiting"))

    async def taken(self) -> dict[str, tuple[int, int]]:
        """Every charge that ever was: whose money it was, and how many Stars."""
        return {charge: (person, stars) for charge, person, stars in await self._ask("GET", "/crowd/charges")}

    async def said(self) -> dict[int, dict[int, str]]:
        """The texts of the bot's messages by their ids, in each chat."""
        said = await self._ask("GET", "/crowd/said")
        return {int(chat): {int(number): text for number, text in texts.items()} for chat, texts in said.items()}

    async def _ask(self, verb: str, path: str, body: Any = None) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_S))
        async with self._session.request(verb, self._url + path, json=body) as answer:
            answer.raise_for_status()
            return await answer.json()
