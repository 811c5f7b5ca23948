"""A failure of PostgreSQL or its client is the fault of the data, or of the database."""

import asyncpg
import pytest
from asyncpg.exceptions import _base as client

from shared.platform.db import PoolBusyError, data_is_to_blame, database_is_to_blame

REFUSED = client.DataError("invalid input for query argument $1: 'closed' (out of int64 range)")


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.NumericValueOutOfRangeError("too large"),
        asyncpg.UniqueViolationError("twice"),
        asyncpg.ProgramLimitExceededError("index row size 9024 exceeds btree maximum 2704"),
        asyncpg.StatementTooComplexError("stack depth limit exceeded"),
        asyncpg.TooManyArgumentsError("too many arguments"),
        REFUSED,
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_data_errors_are_blamed_on_the_data(error: Exception) -> None:
    """M-08, M-17: a repeat fails again, whatever the refused value spells."""
    assert (data_is_to_blame(error), database_is_to_blame(error)) == (True, False)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DeadlockDetectedError("deadlock"),
        asyncpg.SerializationError("serialization"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.LockNotAvailableError("lock timeout"),
        asyncpg.ReadOnlySQLTransactionError("standby"),
        asyncpg.DiskFullError("disk"),
        asyncpg.InterfaceError("connection is closed"),
        PoolBusyError(),
        TimeoutError(),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_passing_errors_are_blamed_on_the_database(error: Exception) -> None:
    """M-17: these say nothing about the data."""
    assert (data_is_to_blame(error), database_is_to_blame(error)) == (False, True)


def test_an_error_of_ours_is_blamed_on_neither() -> None:
    """M-17: neither repeated without limit nor dead-lettered at once."""
    assert not data_is_to_blame(KeyError("ours"))
    assert not database_is_to_blame(KeyError("ours"))
