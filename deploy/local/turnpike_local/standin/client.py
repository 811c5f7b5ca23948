"""The client of a stand-in's control API, for tests and demos."""

from typing import Any, Self

import aiohttp

_REQUEST_S = 60.0


class ControlClient:
    """Use it as an async context manager. A refusal raises `refused` with its sentence."""

    refused: type[Exception]
    sentence = "error"
    """The field of a refusal that holds its sentence."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(self, verb: str, path: str, **options: Any) -> dict[str, Any]:
        async with self._http().request(verb, f"{self._base_url}{path}", **options) as answer:
            body: dict[str, Any] = await answer.json()
            if answer.status >= 400:
                raise self.refused(body[self.sentence])
            return body

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST_S))
        return self._session
