"""The entry point for people, tests and demos: JSON under `/sandbox/`, and a stream of events."""

import json
import math
from dataclasses import asdict
from typing import cast, get_args

from aiohttp import web

from turnpike_local.standin.app import Handler

from .backend import Backend
from .keys import Keys
from .people import People, Unable
from .planned_faults import Answer, PlannedFault, PlannedFaults
from .records import Checkout, Update
from .rules import Json
from .updates import Posting

STARS_AT_FIRST = 10_000
_WAIT_MOST_S = 30.0
_DOWN_MOST_S = 3600.0
_KEEP_ALIVE_S = 15.0


class Control:
    """The routes. Each reads the request, acts and answers."""

    def __init__(
        self,
        backend: Backend,
        people: People,
        posting: Posting,
        faults: PlannedFaults,
        keys: Keys,
    ) -> None:
        self._backend = backend
        self._people = people
        self._posting = posting
        self._faults = faults
        self._keys = keys

    def routes(self) -> list[web.RouteDef]:
        person = r"/sandbox/people/{person:\d{1,18}}"
        return [
            web.get("/sandbox/health", self._health),
            web.get("/sandbox/people", self._list),
            web.post("/sandbox/people", self._new),
            web.get(f"{person}/chat", self._chat),
            web.post(f"{person}/say", self._say),
            web.post(f"{person}/press", self._press),
            web.post(f"{person}/open", self._open),
            web.post(f"{person}/pay", self._pay),
            web.post(f"{person}/stars", self._add_stars),
            web.post(f"{person}/try", self._try_key),
            web.post(f"{person}/block", self._block),
            web.post(f"{person}/unblock", self._unblock),
            web.post(f"{person}/deactivate", self._deactivate),
            web.get("/sandbox/payments", self._payments),
            web.post("/sandbox/payments/{charge}/repeat", self._repeat),
            web.post("/sandbox/faults", self._plan_faults),
            web.post("/sandbox/updates/drop", self._drop_updates),
            web.get("/sandbox/files/{file_id}", self._file),
            web.get("/sandbox/events", self._events),
        ]

    async def _health(self, _: web.Request) -> web.Response:
        me = self._backend.me
        health = {
            "ok": self._posting.is_running,
            "bot": {"id": me["id"], "username": me["username"], "first_name": me["first_name"]},
            "people": len(self._backend.state.people()),
            "pending_updates": self._backend.state.pending_update_count(),
            "webhook": self._posting.webhook.url,
            "page_visits": self._backend.state.setting("page_visits", 0),
            "planned_faults": len(self._faults.calls),
            "down_for_s": round(self._faults.down_for_s, 3),
        }
        return web.json_response(health, status=200 if health["ok"] else 503)

    # People

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"people": self._people.all()})

    async def _new(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        person = self._people.new(
            string_in(body, "first_name"),
            string_in(body, "username", "") or None,
            string_in(body, "language_code", "en"),
            whole_number(body, "stars", STARS_AT_FIRST),
        )
        return web.json_response(asdict(person), status=201)

    async def _chat(self, request: web.Request) -> web.Response:
        since, wait_s = number(request, "since", -1), number(request, "wait_s", 0)
        chat = await self._people.chat_after(
            _person(request), int(since), min(max(wait_s, 0.0), _WAIT_MOST_S)
        )
        return web.json_response(chat)

    async def _say(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        return web.json_response(self._people.say(_person(request), string_in(body, "text")))

    async def _press(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        person_id, message_id = _person(request), whole_number(body, "message_id")
        if "data" in body:
            button: Json = {"callback_data": string_in(body, "data")}
        else:
            button = self._people.button(
                person_id, message_id, whole_number(body, "row"), whole_number(body, "column")
            )
        return web.json_response(self._people.press(person_id, message_id, button))

    async def _open(self, request: web.Request) -> web.Response:
        return web.json_response(
            self._people.open(_person(request), string_in(await body_of(request), "url"))
        )

    async def _pay(self, request: web.Request) -> web.Response:
        return web.json_response(
            await self._people.pay(_person(request), string_in(await body_of(request), "invoice"))
        )

    async def _add_stars(self, request: web.Request) -> web.Response:
        amount = whole_number(await body_of(request), "add", STARS_AT_FIRST)
        return web.json_response({"stars": self._people.add_stars(_person(request), amount)})

    async def _try_key(self, request: web.Request) -> web.Response:
        key = string_in(await body_of(request), "key")
        self._people.check_has_key(_person(request), key)
        return web.json_response(asdict(await self._keys.attempt(key)))

    async def _block(self, request: web.Request) -> web.Response:
        await body_of(request)
        self._people.block(_person(request), blocked=True)
        return web.json_response({"blocked": True})

    async def _unblock(self, request: web.Request) -> web.Response:
        await body_of(request)
        self._people.block(_person(request), blocked=False)
        return web.json_response({"blocked": False})

    async def _deactivate(self, request: web.Request) -> web.Response:
        await body_of(request)
        self._people.deactivate(_person(request))
        return web.json_response({"deactivated": True})

    # Payments and faults

    async def _payments(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"payments": [self._payment(paid) for paid in self._backend.state.payments()]}
        )

    def _payment(self, paid: Checkout) -> Json:
        invoice = self._backend.state.invoice(paid.slug)
        asked = asdict(invoice.draft) if invoice else {}
        return {
            "charge": paid.charge,
            "person": paid.person_id,
            "update_id": paid.report_id,
            "invoice": paid.slug,
            **asked,
        }

    async def _repeat(self, request: web.Request) -> web.Response:
        """Report a payment again.

        `as` is "same" for the same update, as after a lost confirmation, or "new" for a new one.
        """
        body = await body_of(request)
        paid = self._backend.state.checkout_of_charge(request.match_info["charge"])
        if paid is None or paid.report is None:
            raise Unable("There is no payment with this charge.", code=404)
        how = string_in(body, "as", "same")
        with self._backend.transaction():
            if how == "new" or paid.report_id is None:
                update_id = self._backend.queue_update("message", paid.person_id, paid.report)
            elif how == "same":
                update_id = paid.report_id
                self._backend.state.repeat_update(
                    Update(update_id, "message", paid.person_id, self._backend.now(), paid.report)
                )
                self._backend.updates_are_waiting()
            else:
                raise Unable('`as` is "same" or "new".', code=400)
        return web.json_response({"update_id": update_id})

    async def _plan_faults(self, request: web.Request) -> web.Response:
        """Plan faults. `clear` removes the earlier ones first."""
        body = await body_of(request)
        if body.get("clear") is True:
            self._faults.clear()
            self._backend.updates_to_lose = self._backend.reports_to_lose = 0
        if "answer" in body:
            answer = string_in(body, "answer")
            if answer not in get_args(Answer):
                raise Unable(f"`answer` is one of {', '.join(get_args(Answer))}.", code=400)
            method = string_in(body, "method", "").lower() or None
            fault = PlannedFault(
                cast(Answer, answer), method, whole_number(body, "retry_after_s", 1)
            )
            self._faults.calls.add(fault, whole_number(body, "calls", 1))
        if "down_s" in body:
            self._faults.go_down(min(float(whole_number(body, "down_s")), _DOWN_MOST_S))
        if "lose_updates" in body:
            self._backend.updates_to_lose = whole_number(body, "lose_updates")
        if "lose_reports" in body:
            self._backend.reports_to_lose = whole_number(body, "lose_reports")
        return web.json_response(
            {"planned": len(self._faults.calls), "down_for_s": self._faults.down_for_s}
        )

    async def _drop_updates(self, request: web.Request) -> web.Response:
        """Delete pending updates, as Telegram does after a day."""
        await body_of(request)
        return web.json_response({"dropped": self._backend.state.drop_updates()})

    async def _file(self, request: web.Request) -> web.Response:
        photo = self._backend.state.photo(request.match_info["file_id"])
        if photo is None:
            raise Unable("There is no such photo.", code=404)
        return web.Response(
            body=photo.content,
            content_type=photo.media_type,
            headers={"Cache-Control": "max-age=86400"},
        )

    # Events

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events. Each names only the kind of data to read again."""
        stream = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await stream.prepare(request)
        await stream.write(b"retry: 1000\n\n")
        async for event in self._backend.hub.events(_KEEP_ALIVE_S):
            await stream.write(
                b": still here\n\n" if event is None else f"data: {json.dumps(event)}\n\n".encode()
            )
        return stream


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an act that a person cannot do with its status and one sentence."""
    try:
        return await handler(request)
    except Unable as unable:
        return web.json_response({"error": str(unable)}, status=unable.code)


def _person(request: web.Request) -> int:
    return int(request.match_info["person"])


async def body_of(request: web.Request) -> Json:
    """The JSON object of the body. The content type excludes forms of other sites."""
    if request.content_type != "application/json":
        raise Unable("Send application/json.", code=415)
    try:
        body = await request.json()
    except ValueError:
        raise Unable("The body is not JSON.", code=400) from None
    if not isinstance(body, dict):
        raise Unable("A JSON object is expected.", code=400)
    return body


def string_in(body: Json, name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise Unable(f"`{name}` is a string.", code=400)
    return value


def whole_number(body: Json, name: str, default: int | None = None) -> int:
    value = body.get(name, default)
    if type(value) is not int or abs(value) >= 2**63:
        raise Unable(f"`{name}` is a whole number.", code=400)
    return value


def number(request: web.Request, name: str, default: float) -> float:
    try:
        number = float(request.query.get(name, default))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Unable(f"`{name}` is a number.", code=400)
    return number
