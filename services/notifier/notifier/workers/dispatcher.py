"""The dispatcher claims due messages, sends them, and records the outcomes.

    round (one transaction) ──▶ attempts, at most 64 at a time ──▶ verdicts wait for the next round
      settle finished deliveries   query the recipient and the key
      renew the leases             edit or send
      claim due messages

A process that dies leaves its claims behind. They are due again when their lease ends, and the
messages are attempted again: a key or a payment message arrives at least once. A reminder is given
up instead. A message recorded as sent is never sent again.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog

from notifier.domain.deliveries import Claimed, Settled, revised
from notifier.domain.token_bucket import allowance
from notifier.metrics import DELIVERIES, LEASES_LOST
from notifier.store import buckets, claims, deliveries, recipients
from notifier.store.claims import Chat, GivenUp
from notifier.telegram import Telegram
from notifier.workers.attempts import Attempts
from shared.contracts.notifier import DeliveryFailed, RecipientRefused
from shared.messaging.outbox import publish
from shared.messaging.rpc import Bus
from shared.platform import iterations
from shared.platform.db import Database, Tx
from shared.platform.loops import forever, set_within

log = structlog.get_logger()

MAX_IN_FLIGHT = 64
POLL_S = 0.5
SHORTEST_WAIT_S = 0.005
RENEW_EVERY_S = claims.LEASE_S / 3
DRAIN_S = 15.0


@dataclass(frozen=True)
class Claims:
    """The messages to send now, and the seconds until the next look."""

    deliveries: Sequence[Claimed] = field(default_factory=tuple)
    look_again_s: float = 0.0


class Dispatcher:
    """One worker. Any number may run, in one process or many; a chat is claimed by one of them."""

    def __init__(self, database: Database, bus: Bus, telegram: Telegram, *, per_s: float) -> None:
        self.database = database
        self.per_s = per_s
        self.worker = uuid4()
        self._attempts = Attempts(bus, telegram)
        self._in_flight: dict[UUID, asyncio.Task[None]] = {}
        self._finished: list[Settled] = []
        self._woken = asyncio.Event()
        self._renewed_at = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping`, then settle the deliveries in flight."""
        with deliveries.DUE.listening() as self._woken:
            # The first round claims without asking first whether anything is due.
            self._woken.set()
            try:
                await forever("dispatcher", self._turn, stopping)
                await self._drain()
            finally:
                in_flight = list(self._in_flight.values())
                for task in in_flight:
                    task.cancel()
                await asyncio.gather(*in_flight, return_exceptions=True)

    async def _drain(self) -> None:
        drained = asyncio.Event()

        async def turn() -> None:
            if self._in_flight:
                await self._turn(claiming=False)
            else:
                drained.set()

        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await forever("dispatcher", turn, drained)

    async def _turn(self, *, claiming: bool = True) -> None:
        """One round, then a pause. A failed round loses nothing: its leases expire."""
        woken = claiming and self._woken.is_set()
        self._woken.clear()
        wait_s = await self._round(claiming=claiming, woken=woken)
        await set_within(self._woken, min(POLL_S, max(SHORTEST_WAIT_S, wait_s)))

    async def _round(self, *, claiming: bool, woken: bool) -> float:
        """Settle, renew and claim. Returns the seconds until the next round."""
        finished = list(self._finished)
        room = MAX_IN_FLIGHT - len(self._in_flight) + len(finished)
        claimed = Claims(look_again_s=POLL_S)
        now_s = asyncio.get_running_loop().time()
        renewing = bool(self._in_flight) and now_s - self._renewed_at > RENEW_EVERY_S
        if not (finished or renewing or woken):
            # One query. Most rounds of the poll find nothing due.
            due_s = await claims.next_due_s(self.database)
            if due_s > 0:
                return due_s
        async with self.database.transaction() as tx:
            settled = await self._settle(finished, tx) if finished else []
            busy = self._in_flight.keys() - {each.claimed.person for each in finished}
            if renewing and busy:
                await claims.renew(list(busy), self.worker, tx)
            if claiming and room > 0:
                claimed = await claim(self.worker, busy, room, self.per_s, tx)
        self._renewed_at = now_s if renewing else self._renewed_at
        self._forget(finished, settled)
        iterations.handled(len(settled))
        for delivery in claimed.deliveries:
            self._in_flight[delivery.person] = asyncio.create_task(
                self._attempt(delivery), name=f"deliver {delivery.id}"
            )
        return claimed.look_again_s if claiming and room > 0 else POLL_S

    async def _attempt(self, claimed: Claimed) -> None:
        self._finished.append(await self._attempts.attempt(claimed))
        self._woken.set()

    async def _settle(self, finished: Sequence[Settled], tx: Tx) -> list[Settled]:
        """Record the outcomes. Returns those of chats that this worker still holds.

        A chat that another worker has claimed since is skipped: its delivery is that worker's.
        """
        people = [each.claimed.person for each in finished]
        held = await claims.lock_held(people, self.worker, tx)
        settled = [
            revised(each, held[each.claimed.person])
            for each in finished
            if each.claimed.person in held
        ]
        await recipients.learn(settled, tx)
        await deliveries.settle(settled, tx)
        released = [
            (each.claimed.person, v.called, v.reachable, v.chat_pause_s)
            for each in settled
            for v in [each.verdict]
        ]
        await claims.release(released, self.worker, tx)
        await _settle_bucket(settled, tx)
        await _publish_lost(settled, tx)
        refused = [
            each
            for each in settled
            if held[each.claimed.person].reachable
            and each.verdict.called
            and each.verdict.reachable is False
        ]
        await _publish_refused(refused, tx)
        return settled

    def _forget(self, finished: Sequence[Settled], settled: Sequence[Settled]) -> None:
        """After the commit: drop the finished deliveries, and count them."""
        del self._finished[: len(finished)]
        for each in finished:
            self._in_flight.pop(each.claimed.person, None)
        for each in settled:
            outcome = "retried" if each.verdict.state == "waiting" else each.verdict.state
            DELIVERIES.labels(each.claimed.kind, outcome).inc()
        if len(settled) < len(finished):
            lost = len(finished) - len(settled)
            LEASES_LOST.inc(lost)
            log.warning("deliveries took longer than their lease", deliveries=lost)


async def claim(worker: UUID, busy: Collection[UUID], most: int, per_s: float, tx: Tx) -> Claims:
    """Claim the next message of at most `most` chats, as many as the shared bucket allows.

    `busy` are the people with a delivery in flight in this worker: it may be late with their
    lease, and must not claim their chat twice.
    """
    locked = await buckets.lock(per_s, tx)
    allowed = allowance(
        locked.bucket, locked.seen_at, per_s=per_s, most=most, next_due_s=locked.next_due_s
    )
    if allowed.messages == 0:
        return Claims(look_again_s=allowed.wait_s)
    chats = await claims.claim_chats(worker, busy, allowed.messages, tx)
    if not chats:  # Every due chat is locked by another worker, or busy in this one.
        return Claims()
    await _give_up(chats, tx)
    claimed = await claims.claim_messages(chats, worker, tx)
    left = locked.bucket.tokens - len(claimed)
    next_due_s = await buckets.keep(left, locked.seen_at, tx)
    return Claims(claimed, next_due_s)


async def _settle_bucket(settled: Sequence[Settled], tx: Tx) -> None:
    """Record every 429, and return the tokens that were not spent."""
    for each in settled:
        if each.verdict.chat_pause_s > 0:
            await buckets.record_refusal(each.claimed.person, each.verdict.chat_pause_s, tx)
    if unspent := sum(not each.verdict.spent for each in settled):
        await buckets.return_tokens(unspent, tx)


async def _give_up(chats: Sequence[Chat], tx: Tx) -> None:
    """Reminders whose worker died are not sent again."""
    given_up = await claims.give_up(chats, tx)
    await _publish_failed([(each, claims.SENDER_DIED) for each in given_up], tx)
    for each in given_up:
        tx.after_commit(DELIVERIES.labels(each.kind, "unknown").inc)
        log.error("delivery lost", delivery=str(each.id), kind=each.kind, outcome="unknown")


async def _publish_lost(settled: Sequence[Settled], tx: Tx) -> None:
    lost = [
        (each.claimed, each.verdict.reason or each.verdict.state)
        for each in settled
        if each.verdict.state in ("failed", "unknown")
    ]
    await _publish_failed(lost, tx)


async def _publish_failed(lost: Sequence[tuple[Claimed | GivenUp, str]], tx: Tx) -> None:
    """Publish each lost delivery with its reason."""
    if not lost:
        return
    at = await tx.now()
    events = [
        DeliveryFailed.caused_by(
            each.id, about=each.person, at=at, trace=each.trace, kind=each.kind, reason=reason
        )
        for each, reason in lost
    ]
    await publish(tx, events)


async def _publish_refused(refused: Sequence[Settled], tx: Tx) -> None:
    """bot-gateway then publishes the next sign of life of these people."""
    if not refused:
        return
    at = await tx.now()
    events = [
        RecipientRefused.caused_by(
            uuid4(),
            about=each.claimed.person,
            at=at,
            trace=each.claimed.trace,
            reason=each.verdict.reason or "",
        )
        for each in refused
    ]
    await publish(tx, events)
