"""The entry point for bots: `/bot<token>/<method>` and `/file/bot<token>/<path>`.

The answers have the form of api.telegram.org.
"""

import hmac

from aiohttp import web

from turnpike_local.standin.app import cut

from .arguments import Arguments, read_arguments
from .methods import GET_UPDATES_TAKES, METHODS, Bot, keep_allowed_updates
from .planned_faults import PlannedFaults, refuse
from .rules import Refused, bad_request


class BotApi:
    """Reads a call, executes it, and wraps the answer in Telegram's envelope."""

    def __init__(self, bot: Bot, token: str, faults: PlannedFaults) -> None:
        self._bot = bot
        self._token = token
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route("*", "/bot{token}/{method}", self._call),
            web.get("/file/bot{token}/photos/{file_id}", self._file),
        ]

    async def _call(self, request: web.Request) -> web.StreamResponse:
        if self._faults.is_down:
            cut(request)
        try:
            self._check_token(request)
            method = request.match_info["method"].lower()
            fault = self._faults.of_call(method)
            if fault is not None:
                refuse(fault)
            result = await self._run(method, await read_arguments(request))
        except Refused as refusal:
            return _refusal(refusal)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(Refused(413, "Request Entity Too Large"))
        # Telegram may have gone away during a long poll.
        if fault is not None or self._faults.is_down:
            cut(request)
        return web.json_response({"ok": True, "result": result})

    async def _run(self, name: str, call: Arguments) -> object:
        if name == "getupdates":
            _refuse_unknown(call, GET_UPDATES_TAKES)
            return await self._get_updates(call)
        method = METHODS.get(name)
        if method is None:
            raise Refused(404, "Not Found: method not found")
        _refuse_unknown(call, method.takes)
        with self._bot.backend.transaction():
            return method.run(self._bot, call)

    async def _get_updates(self, call: Arguments) -> object:
        keep_allowed_updates(self._bot.backend, call)
        return await self._bot.polling.get(
            offset=call.integer("offset"),
            limit=call.integer("limit", 100),
            timeout_s=call.integer("timeout"),
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check_token(request)
        except Refused as refusal:
            return _refusal(refusal)
        photo = self._bot.backend.state.photo(request.match_info["file_id"])
        if photo is None:
            return _refusal(Refused(404, "Not Found"))
        return web.Response(body=photo.content, content_type=photo.media_type)

    def _check_token(self, request: web.Request) -> None:
        if not hmac.compare_digest(request.match_info["token"].encode(), self._token.encode()):
            raise Refused(401, "Unauthorized")


def _refuse_unknown(call: Arguments, takes: frozenset[str]) -> None:
    """An unknown parameter is an error here. Telegram ignores it, and with it a misspelt name."""
    unknown = sorted(call.names() - takes)
    if unknown:
        raise bad_request(
            f'the sandbox does not know the parameter "{unknown[0]}" (Telegram would ignore it)'
        )


def _refusal(refusal: Refused) -> web.Response:
    body: dict[str, object] = {
        "ok": False,
        "error_code": refusal.code,
        "description": refusal.description,
    }
    headers = {}
    if refusal.retry_after_s is not None:
        body["parameters"] = {"retry_after": refusal.retry_after_s}
        headers["Retry-After"] = str(refusal.retry_after_s)
    return web.json_response(body, status=refusal.code, headers=headers)
