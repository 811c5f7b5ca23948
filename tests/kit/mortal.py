"""A process that may die at each of its statements or at the commit, and a broker that keeps what it was given."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from shared.db import Database, Tx
from shared.inbox import Letter


class DiedError(BaseException):
    """The process is gone: nothing in it may catch this."""


class MortalDatabase(Database):
    """Its user dies before the `dies_at`-th statement of a transaction, the commit being the last; 0 is never."""

    dies_at = 0
    statements = 0
    """Of the last transaction that came to its commit."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        mortal = Mortal(self.dies_at)
        try:
            async with super().transaction() as tx:
                mortal.connection, tx.connection = tx.connection, mortal
                yield tx
                self.statements = mortal.begun
                mortal.begin()
        except BaseException:
            if mortal.died:  # What a cut connection says of its end is nothing that a dead process hears.
                raise DiedError from None
            raise


class Mortal:
    """A connection that counts; the statement at which its owner dies is never sent, and the connection is cut."""

    connection: Any

    def __init__(self, dies_at: int) -> None:
        self.died = False
        self.begun = 0
        self._dies_at = dies_at

    def begin(self) -> None:
        self.begun += 1
        if self.begun == self._dies_at:
            self.died = True
            self.connection.terminate()
            raise DiedError

    def __getattr__(self, name: str) -> Any:
        if name in ("fetch", "fetchrow", "fetchval", "execute"):
            self.begin()
        return getattr(self.connection, name)


REFUSED = SimpleNamespace(data=b'{"error": {"code": 503}}')


class Pipe:
    """A broker as a relay meets it, long after its window for repeats: it keeps every letter that it acknowledges.

    The `refuses`-th request of a round is refused, and with it its batch; 0 is none.
    """

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.refuses = 0
        self._batch: list[Letter] = []
        self._sequence = 0

    async def publish(self, subject: str, body: bytes, *, headers: Mapping[str, str]) -> None:
        self._batch.append(Letter(subject, dict(headers), body))

    async def request(self, subject: str, body: bytes, _: float, *, headers: Mapping[str, str]) -> SimpleNamespace:
        if self._refused():
            return REFUSED
        self._keep(Letter(subject, dict(headers), body))
        if self._batch:
            return SimpleNamespace(data=b"")
        return SimpleNamespace(data=json.dumps({"seq": self._sequence}).encode())

    def _refused(self) -> bool:
        self.refuses -= 1
        if self.refuses == 0:
            self._batch = []
        return self.refuses == 0

    def _keep(self, letter: Letter) -> None:
        """A batch is kept at its commit, and then whole."""
        self._batch.append(letter)
        if "Nats-Batch-Id" not in letter.headers or "Nats-Batch-Commit" in letter.headers:
            self._sequence += len(self._batch)
            self.letters += self._batch
            self._batch = []
