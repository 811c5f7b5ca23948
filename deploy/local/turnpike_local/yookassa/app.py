"""The stand-in: one HTTP server on loopback with the API, the pay page and the control API."""

from pathlib import Path

from aiohttp import web

from turnpike_local.standin import Parts, StandIn
from turnpike_local.standin.app import Handler, own_pages_only
from turnpike_local.standin.clock import Clock, SystemClock
from turnpike_local.standin.outside import Tell
from turnpike_local.standin.posting import address

from .api import Api
from .backend import Backend
from .control import Control
from .lifecycle import Payments
from .notices import Notices
from .pay_page import PayPage
from .refunds import Refunds
from .registrations import Registrations
from .shop import Limits, Shop
from .side import Side
from .state import State

_BODY_BYTES = 256 * 1024


class Yookassa(StandIn):
    """A substitute for YooKassa and one shop of it, with state in a folder.

    `notices_to` is the address that the cabinet has from the start on; without it, the kept one
    stays. `chat_url` is where links of the pay page into Telegram lead. Raises ValueError for an
    address that is refused.
    """

    name = title = "YooKassa"

    def __init__(
        self,
        state_folder: Path,
        shop: Shop | None = None,
        *,
        port: int = 0,
        notices_to: str = "",
        chat_url: str = "",
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(port)
        self.tell: Tell = lambda _: None
        self._folder = state_folder
        self._shop = shop or Shop()
        self._notices_to = address(notices_to)
        self._chat_url = chat_url
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()

    def _open(self) -> Parts:
        state = State(self._folder)
        if self._notices_to:
            state.put_setting("notice_url", self._notices_to)
        backend = Backend(
            state, self._shop, self._limits, self._clock, lambda: self.url, self._chat_url
        )
        payments, refunds = Payments(backend), Refunds(backend)
        side = Side(backend, payments, refunds)
        backend.tell = lambda payment: self.tell(side.outside(payment))
        self.plan, self.act, self.take_card = side.plan, side.act, side.take_card
        self._notices = Notices(backend, payments)
        registrations = Registrations(backend)
        api = Api(backend, payments, refunds, registrations)
        app = web.Application(
            middlewares=[api.errors, own_pages_only, self._due_first], client_max_size=_BODY_BYTES
        )
        app.add_routes(api.routes())
        app.add_routes(PayPage(backend, payments).routes())
        control = Control(backend, payments, refunds, registrations, self._notices)
        app.add_routes(control.routes())
        return Parts(state, self._notices, app)

    @web.middleware
    async def _due_first(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Everything that is due by the clock happens before a request is answered."""
        self._notices.tick()
        return await handler(request)
