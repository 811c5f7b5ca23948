"""A stand-in as a server: its state is opened, one HTTP server on loopback runs, and all ends."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import NamedTuple, NoReturn, Self

from aiohttp import web

from .posting import Poster
from .state import SqliteState

HOST = "127.0.0.1"
_OWN_NAMES = (HOST, "localhost")
_SHUTDOWN_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Parts(NamedTuple):
    """What runs while a stand-in is started."""

    state: SqliteState
    poster: Poster
    app: web.Application


class StandIn(ABC):
    """A server on loopback; use it as an async context manager.

    `port=0` takes a free one, and after the start the property `port` is its number. Starting
    raises `BrokenStateError` for a folder with other content, OSError for a port that is taken.
    """

    name: str
    cancels_handlers = False
    """Whether a request ends when its client goes away."""

    def __init__(self, port: int) -> None:
        self._wanted_port = port
        self._port: int | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"{self.name} has no port before it is started.")
        return self._port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @abstractmethod
    def _open(self) -> Parts:
        """Open the state, and make what works on it."""

    async def start(self) -> None:
        self._parts = self._open()
        self._runner = web.AppRunner(
            self._parts.app,
            access_log=None,  # Its lines would contain tokens, and addresses of invoices.
            handler_cancellation=self.cancels_handlers,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._wanted_port).start()
        except OSError:
            await self._runner.cleanup()
            self._parts.state.close()
            raise
        self._port = int(self._runner.addresses[0][1])
        self._parts.poster.start()

    async def stop(self) -> None:
        await self._runner.cleanup()  # First: a request may start a post.
        await self._parts.poster.stop()
        self._parts.state.close()
        self._port = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@web.middleware
async def own_pages_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests of another site in the same browser, even when its name resolves to us."""
    origin = request.headers.get("Origin")
    own = origin == f"{request.scheme}://{request.host}" and request.url.host in _OWN_NAMES
    if origin is not None and not own:
        error = "Only the stand-in's own page may send requests."
        return web.json_response({"error": error}, status=403)
    return await handler(request)


def cut(request: web.Request) -> NoReturn:
    """Abort the connection without an answer, like a server that dies."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("A planned fault: the answer is lost.")
