"""One pool per service, and transactions that are visible where they are used."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import asyncpg

ACQUIRE_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
POOL_SIZE = 10

Row = asyncpg.Record

NOW = "select now()"


async def _nothing_to_reset(_: Any) -> None:
    """Nobody here leaves anything in a session (locks and settings end with their transaction): a round trip saved."""


class PoolBusyError(Exception):
    """No connection became free in time."""


class Tx:
    """An open transaction. Only functions that are given one write."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._after_commit: list[Callable[[], None]] = []
        self._now: datetime | None = None

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        rows: list[Row] = await self.connection.fetch(sql, *args)
        return rows

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        row: Row | None = await self.connection.fetchrow(sql, *args)
        return row

    async def fetchval(self, sql: str, *args: object) -> Any:
        return await self.connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> str:
        """Run a statement without rows; answers PostgreSQL's command tag."""
        tag: str = await self.connection.execute(sql, *args)
        return tag

    async def now(self) -> datetime:
        """The moment this transaction began, by the database's clock: the one clock that every replica shares."""
        if self._now is None:
            self._now = await self.connection.fetchval(NOW)
        assert self._now is not None, "a transaction has a beginning"
        return self._now

    def began(self, at: datetime) -> None:
        """Another statement has answered `now()` beside what it was for."""
        self._now = at

    def after_commit(self, call: Callable[[], None]) -> None:
        """Wake-ups and metrics speak only once the transaction is true."""
        self._after_commit.append(call)

    def committed(self) -> None:
        for call in self._after_commit:
            call()


class Database:
    """The service's connections. Statement and idle time-outs come with the app role."""

    def __init__(self, dsn: str, *, name: str, size: int = POOL_SIZE) -> None:
        self.dsn = dsn
        self.name = name
        self.size = size
        self._pool: Any = None

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self.dsn,
            min_size=1,
            max_size=self.size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            max_inactive_connection_lifetime=300,
            reset=_nothing_to_reset,
            server_settings={"application_name": self.name, "timezone": "UTC"},
        )

    async def close(self, *, timeout_s: float = 5.0) -> None:
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), timeout_s)
        except TimeoutError:
            self._pool.terminate()

    @property
    def free(self) -> int:
        """How many more connections could be had at this moment."""
        return 0 if self._pool is None else self.size - self._pool.get_size() + self._pool.get_idle_size()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool is None:
            raise PoolBusyError("the database is not open yet")
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S):  # The pool's own would make a task of each.
                connection = await self._pool.acquire()
        except TimeoutError as error:
            raise PoolBusyError("no connection became free in time") from error
        try:
            yield connection
        finally:
            await self._pool.release(connection, timeout=ACQUIRE_TIMEOUT_S)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Committed at the end of the block. What ends the block otherwise is raised, also where the rollback fails."""
        async with self._connection() as connection:
            tx, whole = Tx(connection), connection.transaction()
            await whole.start()
            try:
                yield tx
            except BaseException:
                with suppress(Exception):  # The session is gone, and with it what was begun; a cancel stays a cancel.
                    await whole.rollback()
                raise
            await whole.commit()
            tx.committed()

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        async with self._connection() as connection:
            rows: list[Row] = await connection.fetch(sql, *args)
            return rows

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        async with self._connection() as connection:
            row: Row | None = await connection.fetchrow(sql, *args)
            return row

    async def fetchval(self, sql: str, *args: object) -> Any:
        async with self._connection() as connection:
            return await connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> str:
        async with self._connection() as connection:
            tag: str = await connection.execute(sql, *args)
            return tag

    @asynccontextmanager
    async def held(self, **settings: str) -> AsyncIterator[Any]:
        """A connection of one's own outside the pool, for a relay or a session lock; closed at the end."""
        connection = await asyncpg.connect(
            self.dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={"application_name": f"{self.name}-held", "timezone": "UTC"} | settings,
        )
        try:
            yield connection
        finally:
            connection.terminate() if connection.is_closed() else await connection.close(timeout=2)


def database_is_to_blame(error: BaseException) -> bool:
    """True for what passes by itself: lost connections, deadlocks, time-outs, a busy pool. Not for data errors."""
    if isinstance(error, asyncpg.PostgresError):
        return not data_is_to_blame(error)
    if isinstance(error, asyncpg.InterfaceError):
        return "clos" in str(error) or "released" in str(error)
    if isinstance(error, asyncpg.InternalClientError):  # The server has said farewell, and not hung up yet.
        return "cannot switch to state" in str(error)
    return isinstance(error, PoolBusyError | OSError | TimeoutError)


def data_is_to_blame(error: BaseException) -> bool:
    """SQLSTATE classes 22 (data exception) and 23 (constraint violation): asking again gives the same answer."""
    return isinstance(error, asyncpg.PostgresError) and (getattr(error, "sqlstate", None) or "")[:2] in ("22", "23")


def columns(rows: Sequence[Sequence[object]], width: int) -> list[list[object]]:
    """Rows turned into the parallel arrays that `unnest` takes; `width` keeps the shape when there are none."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
