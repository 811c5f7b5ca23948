"""One pool per service, and transactions that are visible where they are used."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import Any

import asyncpg
import structlog
from asyncpg.connect_utils import SessionAttribute
from asyncpg.exceptions._base import DataError as UnsendableError

log = structlog.get_logger()

ACQUIRE_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
POOL_SIZE = 10
WRITABLE = SessionAttribute.read_write
"""Of several hosts in a DSN the primary is chosen; of one, a read-only server is no server."""

LIBPQ_VARIABLE = re.compile(r"PG[A-Z]+")

Row = asyncpg.Record

NOW = "select shop_now()"

IS_READ_ONLY = "select current_setting('transaction_read_only') = 'on'"

READ_ONLY = "25006"
# The server ends the session, or the pooler before it has lost its own connection.
SESSION_ENDS = ("57P", "08")


async def _nothing_to_reset(_: Any) -> None:
    """Sessions keep no state: locks and settings end with their transaction. Saves a round trip."""


class PoolBusyError(Exception):
    """No connection became free in time."""


class ReadOnlyError(Exception):
    """The server refuses to write: another one is the primary, or nobody may write now."""

    def __init__(self) -> None:
        super().__init__("the database is read-only")


class Tx:
    """An open transaction. Only functions that take one may write."""

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
        """Run a statement; returns PostgreSQL's command tag."""
        tag: str = await self.connection.execute(sql, *args)
        return tag

    async def now(self) -> datetime:
        """The start of this transaction, by the database's clock, which all replicas share."""
        if self._now is None:
            self._now = await self.connection.fetchval(NOW)
        assert self._now is not None, "a transaction has a beginning"
        return self._now

    def began(self, at: datetime) -> None:
        """Set the start: another statement has returned `shop_now()` among its columns."""
        self._now = at

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run after the commit: wake-ups and metrics must not precede it."""
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
        forget_libpq_variables()
        with _read_only_named():
            self._pool = await asyncpg.create_pool(
                self.dsn,
                min_size=1,
                max_size=self.size,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                max_inactive_connection_lifetime=300,
                reset=_nothing_to_reset,
                target_session_attrs=WRITABLE,
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
        """How many more connections are available now."""
        return (
            0
            if self._pool is None
            else self.size - self._pool.get_size() + self._pool.get_idle_size()
        )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool is None:
            raise PoolBusyError("the database is not open yet")
        try:
            async with asyncio.timeout(
                ACQUIRE_TIMEOUT_S
            ):  # The pool's own would make a task of each.
                with _read_only_named():
                    connection = await self._pool.acquire()
        except TimeoutError as error:
            raise PoolBusyError("no connection became free in time") from error
        try:
            yield connection
        except (asyncpg.PostgresError, ReadOnlyError) as error:
            state = getattr(error, "sqlstate", None) or ""
            if state == READ_ONLY or isinstance(error, ReadOnlyError):
                # Other sessions of the pool have the same server, and some of them only read.
                await self._pool.expire_connections()
            elif state.startswith(SESSION_ENDS):
                connection.terminate()
            raise
        finally:
            await self._pool.release(connection, timeout=ACQUIRE_TIMEOUT_S)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Commit at the end of the block. An exception is raised, also if the rollback fails."""
        async with self._connection() as connection:
            tx, whole = Tx(connection), connection.transaction()
            await whole.start()
            try:
                yield tx
            except BaseException:
                with suppress(
                    Exception
                ):  # The session is gone, and with it what was begun; a cancel stays a cancel.
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

    async def check_writable(self) -> None:
        """Raises ReadOnlyError, or whatever keeps the database from an answer."""
        async with self._connection() as connection:
            await check_writable(connection)

    @asynccontextmanager
    async def held(self, **settings: str) -> AsyncIterator[Any]:
        """A connection outside the pool, for a relay or a session lock; closed at the end."""
        forget_libpq_variables()
        names = {"application_name": f"{self.name}-held", "timezone": "UTC"}
        with _read_only_named():
            connection = await asyncpg.connect(
                self.dsn,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                target_session_attrs=WRITABLE,
                server_settings=names | settings,
            )
        try:
            yield connection
        finally:
            connection.terminate() if connection.is_closed() else await connection.close(timeout=2)


def forget_libpq_variables() -> None:
    """Remove PGSSLMODE and its like from the environment of this process: the DSN says all.

    asyncpg reads them for each connection, and one that somebody exported for psql would change
    what a service does.
    """
    names = sorted(name for name in os.environ if LIBPQ_VARIABLE.fullmatch(name))
    for name in names:
        del os.environ[name]
    if names:
        log.warning("variables of the environment are ignored: the DSN decides", names=names)


async def check_writable(connection: Any) -> None:
    """Raises ReadOnlyError. A session outlives the failover that made its server a standby."""
    if await connection.fetchval(IS_READ_ONLY):
        raise ReadOnlyError


@contextmanager
def _read_only_named() -> Iterator[None]:
    try:
        yield
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise ReadOnlyError from error


def database_is_to_blame(error: BaseException) -> bool:
    """True for errors that pass: lost connections, deadlocks, time-outs, failovers, a busy pool."""
    if data_is_to_blame(error):
        return False
    if isinstance(error, asyncpg.PostgresError):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        return "clos" in str(error) or "released" in str(error)
    if isinstance(
        error, asyncpg.InternalClientError
    ):  # The server has said farewell, and not hung up yet.
        return "cannot switch to state" in str(error)
    return isinstance(error, PoolBusyError | ReadOnlyError | OSError | TimeoutError)


# Data exception, constraint violation, program limit exceeded (a key that no index row holds).
DATA_CLASSES = frozenset({"22", "23", "54"})


def data_is_to_blame(error: BaseException) -> bool:
    """True for values that PostgreSQL refuses or the client cannot send: a repeat fails again."""
    if isinstance(error, asyncpg.PostgresError):
        return (getattr(error, "sqlstate", None) or "")[:2] in DATA_CLASSES
    return isinstance(error, UnsendableError | UnicodeError)


def columns(rows: Sequence[Sequence[object]], width: int) -> list[list[object]]:
    """Rows as the parallel arrays that `unnest` takes. `width` gives the shape without rows."""
    return (
        [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
    )
