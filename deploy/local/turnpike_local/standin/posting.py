"""Posts to the address of a shop: a loop that starts them, and a provider's repeated notices."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from shared.platform.backoff import backoff
from shared.platform.loops import set_within

log = logging.getLogger(__name__)

_AT_ONCE = 16
_ADDRESSES = ("https://", "http://127.0.0.1:", "http://localhost:")


def is_address(url: str) -> bool:
    """Whether a stand-in posts there. A provider wants HTTPS; here, HTTP on this machine too."""
    return url.startswith(_ADDRESSES)


def address(url: str) -> str:
    """The address of a shop, or an empty one. Raises ValueError for any other text."""
    if url and not is_address(url):
        raise ValueError(f"Notices go to an https address, or to this machine, not to {url!r}.")
    return url


class Poster(ABC):
    """A loop that starts posts. It and its posts end together."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._posts: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout)
        self._loop = asyncio.create_task(self._run(), name=type(self).__name__)
        self._loop.add_done_callback(_log_death)

    @property
    def is_running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    async def stop(self) -> None:
        tasks = [*self._posts, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._session is not None  # Made in `start`.
        return self._session

    @abstractmethod
    async def _run(self) -> None:
        """Start what is due, again and again, until cancelled."""

    def _begin(self, post: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(post)
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)


@dataclass(frozen=True)
class Schedule:
    """A provider's times for its notices, in seconds. Tests shorten them.

    Each pause is twice as long as the one before, up to the longest.
    """

    first_pause_s: float
    longest_pause_s: float
    timeout_s: float = 10.0
    look_every_s: float = 1.0
    """How often due notices are looked for. A clock that a test moves wakes nobody."""

    def pause_ms(self, failures: int) -> int:
        """The pause after a failed post that had so many failures before it."""
        pause_s = backoff(failures, first_s=self.first_pause_s, longest_s=self.longest_pause_s)
        return round(pause_s * 1000)


class _Identified(Protocol):
    @property
    def id(self) -> int: ...


Notice = TypeVar("Notice", bound=_Identified)


class NoticeLoop(Poster, Generic[Notice]):
    """Posts the notices that are due, several at once and in no order.

    `changed` wakes it when a notice was queued.
    """

    def __init__(self, schedule: Schedule, changed: asyncio.Event) -> None:
        super().__init__(timeout_s=schedule.timeout_s)
        self._schedule = schedule
        self._changed = changed
        self._under_way: set[int] = set()

    @abstractmethod
    def _address(self) -> str:
        """Where notices go; empty for nowhere."""

    @abstractmethod
    def _due(self, most: int) -> Iterable[Notice]:
        """The notices that are due, the longest due first."""

    @abstractmethod
    def _written(self, notice: Notice) -> tuple[bytes, Mapping[str, str]]:
        """The body, and headers besides its content type."""

    @abstractmethod
    def _posted(self, notice: Notice, url: str, *, accepted: bool) -> None:
        """Keep that the shop accepted the notice, or when to post it again."""

    def tick(self) -> None:
        """Do whatever is due by the clock."""
        url = self._address()
        if not url:
            return
        for notice in self._due(2 * _AT_ONCE):
            if notice.id not in self._under_way and len(self._under_way) < _AT_ONCE:
                self._under_way.add(notice.id)
                self._begin(self._post(notice, url))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self.tick()
            await set_within(self._changed, self._schedule.look_every_s)

    async def _post(self, notice: Notice, url: str) -> None:
        try:
            accepted = await self._is_accepted(notice, url)
            self._posted(notice, url, accepted=accepted)
        finally:
            self._under_way.discard(notice.id)
            self._changed.set()

    async def _is_accepted(self, notice: Notice, url: str) -> bool:
        """Exactly 200 accepts a notice. A redirect is not followed."""
        body, headers = self._written(notice)
        headers = {"Content-Type": "application/json", **headers}
        try:
            async with self._http.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status == 200
        except (TimeoutError, aiohttp.ClientError, ValueError):
            return False


def _log_death(loop: asyncio.Task[None]) -> None:
    if not loop.cancelled() and (error := loop.exception()) is not None:
        log.error("the loop of %s died", loop.get_name(), exc_info=error)
