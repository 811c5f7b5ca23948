"""The client of the control API in `tests.chaos.telegram`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

REQUEST_S = 60.0


@dataclass(frozen=True)
class Charge:
    """Stars to charge a person with, for the invoice that the payload names."""

    person: int
    payload: str
    stars: int


class Crowd:
    """Many simulated people; every call is one request and one transaction there.

    `first_messages` holds the first message of each person by Telegram id. `blocked` holds each
    person that has blocked the bot at some time, `blocking` those that block it now.
    """

    def __init__(self, url: str) -> None:
        self.first_messages: dict[int, str] = {}
        self.blocked: set[int] = set()
        self.blocking: set[int] = set()
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def register(self, texts: Sequence[str]) -> list[int]:
        """New people, each with a first message; returns their Telegram ids."""
        ids: list[int] = await self._request("POST", "/crowd/people", {"texts": list(texts)})
        self.first_messages |= dict(zip(ids, texts, strict=True))
        return ids

    async def pay(self, charges: Sequence[Charge]) -> list[str]:
        """When this returns, Telegram has the money and the updates that report it."""
        ids: list[str] = await self._request(
            "POST", "/crowd/charges", {"charges": [vars(charge) for charge in charges]}
        )
        return ids

    async def check_out(self, charge: Charge) -> str | None:
        """Pay through the pay sheet: the bot has to approve first.

        None when it did not approve; then nothing was charged.
        """
        slug = await self._request("POST", "/crowd/invoices", vars(charge))
        path = f"/sandbox/people/{charge.person}/pay"
        paid: str | None = (await self._request("POST", path, {"invoice": slug}))["charge"]
        return paid

    async def report_again(self, charges: Sequence[str], *, same_update: bool) -> None:
        body = {"charges": list(charges), "same": same_update}
        await self._request("POST", "/crowd/repeats", body)

    async def refund(self, charges: Sequence[str], *, reports: int) -> None:
        """Return the Stars of these charges, and report each refund so often."""
        body = {"charges": list(charges), "reports": reports}
        await self._request("POST", "/crowd/refunds", body)

    async def block(self, person: int, *, blocked: bool) -> None:
        if blocked:
            self.blocked.add(person)
            self.blocking.add(person)
        else:
            self.blocking.discard(person)
        path = f"/sandbox/people/{person}/{'block' if blocked else 'unblock'}"
        await self._request("POST", path, {})

    async def unconfirmed_updates(self) -> int:
        """How many updates the bot has not confirmed."""
        return int(await self._request("GET", "/crowd/updates"))

    async def charges(self) -> dict[str, tuple[int, int]]:
        """Every charge that Telegram ever took: the payer and the Stars, by its id."""
        return {
            charge: (person, stars)
            for charge, person, stars in await self._request("GET", "/crowd/charges")
        }

    async def bot_texts(self) -> dict[int, dict[int, str]]:
        """The texts of the bot's messages by their ids, in each chat."""
        chats = await self._request("GET", "/crowd/texts")
        return {
            int(chat): {int(number): text for number, text in texts.items()}
            for chat, texts in chats.items()
        }

    async def _request(self, method: str, path: str, body: Any = None) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=REQUEST_S),
                connector=aiohttp.TCPConnector(limit=0),  # Each open pay sheet keeps one.
            )
        async with self._session.request(method, self._url + path, json=body) as answer:
            answer.raise_for_status()
            return await answer.json()
