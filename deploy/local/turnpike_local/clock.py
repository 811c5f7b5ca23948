"""The clock of the local shop: it may be ahead of the machine's, and it only goes forward.

The sandbox's process moves it. `postgres/ahead` in the state folder keeps by how many seconds, so
the clock is forgotten with the database. The stand-ins have it from this process, and the services
from a setting of the database, in sessions that begin after a move.
"""

import asyncio
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from shared.platform.db import forget_libpq_variables
from turnpike_cli.local_shop import AHEAD, LocalShop, NoShopError, ahead_s_of, running_shop
from turnpike_local.postgres import BROKEN, DATABASE, SET_AHEAD, SUPERUSER
from turnpike_local.processes import StartError
from turnpike_local.waiting import until

LONGEST = timedelta(days=3650)
"""The most that the clock may be ahead. Dates of the Bot API are numbers of 32 bits."""

_MOVE_TIMEOUT_S = 10.0
_POLL_S = 0.05
_UNITS = {"d": 86_400, "h": 3_600, "m": 60}

DATABASE_TIME = "select clock_timestamp()"

# A session that is still starting may have read the settings already, and has no name yet.
END_SESSIONS = """
select pg_terminate_backend(pid)
from pg_stat_activity
where backend_type = 'client backend'
  and backend_start <= $1
  and (usename is null or usename like '%\\_app')
"""


class CannotMoveError(Exception):
    """The clock does not move. The message is the sentence that a person reads."""


class ShopClock:
    """The shop's time for the stand-ins. Without a state folder it is the machine's."""

    def __init__(self, state_dir: Path | None = None) -> None:
        self._state_dir = state_dir
        self._moving = asyncio.Lock()
        self.ahead_s = 0 if state_dir is None else kept_ahead_s(state_dir)
        self.moved: list[Callable[[int], None]] = []
        """Called with the seconds of each move, at its moment."""

    @property
    def moves(self) -> bool:
        return self._state_dir is not None

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.ahead_s

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_s * 1000

    async def move(self, by_s: int) -> None:
        """Move the stand-ins and all services ahead. Raises `CannotMoveError`.

        The file is written first: after a death in between, the next start of the shop moves the
        services, too.
        """
        if self._state_dir is None:
            raise CannotMoveError("This sandbox stands alone: it has no shop whose clock moves.")
        async with self._moving:
            ahead_s = self.ahead_s + by_s
            if by_s <= 0:
                raise CannotMoveError("The clock only goes forward.")
            if ahead_s > LONGEST.total_seconds():
                raise CannotMoveError(f"The clock goes at most {LONGEST.days} days ahead.")
            try:
                shop = running_shop({"TURNPIKE_STATE_DIR": str(self._state_dir)})
                async with asyncio.timeout(_MOVE_TIMEOUT_S):
                    await self._move_to(ahead_s, shop)
            except NoShopError as error:
                raise CannotMoveError(str(error)) from error
            except (*BROKEN, TimeoutError) as error:
                raise CannotMoveError(
                    f"The database could not be told: {error or 'it takes too long'}. Try again."
                ) from error

    async def _move_to(self, ahead_s: int, shop: LocalShop) -> None:
        forget_libpq_variables()
        dsn = next(iter(shop.dsns.values()))
        connection = await asyncpg.connect(dsn, user=SUPERUSER, passfile=str(shop.passwords))
        try:
            _keep(shop.folder, ahead_s)
            await connection.execute(SET_AHEAD.format(database=DATABASE, ahead_s=ahead_s))
            by_s, self.ahead_s = ahead_s - self.ahead_s, ahead_s
            for call in self.moved:
                call(by_s)
            set_at = await connection.fetchval(DATABASE_TIME)

            async def all_ended() -> bool:
                return not await connection.fetch(END_SESSIONS, set_at)

            await until(
                all_ended,
                "the sessions of before have ended",
                timeout_s=_MOVE_TIMEOUT_S,
                poll_s=_POLL_S,
            )
        finally:
            connection.terminate()


def kept_ahead_s(state_dir: Path) -> int:
    """How far the clock of this state folder is ahead. Raises `StartError` for a broken file."""
    try:
        return ahead_s_of(state_dir)
    except ValueError as error:
        raise StartError(
            f"{state_dir / AHEAD} is broken: it holds the seconds that the clock is ahead."
        ) from error


def _keep(state_dir: Path, ahead_s: int) -> None:
    path = state_dir / AHEAD
    half = path.with_suffix(".half")
    half.write_text(f"{ahead_s}\n")
    half.rename(path)


def seconds_in(text: str) -> int:
    """The seconds of a duration such as 30d, 3h or 1d12h30m. Raises ValueError for another text."""
    found = re.fullmatch(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?", text)
    if not text or found is None:
        raise ValueError(f"{text!r} is no duration such as 30d, 3h or 1d12h")
    return sum(
        int(number or 0) * unit
        for number, unit in zip(found.groups(), _UNITS.values(), strict=True)
    )


def shown(seconds: int) -> str:
    """A duration as `seconds_in` reads it: 1d12h. Seconds below a minute are left out."""
    parts = []
    for unit, length in _UNITS.items():
        count, seconds = divmod(seconds, length)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0m"


def sentence(now: datetime, ahead_s: int) -> str:
    """The shop's time for `turnpike clock`."""
    by = f"{shown(ahead_s)} ahead of this machine" if ahead_s else "the time of this machine"
    return f"The shop's time is {now:%Y-%m-%d %H:%M:%S} UTC, {by}."
