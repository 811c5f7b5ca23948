"""The entry point for merchants: `/v3/…` with HTTP Basic, as api.yookassa.ru has it."""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from aiohttp import web

from turnpike_local.standin.app import Handler, cut

from . import shapes
from .backend import Backend
from .errors import (
    Json,
    Refused,
    internal,
    invalid,
    not_found,
    too_many_requests,
    wrong_credentials,
)
from .lifecycle import Payments
from .listing import Listing
from .planned_faults import PlannedAnswer
from .refunds import Refunds
from .registrations import Registrations

_KEY = re.compile(r"[0-9a-zA-Z+\-_.]{1,64}")
_JSON = "application/json"
_WITHOUT_EFFECT = ("500_before", "429")
_PROCESSING = {
    "type": "processing",
    "description": "Request accepted, but not processed yet. Retry with the same idempotence key",
}

Read = Callable[[web.Request], Json]
Act = Callable[[str, Any], Json]


class Api:
    """The routes. POST acts once for each idempotence key; GET only reads."""

    def __init__(
        self,
        backend: Backend,
        payments: Payments,
        refunds: Refunds,
        registrations: Registrations,
    ) -> None:
        self._backend = backend
        self._registrations = registrations
        self._payments = payments
        self._refunds = refunds

    def routes(self) -> list[web.RouteDef]:
        listing, payments, refunds = Listing(self._backend), self._payments, self._refunds
        payment, registrations = "/v3/payments/{id}", self._registrations
        return [
            self._get("/v3/me", lambda _: shapes.me(self._backend.shop)),
            self._get("/v3/payments", lambda request: listing.payments(_query(request))),
            self._get(payment, lambda request: self._backend.shown(_id(request))),
            self._post("/v3/payments", lambda _, body: payments.create(body)),
            self._post(f"{payment}/capture", payments.capture),
            self._post(f"{payment}/cancel", payments.cancel, empty="{}"),
            self._get("/v3/refunds", lambda request: listing.refunds(_query(request))),
            self._get("/v3/refunds/{id}", lambda request: refunds.shown(_id(request))),
            self._post("/v3/refunds", lambda _, body: refunds.create(body)),
            self._get("/v3/receipts/{id}", lambda request: registrations.shown(_id(request))),
            self._post("/v3/receipts", lambda _, body: registrations.create(body)),
            self._get("/v3/payment_methods/{id}", lambda request: self._method(_id(request))),
        ]

    @web.middleware
    async def errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a refusal with its object, and a wrong method without a body."""
        try:
            return await handler(request)
        except Refused as refused:
            return web.json_response(refused.as_json(), status=refused.status)
        except web.HTTPMethodNotAllowed as error:
            return web.Response(status=405, headers={"Allow": error.headers["Allow"]})
        except web.HTTPNotFound:
            unknown = not_found("YooKassa has no such call, or it is not played here")
            return web.json_response(unknown.as_json(), status=404)

    def _get(self, path: str, read: Read) -> web.RouteDef:
        async def handle(request: web.Request) -> web.Response:
            self._check_credentials(request)
            fault = self._planned(f"GET {path}")
            return _answer(request, 200, read(request), fault)

        return web.route("GET", path, handle)

    def _post(self, path: str, act: Act, *, empty: str = "") -> web.RouteDef:
        async def handle(request: web.Request) -> web.Response:
            self._check_credentials(request)
            if request.content_type != _JSON and (request.can_read_body or not empty):
                return web.Response(status=415)
            key, body = _idempotence_key(request), _parsed(await request.read() or empty.encode())
            fault = self._planned(f"POST {path}")
            status, answer = self._once(key, request, body, act)
            return _answer(request, status, answer, fault)

        return web.route("POST", path, handle)

    def _planned(self, call: str) -> PlannedAnswer | None:
        """The fault of this call. Raises `Refused` for one that comes before any effect."""
        fault = self._backend.faults.of_call(call)
        if fault is not None and fault.answer in _WITHOUT_EFFECT:
            _refuse(fault)
        return fault

    def _once(self, key: str, request: web.Request, body: Any, act: Act) -> tuple[int, Json]:
        """The stored answer of this key, or act and store the answer with the effect.

        The whole request belongs to the key: its path too. A refusal is stored as well, since
        YooKassa asks for a new key after one.
        """
        state, now_ms = self._backend.state, self._backend.clock.now_ms()
        digest = _digest(request.path, body)
        if (kept := state.kept_answer(key)) is not None:
            if kept[0] != digest:
                raise invalid("Idempotence key duplicated", "Idempotence-Key")
            return kept[1], kept[2]
        try:
            with self._backend.transaction():
                answer = act(request.match_info.get("id", ""), body)
                state.keep_answer(key, digest, 200, answer, now_ms)
        except Refused as refused:
            if refused.status != 400:
                raise
            answer = refused.as_json()
            with self._backend.transaction():
                state.keep_answer(key, digest, 400, answer, now_ms)
            return 400, answer
        return 200, answer

    def _method(self, method_id: str) -> Json:
        method = self._backend.state.method(method_id)
        if method is None:
            raise not_found("Payment method doesn't exist or access denied", "payment_method_id")
        return shapes.saved_method(method, self._backend.shop)

    def _check_credentials(self, request: web.Request) -> None:
        shop = self._backend.shop
        kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise wrong_credentials() from None
        wanted = f"{shop.shop_id}:{shop.secret_key}".encode()
        if kind != "Basic" or not hmac.compare_digest(given, wanted):
            raise wrong_credentials()


def _idempotence_key(request: web.Request) -> str:
    key = request.headers.get("Idempotence-Key", "")
    if not _KEY.fullmatch(key):
        raise invalid("A key of 1 to 64 of 0-9a-zA-Z+-_. is expected", "Idempotence-Key")
    return key


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise invalid("The body is not JSON in UTF-8") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _digest(path: str, body: Any) -> str:
    return hashlib.sha256(f"{path}\n{json.dumps(body, sort_keys=True)}".encode()).hexdigest()


def _answer(
    request: web.Request, status: int, answer: Json, fault: PlannedAnswer | None
) -> web.Response:
    """The answer, or the planned one in its place."""
    if fault is None:
        return web.json_response(answer, status=status)
    if fault.answer == "lost":
        cut(request)
    if fault.answer != "202":
        _refuse(fault)
    return web.json_response({**_PROCESSING, "retry_after": fault.retry_after_ms}, status=202)


def _refuse(fault: PlannedAnswer) -> NoReturn:
    if fault.answer == "429":
        raise too_many_requests(fault.retry_after_ms)
    raise internal(fault.retry_after_ms)


def _id(request: web.Request) -> str:
    return request.match_info["id"]


def _query(request: web.Request) -> list[tuple[str, str]]:
    return list(request.query.items())
