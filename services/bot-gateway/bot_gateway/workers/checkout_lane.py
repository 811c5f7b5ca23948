"""The checkout lane: pre-checkouts are answered together, after one query to payments.

Without an answer of payments they are refused: a charge that could not be booked must not be
taken. One invoice is charged once: an approval is stored before Telegram receives it, and another
pay sheet of the same invoice is refused for a minute, or for ever once the charge was reported.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest
from opentelemetry.trace import SpanKind

from bot_gateway.domain.people import Person, language_of
from bot_gateway.domain.updates import PaySheet, pay_sheet_from, read_json, trace_position_in
from bot_gateway.metrics import CHECKOUTS, UPDATES
from bot_gateway.store import checkout_holds, intake, people
from bot_gateway.store.intake import UpdateOutcome
from bot_gateway.telegram import is_query_too_old, redacted
from bot_gateway.workers.bells import POLL_S, Bells, Wait
from shared.contracts.message import Refused
from shared.contracts.payments import MAX_CHECKOUTS, CheckoutQuery, PreCheckout
from shared.messaging.rpc import Bus
from shared.platform import iterations, telemetry
from shared.platform.db import Database, Row
from shared.platform.failpoints import failpoint
from shared.platform.loops import forever
from shared.platform.texts import Texts

log = structlog.get_logger()

MAX_UNANSWERED = 2 * MAX_CHECKOUTS
MAX_DECIDING = 2
"""Batches that wait for payments: one may be lost on its way, and the other one goes on.

Meanwhile later pre-checkouts gather: the slower the shop, the larger the batches.
"""
DECIDE_WITHIN_S = 2.0
ANSWERS_AT_ONCE = 32
ANSWER_TIMEOUT_S = 3
RECORD_EVERY_S = 0.25
"""A pre-checkout that Telegram answers slowly delays the record of the others by this much."""
# Another replica answers for one that was killed, still in time. An answer ends before that.
LEASE = timedelta(seconds=6)
SERVE_WITHIN_S = 5.5
TOO_OLD = timedelta(seconds=8)  # Telegram gives up after 10 s.


@dataclass(frozen=True)
class Decision:
    """A claimed pre-checkout with its payer. No reason approves."""

    seq: int
    sheet: PaySheet
    payer: Person | None
    reason: str | None


@dataclass(frozen=True)
class Answered:
    """The end of an update, and the refusal to record: the person, what was refused, and why."""

    outcome: UpdateOutcome
    refusal: tuple[UUID | None, str, str] | None = None


class CheckoutLane:
    """Asks payments whether charges may be taken, and answers Telegram."""

    def __init__(self, database: Database, bells: Bells, bus: Bus, bot: Bot, texts: Texts) -> None:
        self.database = database
        self.bells = bells
        self.bus = bus
        self.bot = bot
        self.texts = texts
        self._answering = asyncio.Semaphore(ANSWERS_AT_ONCE)
        self._batches: set[asyncio.Task[None]] = set()
        self._deciding = 0
        self._unanswered = 0
        self._had_no_room = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and answer until `stopping`; then finish what has begun."""
        with self.bells.listening("checkout") as wait:
            turn = partial(self._claim, wait)
            await forever("bot_checkouts", turn, stopping, failed=_claim_failed)
        await asyncio.gather(*self._batches)

    async def _claim(self, wait: Wait) -> None:
        room = MAX_UNANSWERED - self._unanswered if self._deciding < MAX_DECIDING else 0
        most = min(room, MAX_CHECKOUTS)
        self._had_no_room = not most
        ends_at = asyncio.get_running_loop().time() + SERVE_WITHIN_S
        claim = intake.claim_checkouts(LEASE, TOO_OLD, most, self.database)
        rows = await claim if most else []
        waiting = [row for row in rows if not row["too_old"]]
        iterations.handled(len(waiting))
        UPDATES.labels("checkout", "dropped").inc(len(rows) - len(waiting))
        if waiting:
            self._deciding += 1
            self._unanswered += len(waiting)
            batch = asyncio.create_task(self._serve(waiting, ends_at), name="checkouts")
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)
        if len(rows) < most or not most:  # No more are waiting, or there is no room.
            await wait()

    def _makes_room(self, *, decided: int = 0, answered: int = 0) -> None:
        self._deciding -= decided
        self._unanswered -= answered
        if self._had_no_room:
            self.bells.ring(["checkout"])

    async def _serve(self, rows: Sequence[Row], ends_at: float) -> None:
        """Decide together, then answer one by one: no answer waits for another."""
        sheets, unreadable = _read(rows)
        traces = [telemetry.trace_at(trace_position_in(one.payload)) for one in sheets.values()]
        with telemetry.batch("pre-checkout", traces) as items:
            decisions = await self._decide(sheets) if sheets else []
            traces = [item.trace for item in items]
        self._makes_room(decided=1)
        if unreadable:
            await self._record([Answered(ended) for ended in unreadable], [])
        waiting = {
            asyncio.create_task(self._answer(decision, trace, ends_at))
            for decision, trace in zip(decisions, traces, strict=True)
        }
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=RECORD_EVERY_S)
            errors = [error for task in done if (error := task.exception())]
            if done:
                await self._record([task.result() for task in done if not task.exception()], errors)

    async def _decide(self, sheets: dict[int, PaySheet]) -> list[Decision]:
        """One query for all. No answer in time refuses them."""
        payers: dict[int, Person] = {}
        reasons: dict[int, str | None] = dict.fromkeys(sheets, "away")
        try:
            async with asyncio.timeout(DECIDE_WITHIN_S):
                ids = [sheet.payer for sheet in sheets.values()]
                payers = await people.people_by_telegram(ids, self.database)
                reasons = await self._reasons(sheets, payers)
        except Exception as error:  # Without an answer no charge must be taken.
            log.warning("checkout query failed", error=redacted(error), checkouts=len(sheets))
        return [
            Decision(seq, sheet, payers.get(sheet.payer), reasons[seq])
            for seq, sheet in sheets.items()
        ]

    async def _reasons(
        self, sheets: dict[int, PaySheet], payers: dict[int, Person]
    ) -> dict[int, str | None]:
        query = CheckoutQuery(charges=tuple(_charge(one, payers) for one in sheets.values()))
        answer = await self.bus.query(query, timeout_s=DECIDE_WITHIN_S)
        if isinstance(answer, Refused):
            return dict.fromkeys(sheets, "away")
        reasons: dict[int, str | None] = {
            seq: None if checkout.ok else checkout.reason or "away"
            for seq, checkout in zip(sheets, answer.answers, strict=True)
        }
        allowed = [sheets[seq] for seq, reason in reasons.items() if reason is None]
        held = [(sheet.payload, sheet.query_id) for sheet in allowed]
        refused = await checkout_holds.approve(held, self.database) if held else {}
        for seq, reason in reasons.items():
            charged = refused.get(sheets[seq].query_id)
            if reason is None and charged is not None:
                reasons[seq] = "invoice_paid" if charged else "being_paid"
        return reasons

    async def _answer(self, decision: Decision, trace: str | None, ends_at: float) -> Answered:
        sheet, payer, reason = decision.sheet, decision.payer, decision.reason
        language = payer.language if payer else language_of(sheet.language_code)
        sentence = self.texts(language, "checkout-refused", reason=reason) if reason else None
        async with asyncio.timeout_at(ends_at), self._answering:
            with telemetry.span("answer pre-checkout", following=trace, kind=SpanKind.CONSUMER):
                try:
                    await self.bot.answer_pre_checkout_query(
                        sheet.query_id,
                        ok=reason is None,
                        error_message=sentence,
                        request_timeout=ANSWER_TIMEOUT_S,
                    )
                except TelegramBadRequest as error:
                    if not is_query_too_old(error):
                        raise
                    why = "Telegram did not wait, or had an answer"
                    return Answered(UpdateOutcome(decision.seq, "dropped", why))
                failpoint("checkout_answered")
                CHECKOUTS.labels(reason or "approved").inc()
                if reason is None:
                    return Answered(UpdateOutcome(decision.seq))
                log.info("charge refused", reason=reason)
        refusal = (payer.person if payer else None, "charge", reason)
        return Answered(UpdateOutcome(decision.seq, "done", reason), refusal)

    async def _record(self, answers: Sequence[Answered], errors: Sequence[BaseException]) -> None:
        """Write the ends together. What failed is repeated after the lease, until it is too old."""
        failed, outcomes = list(errors), [answer.outcome for answer in answers]
        refusals = [answer.refusal for answer in answers if answer.refusal]
        try:
            if outcomes:
                async with self.database.transaction() as tx:
                    if refusals:
                        await people.record_refusals(refusals, tx)
                    await intake.end_updates(outcomes, tx)
        except Exception as error:  # They were answered; Telegram ignores another answer.
            failed += [error] * len(outcomes)
            outcomes = []
        for outcome in outcomes:
            UPDATES.labels("checkout", outcome.state).inc()
        if failed:
            UPDATES.labels("checkout", "put_off").inc(len(failed))
            fields = {"error": redacted(failed[0]), "checkouts": len(failed)}
            log.warning("pre-checkouts not answered or not recorded", **fields)
        self._makes_room(answered=len(answers) + len(errors))


def _read(rows: Sequence[Row]) -> tuple[dict[int, PaySheet], list[UpdateOutcome]]:
    """The pay sheets by sequence number, and the ends of updates that cannot be answered."""
    sheets, unreadable = {}, []
    for row in rows:
        try:
            sheets[row["seq"]] = pay_sheet_from(read_json(row["body"]))
        except ValueError as error:
            unreadable.append(UpdateOutcome(row["seq"], "failed", str(error)))
            log.error("pre-checkout is unreadable", seq=row["seq"], error=str(error))
    return sheets, unreadable


def _charge(sheet: PaySheet, payers: dict[int, Person]) -> PreCheckout:
    payer = payers.get(sheet.payer)
    return PreCheckout(
        payer=payer.person if payer else None,
        payload=sheet.payload,
        currency=sheet.currency,
        amount_minor=sheet.amount_minor,
    )


def _claim_failed(error: Exception) -> float:
    log.warning("pre-checkouts could not be claimed", error=redacted(error))
    return POLL_S
