"""Is the loop turning (`/livez`), and can work be done here (`/readyz`)?"""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from faststream.asgi import AsgiResponse, get

from shared.db import Database
from shared.migrate import missing
from shared.waiting import happens

if TYPE_CHECKING:
    from shared.bus import Bus

BEAT_S = 0.5
LATE_S = 10.0
PROBE_TIMEOUT_S = 2.0

ALIVE = "select 1"


class Health:
    """Liveness looks at the loop only; readiness asks the bus, and the database through the pool."""

    def __init__(self, package: str, database: Database, bus: "Bus", stopping: asyncio.Event) -> None:
        self.package = package
        self.database = database
        self.bus = bus
        self.stopping = stopping
        self.opened = False
        self._schema_fits = False
        self._beat_at = time.monotonic()
        self.livez = get(self._livez)
        self.readyz = get(self._readyz)

    async def beat(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self._beat_at = time.monotonic()
            await happens(stopping, BEAT_S)

    async def _livez(self, _: Any) -> AsgiResponse:
        late = self.opened and not self.stopping.is_set() and time.monotonic() - self._beat_at > LATE_S
        return AsgiResponse(b"the loop stands still\n" if late else b"ok\n", 503 if late else 200)

    async def _readyz(self, _: Any) -> AsgiResponse:
        wrong = await self.why_not_ready()
        return AsgiResponse(f"{wrong or 'ok'}\n".encode(), 503 if wrong else 200)

    async def why_not_ready(self) -> str | None:
        """One sentence, or None when work can be done here."""
        if self.stopping.is_set():
            return "the service is stopping"
        if not self.opened:
            return "the service is starting"
        if not self.bus.connected:
            return "the bus is not connected"
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._what_the_database_lacks()
        except Exception as error:  # Whatever the reason, no work can be done here now.
            if not self.database.free:
                return f"no connection is free: all {self.database.size} are taken"
            return f"the database does not answer: {type(error).__name__}"

    async def _what_the_database_lacks(self) -> str | None:
        """Asked until the schema once had everything: migrations are only ever added."""
        if self._schema_fits:
            await self.database.fetchval(ALIVE)
            return None
        lacking = await missing(self.database, self.package)
        self._schema_fits = not lacking
        return f"the schema lacks {', '.join(lacking)}: turnpike migrate" if lacking else None
