"""The sandbox with a door for crowds: Telegram with thousands of people, and money that nobody was asked about.

A charge here does not ask the bot first: it was agreed to long ago, for another amount, or for an order that is closed
by now. Everything else is the sandbox's: Stars move, the update is kept before any answer, and is polled or posted.
"""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from turnpike_local.sandbox.__main__ import _serve
from turnpike_local.sandbox.app import Sandbox
from turnpike_local.sandbox.backend import Backend
from turnpike_local.sandbox.checkout import Payments
from turnpike_local.sandbox.limits import Limits
from turnpike_local.sandbox.people import People
from turnpike_local.sandbox.records import Update
from turnpike_local.sandbox.rules import STARS, InvoiceDraft
from turnpike_local.sandbox.stumbles import Stumbles

# Nobody is slowed down: what is measured here is what is lost, and the flood control has tests of its own.
UNHURRIED = Limits(messages_per_s=1e6, messages_burst=10**6, chat_messages_per_s=1e3, chat_messages_burst=10**4)
STARS_OF_EVERYBODY = 10**12


class Crowd:
    """Many people act at once, in one transaction."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._payments = Payments(backend)
        self._people = People(backend, self._payments)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/crowd/people", self._arrive),
            web.post("/crowd/charges", self._pay),
            web.get("/crowd/charges", self._taken),
            web.post("/crowd/invoices", self._invoice),
            web.post("/crowd/repeats", self._repeat),
            web.get("/crowd/waiting", self._waiting),
            web.get("/crowd/said", self._said),
        ]

    async def _arrive(self, request: web.Request) -> web.Response:
        """People with a first message each; answers their Telegram ids, in order."""
        says = (await request.json())["says"]
        with self._backend.transaction():
            people = [self._people.new("Somebody", None, "en", STARS_OF_EVERYBODY) for _ in says]
            for person, text in zip(people, says, strict=True):
                self._people.say(person.id, text)
        return web.json_response([person.id for person in people])

    async def _pay(self, request: web.Request) -> web.Response:
        """Take each of these amounts for each of these payloads and report it; answers the charges, in order."""
        wanted = (await request.json())["charges"]
        with self._backend.transaction():
            charges = [self._charge(**charge) for charge in wanted]
        return web.json_response(charges)

    async def _taken(self, _: web.Request) -> web.Response:
        """Every charge that ever was: its id, whose money it was and how many Stars."""
        moved = self._backend.state.star_transactions(0, 10**9)
        return web.json_response([(one.charge, one.person_id, one.amount) for one in moved if one.direction == "in"])

    async def _invoice(self, request: web.Request) -> web.Response:
        """An invoice link, to be paid through the pay sheet."""
        wanted = await request.json()
        with self._backend.transaction():
            return web.json_response(self._slug(wanted["payload"], wanted["stars"]))

    def _slug(self, payload: str, stars: int) -> str:
        draft = InvoiceDraft(title="VPN", description="VPN", payload=payload, currency=STARS, total_amount=stars)
        return self._payments.invoice(draft, None).slug

    def _charge(self, person: int, payload: str, stars: int) -> str:
        backend = self._backend
        checkout = backend.state.checkout(backend.state.add_checkout(person, self._slug(payload, stars), backend.now()))
        assert checkout is not None
        paid = self._payments._charge(checkout)
        assert paid.charge is not None, paid.error
        return paid.charge

    async def _repeat(self, request: web.Request) -> web.Response:
        """Report these charges again: by the very update (`same`), or by another one about the same charge."""
        body = await request.json()
        with self._backend.transaction():
            for charge in body["charges"]:
                self._report_again(charge, same=body["same"])
        return web.json_response({})

    def _report_again(self, charge: str, *, same: bool) -> None:
        backend = self._backend
        paid = backend.state.checkout_of_charge(charge)
        assert paid is not None
        assert paid.report is not None
        if same and paid.report_id is not None:
            backend.state.repeat_update(Update(paid.report_id, "message", paid.person_id, backend.now(), paid.report))
            backend.updates_are_waiting()
        else:
            backend.tell_bot("message", paid.person_id, paid.report)

    async def _waiting(self, _: web.Request) -> web.Response:
        return web.json_response(self._backend.state.pending_update_count())

    async def _said(self, _: web.Request) -> web.Response:
        """The texts of the bot's messages by their ids, in each chat."""
        said = {
            person.id: {
                body["message_id"]: body.get("text", "")
                for author, body in self._backend.state.messages(person.id, 10**6)
                if author == "bot"
            }
            for person in self._backend.state.people()
        }
        return web.json_response(said)


class CrowdedTelegram(Sandbox):
    """The sandbox, and the crowd's door."""

    def __init__(self, folder: Path, token: str, *, port: int) -> None:
        super().__init__(folder, token, port=port, limits=UNHURRIED)

    def _application(self, stumbles: Stumbles) -> web.Application:
        app = super()._application(stumbles)
        app.add_routes(Crowd(self._backend).routes())
        return app


def main() -> None:
    parser: Any = argparse.ArgumentParser(prog="python -m tests.chaos.telegram", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(_serve(CrowdedTelegram(options.state, os.environ["TURNPIKE_BOT_TOKEN"], port=options.port)))


if __name__ == "__main__":
    main()
