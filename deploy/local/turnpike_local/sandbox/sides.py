"""The entry point for acts at the sides of Telegram and of the payment providers: money that they
give back, and faults of the providers."""

from collections.abc import Sequence
from typing import cast, get_args

from aiohttp import web

from turnpike_local.standin.outside import Act, Fault, NotPossibleError, Outside, ProviderSide

from .backend import Backend
from .checkout import Payments
from .control import body_of, string_in
from .people import Unable
from .purchases import Purchase
from .rules import Refused

ACTS: dict[str, Act] = {"return": "return", "charge-back": "charge-back"}


class Sides:
    """The routes. Each reads the request, acts and answers."""

    def __init__(
        self, backend: Backend, payments: Payments, providers: Sequence[ProviderSide]
    ) -> None:
        self._backend = backend
        self._payments = payments
        self._providers = {provider.title: provider for provider in providers}

    def routes(self) -> list[web.RouteDef]:
        purchase = "/sandbox/purchases/{trace:[0-9a-f]{32}}/{act:return|charge-back}"
        return [
            web.get("/sandbox/providers", self._list),
            web.post("/sandbox/providers/{title}/faults", self._plan),
            web.post(purchase, self._act),
        ]

    def take(self, outside: Outside) -> None:
        """A provider tells of a payment."""
        with self._backend.transaction():
            self._backend.state.purchases.told(outside, self._backend.now())
        self._backend.hub.publish({"kind": "traces"})

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"providers": list(self._providers)})

    async def _plan(self, request: web.Request) -> web.Response:
        """`fault` is "lost" or "500" for the answer to the next invoice, or "notice"."""
        fault = string_in(await body_of(request), "fault")
        if fault not in get_args(Fault):
            raise Unable(f"`fault` is one of {', '.join(get_args(Fault))}.", code=400)
        self._provider(request.match_info["title"]).plan(cast(Fault, fault))
        return web.json_response({"planned": fault})

    async def _act(self, request: web.Request) -> web.Response:
        """Give the money of a purchase back, as a shop's owner or a bank does."""
        await body_of(request)
        purchase = self._backend.state.purchases.of_trace(request.match_info["trace"])
        if purchase is None or not purchase.charges:
            raise Unable("There is no such payment.", code=404)
        act = ACTS[request.match_info["act"]]
        try:
            if purchase.provider is None:
                self._return_stars(purchase, act)
            else:
                self._provider(purchase.provider).act(act, purchase.reference or "")
        except NotPossibleError as error:
            raise Unable(str(error)) from error
        return web.json_response({"done": act})

    def _return_stars(self, purchase: Purchase, act: Act) -> None:
        if act != "return":
            raise NotPossibleError("Telegram knows no chargebacks of Stars.")
        for paid in self._backend.state.payments():
            invoice = self._backend.state.invoice(paid.slug)
            if paid.charge and invoice and purchase.trace_id in invoice.draft.payload:
                try:
                    with self._backend.transaction():
                        self._payments.refund(paid.person_id, paid.charge)
                except Refused as refused:
                    raise NotPossibleError(str(refused)) from refused

    def _provider(self, title: str) -> ProviderSide:
        if title not in self._providers:
            raise Unable("There is no such provider here.", code=404)
        return self._providers[title]
