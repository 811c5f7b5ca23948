"""The sandbox with a control API for crowds: thousands of people, and payments without approval.

A charge made here skips the pre-checkout query. It stands for a payment that was approved long
ago, for another amount, or for an order that is closed by now. The rest is the sandbox's: Stars
move, the update is kept before any answer, and is polled or posted.
"""

import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from turnpike_local.sandbox import shapes
from turnpike_local.sandbox.__main__ import main
from turnpike_local.sandbox.app import Sandbox
from turnpike_local.sandbox.backend import Backend
from turnpike_local.sandbox.checkout import Payments
from turnpike_local.sandbox.limits import Limits
from turnpike_local.sandbox.people import STARS_MOST, People
from turnpike_local.sandbox.planned_faults import PlannedFaults
from turnpike_local.sandbox.records import Update
from turnpike_local.sandbox.rules import STARS, InvoiceDraft

# No flood control: it has tests of its own, and the rows measure losses.
UNLIMITED = Limits(
    messages_per_s=1e6, messages_burst=10**6, chat_messages_per_s=1e3, chat_messages_burst=10**4
)


class CrowdApi:
    """Each request acts for many people in one transaction."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._payments = Payments(backend)
        self._people = People(backend, self._payments)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/crowd/people", self._register),
            web.post("/crowd/charges", self._pay),
            web.get("/crowd/charges", self._charges),
            web.post("/crowd/invoices", self._invoice),
            web.post("/crowd/repeats", self._repeat),
            web.post("/crowd/refunds", self._refund),
            web.get("/crowd/updates", self._unconfirmed_updates),
            web.get("/crowd/texts", self._bot_texts),
        ]

    async def _register(self, request: web.Request) -> web.Response:
        """People with a first message each; returns their Telegram ids, in order."""
        texts = (await request.json())["texts"]
        with self._backend.transaction():
            people = [self._people.new("Somebody", None, "en", STARS_MOST) for _ in texts]
            for person, text in zip(people, texts, strict=True):
                self._people.say(person.id, text)
        return web.json_response([person.id for person in people])

    async def _pay(self, request: web.Request) -> web.Response:
        """Take each amount for its payload and report it; returns the charges, in order."""
        wanted = (await request.json())["charges"]
        with self._backend.transaction():
            charges = [self._charge(**charge) for charge in wanted]
        return web.json_response(charges)

    async def _charges(self, _: web.Request) -> web.Response:
        """Every charge that was ever taken: its id, the payer and the Stars."""
        moved = self._backend.state.star_transactions(0, 10**9)
        return web.json_response(
            [(one.charge, one.person_id, one.amount) for one in moved if one.direction == "in"]
        )

    async def _invoice(self, request: web.Request) -> web.Response:
        """An invoice link, to be paid through the pay sheet."""
        wanted = await request.json()
        with self._backend.transaction():
            return web.json_response(self._slug(wanted["payload"], wanted["stars"]))

    def _slug(self, payload: str, stars: int) -> str:
        draft = InvoiceDraft(
            title="VPN", description="VPN", payload=payload, currency=STARS, total_amount=stars
        )
        return self._payments.invoice(draft, None).slug

    def _charge(self, person: int, payload: str, stars: int) -> str:
        backend = self._backend
        checkout = backend.state.checkout(
            backend.state.add_checkout(person, self._slug(payload, stars), backend.now())
        )
        assert checkout is not None
        paid = self._payments._charge(checkout)
        assert paid.charge is not None, paid.error
        return paid.charge

    async def _repeat(self, request: web.Request) -> web.Response:
        """Report these charges again: by the same update (`same`), or by a new one each."""
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
            backend.state.repeat_update(
                Update(paid.report_id, "message", paid.person_id, backend.now(), paid.report)
            )
            backend.updates_are_waiting()
        else:
            backend.queue_update("message", paid.person_id, paid.report)

    async def _refund(self, request: web.Request) -> web.Response:
        """Return these charges, each reported so often."""
        body = await request.json()
        with self._backend.transaction():
            for charge in body["charges"]:
                self._return(charge, body["reports"])
        return web.json_response({})

    def _return(self, charge: str, reports: int) -> None:
        checkout = self._backend.state.checkout_of_charge(charge)
        assert checkout is not None
        self._payments.refund(checkout.person_id, charge)
        person, invoice = self._payments._parties(checkout)
        content = shapes.payment_content("refunded_payment", invoice, checkout, charge)
        for _ in range(reports - 1):
            self._backend.person_says(person, content)

    async def _unconfirmed_updates(self, _: web.Request) -> web.Response:
        return web.json_response(self._backend.state.pending_update_count())

    async def _bot_texts(self, _: web.Request) -> web.Response:
        """The texts of the bot's messages by their ids, in each chat."""
        texts = {
            person.id: {
                body["message_id"]: body.get("text", "")
                for author, body in self._backend.state.messages(person.id, 10**6)
                if author == "bot"
            }
            for person in self._backend.state.people()
        }
        return web.json_response(texts)


class CrowdedSandbox(Sandbox):
    """The sandbox with the control API."""

    def __init__(self, folder: Path, token: str, **given: Any) -> None:
        super().__init__(folder, token, limits=UNLIMITED, **given)

    def _application(self, faults: PlannedFaults) -> web.Application:
        app = super()._application(faults)
        app.add_routes(CrowdApi(self._backend).routes())
        return app


if __name__ == "__main__":
    sys.exit(main(CrowdedSandbox))
