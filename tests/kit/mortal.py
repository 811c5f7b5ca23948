"""A process that may die at each statement or at the commit, and a broker for its relay."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from shared.messaging.inbox import Message
from shared.platform.db import Database, Tx


class DiedError(BaseException):
    """The process is dead: no code in it may catch this."""


class MortalDatabase(Database):
    """Its process dies before the `dies_at`-th statement of a transaction. 0 is never.

    The commit counts as the last statement.
    """

    dies_at = 0
    statements = 0
    """The number of statements of the last transaction that reached its commit."""

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
            if mortal.died:  # A dead process does not see the error of the cut connection.
                raise DiedError from None
            raise


class Mortal:
    """A connection that counts statements.

    The statement at which its process dies is never sent. The connection is cut instead.
    """

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
    """A broker as a relay sees it, after its duplicate window: it keeps every acknowledged message.

    It refuses the `refuses`-th request of a round, and with it the request's batch. 0 is none.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.refuses = 0
        self._batch: list[Message] = []
        self._sequence = 0

    async def publish(self, subject: str, body: bytes, *, headers: Mapping[str, str]) -> None:
        self._batch.append(Message(subject, dict(headers), body))

    async def request(
        self, subject: str, body: bytes, _: float, *, headers: Mapping[str, str]
    ) -> SimpleNamespace:
        if self._refused():
            return REFUSED
        self._keep(Message(subject, dict(headers), body))
        if self._batch:
            return SimpleNamespace(data=b"")
        return SimpleNamespace(data=json.dumps({"seq": self._sequence}).encode())

    def _refused(self) -> bool:
        self.refuses -= 1
        if self.refuses == 0:
            self._batch = []
        return self.refuses == 0

    def _keep(self, message: Message) -> None:
        """Keep a whole batch at its commit."""
        self._batch.append(message)
        if "Nats-Batch-Id" not in message.headers or "Nats-Batch-Commit" in message.headers:
            self._sequence += len(self._batch)
            self.messages += self._batch
            self._batch = []
