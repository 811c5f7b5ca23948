"""The stand-in: one HTTP server on loopback with the API, the pay page and the control API."""

from pathlib import Path

from aiohttp import web

from turnpike_local.standin import Parts, StandIn
from turnpike_local.standin.app import own_pages_only
from turnpike_local.standin.clock import Clock, SystemClock
from turnpike_local.standin.outside import Tell
from turnpike_local.standin.posting import address

from .api import Api
from .control import Control, refusals
from .limits import Limits
from .notices import Notices
from .pay_page import PayPage
from .provider import Provider
from .state import State

_BODY_BYTES = 256 * 1024  # The largest invoice, with every character escaped, has 130 KiB.


class CryptoPay(StandIn):
    """A substitute for Crypto Pay and one app of it, with state in a folder.

    `notices_to` is the webhook from the start on; without it, the kept one stays. `chat_url` is
    where links of the pay page into Telegram lead. Raises ValueError for a malformed token, and for
    an address that is refused.
    """

    name = title = "Crypto Pay"

    def __init__(
        self,
        state_folder: Path,
        token: str,
        *,
        port: int = 0,
        notices_to: str = "",
        chat_url: str = "",
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(port)
        self.tell: Tell = lambda _: None
        number, colon, secret = token.partition(":")
        if not (number.isdecimal() and number.isascii() and colon and secret):
            raise ValueError("A token is a number, a colon and a secret, as @CryptoBot gives it.")
        self._folder = state_folder
        self._token = token
        self._notices_to = address(notices_to)
        self._chat_url = chat_url
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()

    def _open(self) -> Parts:
        state = State(self._folder)
        provider = Provider(
            state, self._limits, self._clock, lambda: self.url, chat_url=self._chat_url
        )
        provider.tell = lambda outside: self.tell(outside)
        self.plan, self.act = provider.plan, provider.act
        if self._notices_to:
            provider.set_webhook(self._notices_to)
        notices = Notices(provider, self._token)
        app = web.Application(middlewares=[own_pages_only, refusals], client_max_size=_BODY_BYTES)
        app.add_routes(Api(provider, self._token).routes())
        app.add_routes(PayPage(provider).routes())
        app.add_routes(Control(provider, notices).routes())
        return Parts(state, notices, app)
