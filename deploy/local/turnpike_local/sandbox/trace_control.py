"""The entry point for traces: exports of services, and purchases with their traces for the page."""

from dataclasses import asdict

from aiohttp import web

from .backend import Backend
from .control import number
from .counted import Counted, counted
from .people import Unable
from .purchases import NEWEST, Purchase
from .rules import Json
from .spans import UnreadableTracesError
from .steps import state_of
from .traces import TRACES_KEPT, Traces

PURCHASES_LISTED = 50
_TRACES_LISTED = 50


class TraceControl:
    """The routes. Each reads the request and answers."""

    def __init__(self, backend: Backend, traces: Traces) -> None:
        self._backend = backend
        self._traces = traces

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sandbox/traces", self._list_traces),
            web.get("/sandbox/purchases", self._list_purchases),
            web.post("/v1/traces", self._receive_traces),
        ]

    async def _receive_traces(self, request: web.Request) -> web.Response:
        try:
            # aiohttp has decompressed gzip, within its size limit.
            touched = self._traces.receive(await request.read())
        except UnreadableTracesError as error:
            raise Unable(f"This is not an OTLP export: {error}", code=400) from error
        if touched:
            self._backend.hub.publish({"kind": "traces"})
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def _list_traces(self, request: web.Request) -> web.Response:
        about = request.query.get("about")
        if about is not None:
            trace_id = about.lower()
            purchase = self._backend.state.purchases.of_trace(trace_id)
            return web.json_response(
                {
                    "spans": self._traces.about(trace_id),
                    "purchase": self._purchase(purchase) if purchase else None,
                    "counted": asdict(self._counted(purchase)) if purchase else None,
                }
            )
        of_payments = self._backend.state.purchases.newest_traces(TRACES_KEPT)
        listed = self._traces.newest(_TRACES_LISTED)
        newest = [{**trace, "of_payment": trace["trace_id"] in of_payments} for trace in listed]
        return web.json_response(
            {"traces": newest, "newest_payment": self._traces.newest_of(of_payments)}
        )

    async def _list_purchases(self, request: web.Request) -> web.Response:
        """A page of purchases, newest first. `before` is the number of the last one known."""
        before = int(min(max(number(request, "before", NEWEST), 0), NEWEST))
        found = self._backend.state.purchases.page(PURCHASES_LISTED + 1, before=before)
        listed = [self._purchase(purchase) for purchase in found[:PURCHASES_LISTED]]
        newest = self._backend.state.purchases.page(1)
        return web.json_response(
            {
                "purchases": listed,
                "has_older": len(found) > PURCHASES_LISTED,
                "newest": newest[0].trace_id if newest else None,
            }
        )

    def _counted(self, purchase: Purchase) -> Counted:
        own = self._traces.own(purchase.trace_id)
        return counted(purchase, own.spans, missing=own.missing, is_cut=own.is_cut)

    def _purchase(self, purchase: Purchase) -> Json:
        """A purchase with its buyer's name and its state."""
        person_id = purchase.person_id
        person = None if person_id is None else self._backend.state.person(person_id)
        return {
            **asdict(purchase),
            "name": person.first_name if person else None,
            "state": state_of(purchase, self._traces.steps(purchase.trace_id)),
        }
