"""YooKassa and Crypto Pay beside the shop: payments there, and the count of what they took.

A provider pauses after a notice that failed, Crypto Pay for a minute, and after 17 of them it posts
none any more. So some money comes only by the watcher of open invoices, or by the listing.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

from shared.contracts.message import Refused
from shared.contracts.payments import Reconcile
from shared.messaging.rpc import Bus, UnansweredError
from tests.kit.acquirers import Acquirer, Fate, Taken, acquirers

FOUND_WITHIN_S = 180.0
LOOK_EVERY_S = 0.3
SETTLED = timedelta(minutes=3)
"""A payment is listed after two minutes. The stand-ins' clocks are not ours to move, so all of
their payments become older by so much."""

# The pace of a provider has tests of its own, and a row does not wait for it.
UNPACED = "update payments.provider_pace set every = interval '10 ms'"
PUT_OFF = """
update payments.invoice_jobs
set due_at = now() + interval '1 hour'
where reference = any($1::text[])
"""
LOOK_NOW = "update payments.invoice_jobs set due_at = now() where reference = any($1::text[])"
BOOKED = "select charge from payments.receipts where acquirer = $1"
RUNNING = """
select acquirer, step, reason
from payments.reconciliations
where id = any($1::uuid[]) and state = 'running'
"""
FOUND_BY_RUNS = """
select charge
from payments.reconciliation_differences
where run = any($1::uuid[]) and kind = 'missing_here'
"""

AGED = {
    "yookassa.sqlite3": (
        """
        update payments
        set created_at_ms = created_at_ms - :ms, captured_at_ms = captured_at_ms - :ms
        """,
        "update refunds set created_at_ms = created_at_ms - :ms",
    ),
    "cryptopay.sqlite3": (
        """
        update invoices
        set created_at_ms = created_at_ms - :ms,
          payment = json_set(
            payment, '$.paid_at_ms', json_extract(payment, '$.paid_at_ms') - :ms
          )
        """,
    ),
}


class Place(Protocol):
    """The shop that the providers stand beside."""

    bus: Bus
    state_dir: Path

    @property
    def urls(self) -> dict[str, str]: ...

    async def fetch(self, sql: str, *arguments: object) -> list[Any]: ...


class Providers:
    """Both stand-ins. `payers` holds the chat of each payer, by acquirer and reference."""

    def __init__(self, shop: Place) -> None:
        self.shop = shop
        self.by_name: dict[str, Acquirer] = acquirers(shop.urls)
        self.payers: dict[tuple[str, str], int] = {}
        self._aged = timedelta()

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self.by_name.values()))

    async def welcome_notices(self) -> None:
        """An operator enters the address again: a provider that was refused may have dropped it."""
        await self.shop.fetch(UNPACED)
        url = self.shop.urls["payments"]
        await asyncio.gather(*(one.post_to_shop(url) for one in self.by_name.values()))

    async def pay(self, wanted: Sequence[tuple[str, str, Fate, int]]) -> None:
        """Pay these, each as acquirer, reference, fate of the notice, and the payer's chat."""
        for acquirer, reference, _, chat in wanted:  # First: another task may be counting.
            self.payers[acquirer, reference] = chat
        dropped = [reference for _, reference, fate, _ in wanted if fate == "never"]
        if dropped:
            await self.shop.fetch(PUT_OFF, dropped)
        await asyncio.gather(
            *(
                self.by_name[acquirer].pay(reference, fate)
                for acquirer, reference, fate, _ in wanted
            )
        )

    # Payments that were taken, and those that are not booked

    async def taken(self) -> dict[tuple[str, str], Taken]:
        """All that the providers accepted, by acquirer and reference."""
        return {
            (name, reference): taken
            for name, acquirer in self.by_name.items()
            for reference, taken in (await acquirer.taken()).items()
        }

    async def unbooked(self) -> dict[str, set[str]]:
        """By acquirer: the references of money that has no receipt."""
        left: dict[str, set[str]] = {}
        for name, acquirer in self.by_name.items():
            booked = {row["charge"] for row in await self.shop.fetch(BOOKED, name)}
            if missing := (await acquirer.taken()).keys() - booked:
                left[name] = set(missing)
        return left

    async def watch(self) -> int:
        """Let the watcher look at every invoice that is paid and not booked; how many those are.

        Raises TimeoutError when one is still not booked after `FOUND_WITHIN_S`.
        """
        left = await self.unbooked()
        count, give_up_at = sum(map(len, left.values())), time.monotonic() + FOUND_WITHIN_S
        if left:
            await self.shop.fetch(LOOK_NOW, [one for some in left.values() for one in some])
        while left:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"the watcher did not find {left}")
            await asyncio.sleep(LOOK_EVERY_S)
            left = await self.unbooked()
        return count

    async def reconcile(self, began_at: datetime, *, always: bool = False) -> int:
        """Compare the listings of what was paid since then; how many came only by them.

        Without `always` only if something is missing. Raises TimeoutError when a run has not
        ended after `FOUND_WITHIN_S`.
        """
        left = {one for some in (await self.unbooked()).values() for one in some}
        if not left and not always:
            return 0
        self._age()
        since = began_at - self._aged - timedelta(minutes=1)
        runs = await self._begun(since)
        give_up_at = time.monotonic() + FOUND_WITHIN_S
        while running := await self.shop.fetch(RUNNING, runs):
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"the runs have not ended: {running}")
            await asyncio.sleep(LOOK_EVERY_S)
        found = {row["charge"] for row in await self.shop.fetch(FOUND_BY_RUNS, runs)}
        return len(left & found)

    def _age(self) -> None:
        self._aged += SETTLED
        for name, statements in AGED.items():
            file = self.shop.state_dir / "sandbox" / name
            with closing(sqlite3.connect(file, timeout=60)) as opened, opened:
                for statement in statements:
                    opened.execute(statement, {"ms": int(SETTLED.total_seconds() * 1000)})

    async def _begun(self, since: datetime) -> list[UUID]:
        """A run for each provider, by the command of an operator."""
        command = Reconcile(
            id=uuid4(),
            actor="operator:chaos",
            role="owner",
            reason="find what no notice told",
            deadline_at=datetime.now(UTC) + timedelta(hours=1),
            since=since,
        )
        give_up_at = time.monotonic() + FOUND_WITHIN_S
        while True:
            try:
                answer = await self.shop.bus.execute(command)
            except UnansweredError:
                if time.monotonic() > give_up_at:
                    raise
                continue
            assert not isinstance(answer, Refused), answer
            return [one.run for one in answer.runs]
