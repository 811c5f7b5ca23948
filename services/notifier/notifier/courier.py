"""Carries messages to Telegram: claims what is due, speaks outside any transaction, writes down what came of it.

    round (one transaction) ──▶ tasks, at most 64 at a time ──▶ their verdicts wait for the next round
      settle what is finished      who? which key? what words?
      renew what is under way      edit or send
      claim what is due

A process that dies leaves its claims behind; they are due again when their lease ends, and are tried again: a key or a
receipt arrives at least once. What was written down is never sent again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar
from uuid import UUID, uuid4

import structlog
from prometheus_client import Counter

from notifier import store
from notifier.deliveries import Answer, Away, Blocked, NotYet, Outdated, Said, Verdict, verdict
from notifier.messages import ANSWERS_A_PAYMENT
from notifier.store import Claimed, Claims, Settled
from notifier.telegram import Telegram
from notifier.wording import words
from shared import crash, telemetry
from shared.bus import Bus, UnansweredError
from shared.contract import Refused
from shared.db import Database, Tx
from shared.facts import DeliveryFailed
from shared.outbox import tell
from shared.questions import AskAccess, AskKey, AskRecipient, Key, Recipient
from shared.waiting import happens

log = structlog.get_logger()

MOST_UNDER_WAY = 64
POLL_S = 0.5
SHORTEST_WAIT_S = 0.005
RENEW_EVERY_S = store.LEASE_S / 3
PAUSE_AFTER_FAILURE_S = 0.25
ASK_TIMEOUT_S = 2.0
DRAIN_S = 15.0

DELIVERIES = Counter("turnpike_deliveries", "Tries to deliver a message, by what became of it", ["kind", "outcome"])
LEASES_LOST = Counter("turnpike_delivery_leases_lost", "Deliveries that took longer than their lease")


class Courier:
    """One worker; any number may run, in one process or many. A person is spoken to by one of them at a time."""

    # Every courier of this process wakes when any transaction wrote a message.
    _all: ClassVar["set[Courier]"] = set()

    def __init__(self, database: Database, bus: Bus, telegram: Telegram, *, per_s: float) -> None:
        self.database = database
        self.bus = bus
        self.telegram = telegram
        self.per_s = per_s
        self.worker = uuid4()
        self._under_way: dict[UUID, asyncio.Task[None]] = {}
        self._finished: list[Settled] = []
        self._woken = asyncio.Event()
        self._renewed_at = 0.0

    @classmethod
    def wake_all(cls) -> None:
        for courier in cls._all:
            courier._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping`, then finish what is under way."""
        self._all.add(self)
        try:
            woken = True
            while not stopping.is_set():
                self._woken.clear()
                woken = await happens(self._woken, await self._live_on(woken=woken))
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    while self._under_way:
                        self._woken.clear()
                        await happens(self._woken, await self._live_on(claiming=False))
        finally:
            self._all.discard(self)
            under_way = list(self._under_way.values())
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _live_on(self, *, claiming: bool = True, woken: bool = False) -> float:
        """A round; after a failed one the loop lives on with what it holds. Answers how many seconds to wait."""
        try:
            return min(POLL_S, max(SHORTEST_WAIT_S, await self._round(claiming=claiming, woken=woken)))
        except Exception as error:  # The database comes back, and until then nothing is lost: claims end by themselves.
            log.warning("courier's round failed", error=repr(error))
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            return SHORTEST_WAIT_S

    async def _round(self, *, claiming: bool, woken: bool) -> float:
        finished = list(self._finished)
        room = MOST_UNDER_WAY - len(self._under_way) + len(finished)
        claims = Claims(look_again_s=POLL_S)
        now_s = asyncio.get_running_loop().time()
        renewing = bool(self._under_way) and now_s - self._renewed_at > RENEW_EVERY_S
        # A look is one round trip, and most rounds that nobody asked for find nothing to do.
        if not (finished or renewing or woken) and (due_s := await store.next_due_s(self.database)) > 0:
            return due_s
        async with self.database.transaction() as tx:
            settled = await self._settle(finished, tx) if finished else []
            busy = self._under_way.keys() - {each.claimed.person for each in finished}
            if renewing and busy:
                await store.renew(list(busy), self.worker, tx)
            if claiming and room > 0:
                claims = await store.claim(self.worker, busy, room, self.per_s, tx)
        self._renewed_at = now_s if renewing else self._renewed_at
        self._forget(finished, settled)
        for claimed in claims.deliveries:
            self._under_way[claimed.person] = asyncio.create_task(self._carry(claimed), name=f"deliver {claimed.id}")
        return claims.look_again_s if claiming and room > 0 else POLL_S

    async def _settle(self, finished: Sequence[Settled], tx: Tx) -> list[Settled]:
        settled = await store.settle(finished, self.worker, tx)
        lost = [each for each in settled if each.verdict.state in ("failed", "unknown")]
        if lost:
            at = await tx.now()
            facts = [
                DeliveryFailed.because(
                    each.claimed.id,
                    about=each.claimed.person,
                    at=at,
                    trace=each.claimed.trace,
                    kind=each.claimed.kind,
                    reason=each.verdict.reason or each.verdict.state,
                )
                for each in lost
            ]
            await tell(tx, facts)
        return settled

    def _forget(self, finished: Sequence[Settled], settled: Sequence[Settled]) -> None:
        """After the commit: what is written down is no longer ours, and is counted."""
        del self._finished[: len(finished)]
        for each in finished:
            self._under_way.pop(each.claimed.person, None)
        for each in settled:
            outcome = "retried" if each.verdict.state == "waiting" else each.verdict.state
            DELIVERIES.labels(each.claimed.kind, outcome).inc()
        if len(settled) < len(finished):
            LEASES_LOST.inc(len(finished) - len(settled))
            log.warning("deliveries took longer than their lease", deliveries=len(finished) - len(settled))

    # One delivery, outside any transaction

    async def _carry(self, claimed: Claimed) -> None:
        """Whatever happens, the delivery is finished with a verdict."""
        recipient, learned = claimed.recipient, None
        with telemetry.span("deliver", following=claimed.trace, message=claimed.kind) as span:
            try:
                answer: Answer | Recipient = recipient or await self._recipient(claimed.person)
                if isinstance(answer, Recipient):
                    recipient, learned = answer, None if recipient else answer
                    answer = await self._speak(claimed, recipient)
                if isinstance(answer, Said):
                    crash.passing("message_sent")
            except Exception as error:  # Our own fault; it must not stop the other deliveries.
                telemetry.failed(span, error)
                log.exception("delivery failed", delivery=str(claimed.id), kind=claimed.kind)
                answer = Away(type(error).__name__, asked=False)
            came = verdict(answer, tries=claimed.tries, waits=claimed.waits)
            span.set_attribute("outcome", came.state)
            _note(claimed, came)
        self._finished.append(Settled(claimed, came, learned))
        self._woken.set()

    async def _recipient(self, person: UUID) -> Recipient | Answer:
        try:
            answer = await self.bus.ask(AskRecipient(person=person), timeout_s=ASK_TIMEOUT_S)
        except UnansweredError:
            return NotYet("bot-gateway does not answer")
        return Away(answer.reason, asked=False) if isinstance(answer, Refused) else answer

    async def _speak(self, claimed: Claimed, recipient: Recipient) -> Answer:
        if not recipient.reachable and claimed.kind not in ANSWERS_A_PAYMENT:
            return Blocked("known to have blocked the bot", asked=False)
        key: Key | None = None
        if claimed.kind == "access_ready":
            asked = await self._key(claimed.person)
            if not isinstance(asked, Key):
                return asked
            key = asked
        if claimed.kind == "access_ended" and (doubt := await self._doubt_of_end(claimed.person)) is not None:
            return doubt
        said = words(claimed.kind, claimed.details, recipient.language, key)
        return await self.telegram.say(recipient.chat_id, said, instead_of=claimed.instead_of)

    async def _key(self, person: UUID) -> Key | Answer:
        try:
            answer = await self.bus.ask(AskKey(person=person), timeout_s=ASK_TIMEOUT_S)
        except UnansweredError:
            return NotYet("vpn-provisioner does not answer")
        if not isinstance(answer, Refused):
            return answer
        return NotYet("issuing") if answer.reason == "issuing" else Away(answer.reason, asked=False)

    async def _doubt_of_end(self, person: UUID) -> Answer | None:
        """Why a person must not be told (now) that access ended: whoever renewed meanwhile has it."""
        try:
            access = await self.bus.ask(AskAccess(person=person), timeout_s=ASK_TIMEOUT_S)
        except UnansweredError:
            return NotYet("vpn-provisioner does not answer")
        if isinstance(access, Refused):
            return Away(access.reason, asked=False)
        return Outdated("renewed") if access.state in ("up", "issuing") else None


def _note(claimed: Claimed, came: Verdict) -> None:
    """What was said is counted; what was not is written to the log, too."""
    fields = {"delivery": str(claimed.id), "kind": claimed.kind, "reason": came.reason, "tries": came.tries}
    if came.state in ("failed", "unknown"):
        log.error("message lost", outcome=came.state, **fields)
    elif came.state == "waiting":
        log.info("message put off", pause_s=round(came.pause_s, 1), **fields)
