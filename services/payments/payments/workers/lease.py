"""A lease is renewed while a provider is asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

LEASE_S = 8.0
"""The work of a killed process waits for so long."""
RENEWALS_PER_LEASE = 4
KEPT_SHARE = 0.75
"""A worker that could not renew its lease stops well before another one may begin."""
POLL_S = 1.0
"""Work of a dead replica is found so soon. Work of this process rings a bell."""


@asynccontextmanager
async def held(renew: Callable[[], Awaitable[bool]], began: float) -> AsyncIterator[None]:
    """Renew a lease that was claimed at the loop's time `began`, until the block ends.

    Raises `TimeoutError` in the block when the lease could not be kept.
    """
    async with asyncio.timeout_at(began + LEASE_S * KEPT_SHARE) as bound:
        renewing = asyncio.create_task(_renew(renew, bound))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)


async def _renew(renew: Callable[[], Awaitable[bool]], bound: asyncio.Timeout) -> None:
    loop, renewed = asyncio.get_running_loop(), True
    while renewed:
        await asyncio.sleep(LEASE_S / RENEWALS_PER_LEASE)
        began = loop.time()
        renewed = await renew()
        if renewed:
            bound.reschedule(began + LEASE_S * KEPT_SHARE)
