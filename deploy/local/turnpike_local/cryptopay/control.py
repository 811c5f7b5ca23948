"""The entry point for people and tests: JSON under `/stand-in/`, which the provider has not."""

from decimal import Decimal
from typing import cast, get_args

from aiohttp import web

from turnpike_local.standin.app import Handler
from turnpike_local.standin.plan import PLANNED_MOST

from . import amounts
from .arguments import is_unicode
from .currencies import ASSETS
from .notices import Notices
from .planned_faults import Answer, CallFault, Fate, NoticeFault
from .provider import Provider, Unable
from .records import Invoice, Rate
from .rules import Json

_USER_ID_MOST = 2**52
_LATE_MOST_S = 30 * 24 * 3600
_URL_CHARS = 2048
_BALANCE_MOST = Decimal(10**9)
_USD_LEAST, _USD_MOST = Decimal("0.0001"), Decimal(10**7)


class Control:
    """The routes. Each reads the request, acts and answers with the app's present state."""

    def __init__(self, provider: Provider, notices: Notices) -> None:
        self._provider = provider
        self._state = provider.state
        self._notices = notices

    def routes(self) -> list[web.RouteDef]:
        invoice = r"/stand-in/invoices/{invoice:\d{1,15}}"
        return [
            web.get("/stand-in/app", self._app),
            web.post("/stand-in/app", self._allow),
            web.post("/stand-in/webhook", self._set_webhook),
            web.post("/stand-in/people", self._add_person),
            web.post("/stand-in/balance", self._add_to_balance),
            web.post("/stand-in/rates", self._set_rate),
            web.post("/stand-in/faults", self._plan_faults),
            web.post(f"{invoice}/pay", self._pay),
            web.post(f"{invoice}/expire", self._expire),
            web.post(f"{invoice}/repeat", self._repeat),
        ]

    async def _app(self, _: web.Request) -> web.Response:
        app = {
            "posts_notices": self._notices.is_running,
            "transfers": self._state.setting("transfers", False),
            "comments": self._state.setting("comments", False),
            "webhook": self._provider.webhook,
            "webhook_failures": self._state.failure_count(),
            "waiting_notices": self._state.notice_count(),
        }
        return web.json_response(app)

    async def _allow(self, request: web.Request) -> web.Response:
        body = await _body(request)
        with self._state.transaction():
            for name in ("transfers", "comments"):
                if name in body:
                    self._state.put_setting(name, _flag(body, name, default=False))
        return await self._app(request)

    async def _set_webhook(self, request: web.Request) -> web.Response:
        self._provider.set_webhook(_string(await _body(request), "url", chars=_URL_CHARS))
        return await self._app(request)

    async def _add_person(self, request: web.Request) -> web.Response:
        self._state.add_person(_integer(await _body(request), "user_id", _USER_ID_MOST))
        return await self._app(request)

    async def _add_to_balance(self, request: web.Request) -> web.Response:
        body = await _body(request)
        asset = _asset(body)
        amount = amounts.parsed(_string(body, "add"), amounts.PLACES)
        with self._state.transaction():
            available = self._state.balances().get(asset, Decimal(0))
            if amount is None or available + amount > _BALANCE_MOST:
                raise _wrong("add")
            self._state.add_to_balance(asset, amount)
        return await self._app(request)

    async def _set_rate(self, request: web.Request) -> web.Response:
        body = await _body(request)
        usd = amounts.parsed(_string(body, "usd"), amounts.PLACES)
        if usd is None or not _USD_LEAST <= usd <= _USD_MOST:
            raise _wrong("usd")
        self._state.put_rate(_asset(body), Rate(usd, _flag(body, "is_valid", default=True)))
        return await self._app(request)

    async def _plan_faults(self, request: web.Request) -> web.Response:
        body, faults = await _body(request), self._provider.faults
        if body.get("clear") is True:
            faults.calls.clear()
            faults.notices.clear()
        count = _integer(body, "count", PLANNED_MOST, default=1)
        if "answer" in body:
            answer = cast("Answer", _one_of(body, "answer", get_args(Answer)))
            faults.calls.add(CallFault(answer, _string(body, "method") or None), count)
        if "notice" in body:
            fate = cast("Fate", _one_of(body, "notice", get_args(Fate)))
            late_s = _integer(body, "late_s", _LATE_MOST_S, default=0)
            faults.notices.add(NoticeFault(fate, late_s), count)
        return await self._app(request)

    # Invoices

    async def _pay(self, request: web.Request) -> web.Response:
        body = await _body(request)
        self._provider.pay(
            self._invoice(request),
            _asset(body),
            anonymously=_flag(body, "anonymously", default=False),
            comment=_string(body, "comment"),
        )
        return await self._app(request)

    async def _expire(self, request: web.Request) -> web.Response:
        self._provider.expire(self._invoice(request))
        return await self._app(request)

    async def _repeat(self, request: web.Request) -> web.Response:
        self._provider.repeat_notice(self._invoice(request))
        return await self._app(request)

    def _invoice(self, request: web.Request) -> Invoice:
        invoice = self._state.invoice(int(request.match_info["invoice"]))
        if invoice is None:
            raise Unable("unknown", "No such invoice.")
        return invoice


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An act that is not possible answers 409 with its sentence."""
    try:
        return await handler(request)
    except Unable as unable:
        return web.json_response({"error": str(unable), "reason": unable.reason}, status=409)


async def _body(request: web.Request) -> Json:
    try:
        body = await request.json()
    except ValueError as error:
        raise Unable("body", "The body has to be JSON.") from error
    if not isinstance(body, dict):
        raise Unable("body", "The body has to be an object.")
    return body


def _string(body: Json, name: str, *, chars: int = 1024) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > chars or not is_unicode(value):
        raise _wrong(name)
    return value


def _one_of(body: Json, name: str, known: tuple[str, ...]) -> str:
    value = _string(body, name)
    if value not in known:
        raise _wrong(name)
    return value


def _asset(body: Json) -> str:
    return _one_of(body, "asset", tuple(ASSETS))


def _integer(body: Json, name: str, most: int, *, default: int | None = None) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _wrong(name)
    return value


def _flag(body: Json, name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(name)
    return value


def _wrong(name: str) -> Unable:
    return Unable(name, f"“{name}” is missing or has a wrong value.")
