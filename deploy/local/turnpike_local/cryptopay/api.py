"""The entry point for apps: `/api/<method>`. The answers have the form of pay.crypt.bot."""

import hmac

from aiohttp import web

from turnpike_local.standin.app import cut

from . import shapes
from .arguments import Arguments, read_arguments
from .methods import METHODS, Method
from .planned_faults import CallFault
from .provider import Provider
from .refusals import APP_ERROR, Refused

TOKEN_HEADER = "Crypto-Pay-API-Token"  # noqa: S105 - The name of the header, no secret.


class Api:
    """Reads a call, executes it, and wraps the answer in the provider's envelope."""

    def __init__(self, provider: Provider, token: str) -> None:
        self._provider = provider
        self._token = token
        me = shapes.app(token)
        self._methods = {**METHODS, "getMe": Method(frozenset(), lambda _, __: me)}

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/api/{method}", self._call)]

    async def _call(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check_token(request)
            name = request.match_info["method"]
            method = self._methods.get(name)
            if method is None or request.method not in ("GET", "POST"):
                raise Refused(405, "METHOD_NOT_FOUND")
            fault = self._provider.faults.of_call(name)
            _fail_before(fault)
            result = self._run(method, await read_arguments(request))
            _fail_after(fault, request)
        except Refused as refusal:
            return _refusal(refusal)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(Refused(413, "REQUEST_ENTITY_TOO_LARGE"))
        return web.json_response({"ok": True, "result": result})

    def _run(self, method: Method, call: Arguments) -> object:
        unknown = sorted(call.names() - method.takes)
        if unknown:  # The provider ignores it, and with it a misspelt name.
            raise Refused(400, f"UNKNOWN_PARAMETER_{unknown[0].upper()[:64]}")
        with self._provider.state.transaction():
            return method.run(self._provider, call)

    def _check_token(self, request: web.Request) -> None:
        given = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
            raise Refused(401, "UNAUTHORIZED")


def _fail_before(fault: CallFault | None) -> None:
    if fault is not None and fault.answer == "429":
        raise Refused(429, "TOO_MANY_REQUESTS")
    if fault is not None and fault.answer == "500":
        raise APP_ERROR


def _fail_after(fault: CallFault | None, request: web.Request) -> None:
    if fault is not None and fault.answer == "500_after":
        raise APP_ERROR
    if fault is not None and fault.answer == "lost":
        cut(request)


def _refusal(refusal: Refused) -> web.Response:
    body = {"ok": False, "error": {"code": refusal.code, "name": refusal.name}}
    return web.json_response(body, status=refusal.code)
