"""Health endpoints: does the event loop run (`/livez`), and can this process work (`/readyz`)?"""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from faststream.asgi import AsgiResponse, get

from shared.platform.db import Database, ReadOnlyError
from shared.platform.loops import set_within
from shared.platform.migrate import missing

if TYPE_CHECKING:
    from shared.messaging.rpc import Bus

BEAT_S = 0.5
LATE_S = 10.0
PROBE_TIMEOUT_S = 2.0


class Health:
    """Liveness checks the loop only; readiness checks the bus and the database pool."""

    def __init__(
        self, package: str, database: Database, bus: "Bus", stopping: asyncio.Event
    ) -> None:
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
            await set_within(stopping, BEAT_S)

    async def _livez(self, _: Any) -> AsgiResponse:
        late = (
            self.opened and not self.stopping.is_set() and time.monotonic() - self._beat_at > LATE_S
        )
        return AsgiResponse(
            b"the event loop is blocked\n" if late else b"ok\n", 503 if late else 200
        )

    async def _readyz(self, _: Any) -> AsgiResponse:
        wrong = await self.why_not_ready()
        return AsgiResponse(f"{wrong or 'ok'}\n".encode(), 503 if wrong else 200)

    async def why_not_ready(self) -> str | None:
        """The reason in one sentence, or None when this process can work."""
        if self.stopping.is_set():
            return "the service is stopping"
        if not self.opened:
            return "the service is starting"
        if not self.bus.connected:
            refusal = self.bus.refusal
            return f"the bus is not connected{': ' if refusal else ''}{refusal}"
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._what_the_database_lacks()
        except ReadOnlyError as error:
            return str(error)
        except Exception as error:  # Any reason means that no work can be done now.
            if not self.database.free:
                return f"no connection is free: all {self.database.size} are taken"
            return f"the database does not answer: {type(error).__name__}"

    async def _what_the_database_lacks(self) -> str | None:
        """Checked until the schema was complete once: migrations are only ever added."""
        await self.database.check_writable()
        if self._schema_fits:
            return None
        lacking = await missing(self.database, self.package)
        self._schema_fits = not lacking
        return f"the schema lacks {', '.join(lacking)}: turnpike migrate" if lacking else None
