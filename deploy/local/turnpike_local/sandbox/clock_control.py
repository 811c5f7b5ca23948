"""The shop's clock under `/sandbox/clock`: its time, and a move of it for the whole shop."""

from aiohttp import web

from turnpike_local.clock import CannotMoveError, ShopClock

from .backend import Backend
from .control import body_of, whole_number
from .people import Unable


class ClockControl:
    def __init__(self, backend: Backend, clock: ShopClock) -> None:
        self._backend = backend
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sandbox/clock", self._read),
            web.post("/sandbox/clock", self._move),
        ]

    async def _read(self, _: web.Request) -> web.Response:
        return self._answer()

    async def _move(self, request: web.Request) -> web.Response:
        """Move the clock `by_s` seconds ahead."""
        by_s = whole_number(await body_of(request), "by_s")
        try:
            await self._clock.move(by_s)
        except CannotMoveError as error:
            raise Unable(str(error)) from error
        return self._answer()

    def _answer(self) -> web.Response:
        clock = self._clock
        answer = {"now_s": clock.now(), "ahead_s": clock.ahead_s, "moves": clock.moves}
        return web.json_response(answer)
