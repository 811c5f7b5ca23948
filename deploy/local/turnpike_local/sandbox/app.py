"""The sandbox put together: one HTTP server on the loopback that is Telegram, a chat page and a receiver of traces."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

from aiohttp import web

from .backend import Backend
from .bot_api import BotApi
from .checkout import Payments
from .control import Control, Handler, refusals
from .limits import Limits
from .methods import Bot
from .people import People
from .rules import Json
from .state import State
from .stumbles import Stumbles
from .traces import Traces
from .updates import Polling, Posting

HOST = "127.0.0.1"
BOT_USERNAME = "turnpike_bot"
_SHUTDOWN_S = 1.0
_BODY_BYTES = 16 * 1024 * 1024  # A photo has at most 10 MiB, an export of spans some hundred KiB.
_PAGE = {"": "index.html", **{name: name for name in ("api.js", "app.js", "chat.js", "story.js", "style.css")}}
_POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_LOCAL_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Traffic reached this page</title>
<body style="font: 18px/1.6 system-ui, sans-serif; max-width: 32rem; margin: 15vh auto; padding: 0 1rem">
<h1>Traffic reached this page</h1><p>Visit number <strong>{visits}</strong>, at {at} UTC, for {host}.</p></body></html>
"""


class Sandbox:
    """A stand-in for Telegram with state in a folder.

    `port=0` takes a free one, which `port` tells after `start`. Raises ValueError for a token that is not of Telegram's
    form, `state.BrokenStateError` for a folder that holds something else, OSError for a port that is taken.
    """

    def __init__(
        self,
        state_folder: Path,
        token: str,
        *,
        port: int = 0,
        limits: Limits | None = None,
        bot_username: str = BOT_USERNAME,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = state_folder
        self._token = token
        self._me = _bot_user(token, bot_username)
        self._wanted_port = port
        self._limits = limits or Limits()
        self._now = now
        self._port: int | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("The sandbox has no port before it is started.")
        return self._port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        self._state = State(self._folder)
        self._backend = Backend(self._state, self._limits, self._me, self._now)
        stumbles = Stumbles()
        self._posting = Posting(self._backend, stumbles)
        self._runner = web.AppRunner(
            self._application(stumbles),
            access_log=None,  # Its lines would carry the bot's token.
            handler_cancellation=True,  # A poll whose bot died must not swallow updates.
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, HOST, self._wanted_port)
            await site.start()
        except OSError:
            await self._runner.cleanup()
            self._state.close()
            raise
        self._port = int(self._runner.addresses[0][1])
        self._posting.start()

    async def stop(self) -> None:
        self._backend.hub.close()
        await self._posting.stop()
        await self._runner.cleanup()
        self._state.close()
        self._port = None

    async def __aenter__(self) -> "Sandbox":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _application(self, stumbles: Stumbles) -> web.Application:
        backend = self._backend
        payments = Payments(backend)
        people = People(backend, payments)
        bot = Bot(backend, payments, Polling(backend), self._posting)
        app = web.Application(middlewares=[refusals, _guard], client_max_size=_BODY_BYTES)
        app.add_routes(BotApi(bot, self._token, stumbles).routes())
        app.add_routes(Control(backend, people, self._posting, stumbles, Traces()).routes())
        app.add_routes([web.get(f"/{name}", _static(file)) for name, file in _PAGE.items()])
        app.add_routes([web.get("/page", self._local_page), web.get("/favicon.ico", _no_icon)])
        return app

    async def _local_page(self, request: web.Request) -> web.Response:
        """The tiny page that a key's traffic fetches through the VPN; it counts who came."""
        visits = int(self._state.setting("page_visits", 0)) + 1
        self._state.put_setting("page_visits", visits)
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%H:%M:%S")
        text = _LOCAL_PAGE.format(visits=visits, at=at, host=escape(request.host))
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})


def _bot_user(token: str, username: str) -> Json:
    number, colon, secret = token.partition(":")
    if not (number.isdecimal() and colon and secret):
        raise ValueError("A bot token is a number, a colon and a secret, as BotFather gives it.")
    return {
        "id": int(number),
        "is_bot": True,
        "first_name": "Turnpike",
        "username": username,
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
    }


def _static(file: str) -> Handler:
    media_type = {"html": "text/html", "js": "text/javascript", "css": "text/css"}[file.rpartition(".")[2]]

    async def serve(_: web.Request) -> web.StreamResponse:
        text = files(__package__).joinpath("page", file).read_text("utf-8")
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
        return web.Response(text=text, content_type=media_type, headers=headers)

    return serve


async def _no_icon(_: web.Request) -> web.Response:
    return web.Response(status=204)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Another site in the same browser gets nothing, also not by a name of its own that points here."""
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return web.json_response({"error": "Only the sandbox's own page may ask."}, status=403)
    return await handler(request)
