"""The state of a stand-in: one SQLite file, written before any answer.

Write-ahead logging with `synchronous=normal` survives a kill of the process at any time. A power
cut may lose the last moments, which is acceptable for a stand-in.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SETTINGS = """
create table if not exists settings (name text primary key, value text not null) without rowid;
"""

_FIRST_ID = """
insert into sqlite_sequence (name, seq)
select :name, :seq where not exists (select 1 from sqlite_sequence where name = :name)
"""


class BrokenStateError(Exception):
    """The state folder holds something other than this stand-in's state."""


class SqliteState:
    """The only writer of the file. It runs in one thread, so a transaction is never shared.

    `whose` completes the sentence of `BrokenStateError`. `first_ids` are of tables whose ids begin
    above 1.
    """

    def __init__(
        self, path: Path, schema: str, *, whose: str, first_ids: Mapping[str, int] | None = None
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(_SETTINGS + schema)
            for table, first in (first_ids or {}).items():
                self._db.execute(_FIRST_ID, {"name": table, "seq": first - 1})
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise BrokenStateError(f"{path} is not a state of {whose}: {error}") from error

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction. Inside another one, it is part of that one."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def setting(self, name: str, default: Any = None) -> Any:
        row = self._row("select value from settings where name = ?", name)
        return default if row is None else json.loads(row["value"])

    def put_setting(self, name: str, value: object) -> None:
        replace = "insert or replace into settings (name, value) values (?, ?)"
        self._db.execute(replace, [name, json.dumps(value)])

    def _row(self, query: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return row
