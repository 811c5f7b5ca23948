"""The sandbox: one HTTP server on loopback with a Bot API, a chat page and an OTLP receiver."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

from aiohttp import web

from turnpike_local.clock import ShopClock
from turnpike_local.standin import Parts, StandIn
from turnpike_local.standin.app import Handler, own_pages_only
from turnpike_local.standin.outside import CardTaker, Outside, ProviderSide
from turnpike_local.standin.pages import no_icon, static

from .backend import Backend
from .bot_api import BotApi
from .checkout import Payments
from .clock_control import ClockControl
from .control import Control, refusals
from .keys import Keys
from .limits import Limits
from .methods import Bot
from .people import People
from .planned_faults import PlannedFaults
from .rules import Json
from .sides import Sides
from .state import State
from .trace_control import TraceControl
from .traces import Traces
from .updates import Polling, Posting

BOT_USERNAME = "turnpike_bot"
_BODY_BYTES = 16 * 1024 * 1024  # A photo has at most 10 MiB, an export some hundred KiB.
_FOLDER = files(__package__).joinpath("page")
PAGE = {"": "index.html"} | {
    path.name: path.name for path in _FOLDER.iterdir() if path.name != "index.html"
}
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_LOCAL_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>Traffic reached this page</title>
<body style="font: 18px/1.6 system-ui, sans-serif; max-width: 32rem; margin: 15vh auto;
padding: 0 1rem"><h1>Traffic reached this page</h1>
<p>Visit number <strong>{visits}</strong>, at {at} UTC, for {host}.</p></body></html>
"""


class Sandbox(StandIn):
    """A substitute for Telegram with state in a folder. Raises ValueError for a malformed token.

    `providers` run in the same process: their payments are listed as purchases. `cards` are the
    acquirers of cards, by provider token.
    """

    name = "The sandbox"
    cancels_handlers = True  # The poll of a dead bot must not consume updates.

    def __init__(
        self,
        state_folder: Path,
        token: str,
        *,
        port: int = 0,
        limits: Limits | None = None,
        bot_username: str = BOT_USERNAME,
        clock: ShopClock | None = None,
        now: Callable[[], float] | None = None,
        providers: Sequence[ProviderSide] = (),
        cards: Mapping[str, CardTaker] | None = None,
    ) -> None:
        super().__init__(port)
        self._cards = cards
        self._providers = providers
        self._sides: Sides | None = None
        self._folder = state_folder
        self._token = token
        self._me = _bot_user(token, bot_username)
        self._limits = limits or Limits()
        self._clock = clock or ShopClock()
        self._now = now or self._clock.now

    def _open(self) -> Parts:
        self._state = State(self._folder)
        self._backend = Backend(self._state, self._limits, self._me, self._now)
        self._clock.moved.append(self._backend.clock_moved)
        faults = PlannedFaults()
        self._posting = Posting(self._backend, faults)
        return Parts(self._state, self._posting, self._application(faults))

    @property
    def is_polled(self) -> bool:
        """Whether a bot waits in getUpdates."""
        return self._polling.is_waited_for

    async def stop(self) -> None:
        self._backend.hub.close()  # Open pages would wait for events.
        self._sides = None  # The providers end later.
        await super().stop()

    def _application(self, faults: PlannedFaults) -> web.Application:
        backend = self._backend
        payments = Payments(backend, self._cards)
        people = People(backend, payments)
        self._polling = Polling(backend)
        bot = Bot(backend, payments, self._polling, self._posting)
        app = web.Application(middlewares=[refusals, own_pages_only], client_max_size=_BODY_BYTES)
        app.add_routes(BotApi(bot, self._token, faults).routes())
        keys = Keys(lambda: f"{self.url}/page")
        app.add_routes(Control(backend, people, self._posting, faults, keys).routes())
        app.add_routes(ClockControl(backend, self._clock).routes())
        self._sides = Sides(backend, payments, self._providers)
        app.add_routes(self._sides.routes())
        app.add_routes(TraceControl(backend, Traces()).routes())
        app.add_routes([web.get(f"/{name}", _page_file(file)) for name, file in PAGE.items()])
        app.add_routes([web.get("/page", self._local_page), web.get("/favicon.ico", no_icon)])
        return app

    def take(self, outside: Outside) -> None:
        """A provider tells of a payment. Before the start, nobody listens."""
        if self._sides is not None:
            self._sides.take(outside)

    async def _local_page(self, request: web.Request) -> web.Response:
        """A small page to fetch through the VPN with a key. It counts its visits."""
        visits = int(self._state.setting("page_visits", 0)) + 1
        self._state.put_setting("page_visits", visits)
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%H:%M:%S")
        text = _LOCAL_PAGE.format(visits=visits, at=at, host=escape(request.host))
        return web.Response(
            text=text, content_type="text/html", headers={"Cache-Control": "no-store"}
        )


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


def _page_file(file: str) -> Handler:
    return static(_FOLDER, file, **{"Content-Security-Policy": _POLICY})
