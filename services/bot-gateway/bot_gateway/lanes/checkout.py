"""Pre-checkouts are answered within 3 s from one question; without its answer a kind no, for no charge may be lost.

Of one invoice there is one charge: a yes is kept before it is said, and another pay sheet of the same invoice is
refused for a minute, or for ever once the charge was reported.
"""

import asyncio
import json
from datetime import timedelta
from typing import Any

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest
from opentelemetry.trace import SpanKind

from bot_gateway.lanes import Bells
from bot_gateway.metrics import CHECKOUTS, UPDATES
from bot_gateway.people import Person, language_of
from bot_gateway.store import intake, people, yeses
from bot_gateway.store.intake import Ended
from bot_gateway.telegram import is_query_too_old, said
from bot_gateway.updates import place_of
from shared import crash, telemetry
from shared.bus import Bus
from shared.contract import Refused
from shared.db import Database, Row
from shared.questions import AskCheckout, Checkout
from shared.texts import Texts

log = structlog.get_logger()

WORKERS = 64
DECIDE_WITHIN_S = 2.0
ANSWER_TIMEOUT_S = 3
LEASE = timedelta(seconds=6)  # What a replica that was killed held is answered by another one, still in time.
TOO_OLD_S = 8.0  # Telegram gives up after 10 s.


class CheckoutLane:
    """Asks payments whether a charge may be taken, and says so to Telegram."""

    def __init__(self, database: Database, bells: Bells, bus: Bus, bot: Bot, texts: Texts) -> None:
        self.database = database
        self.bells = bells
        self.bus = bus
        self.bot = bot
        self.texts = texts
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and answer until `stopping`; then what has begun ends."""
        while not stopping.is_set():
            try:
                free = WORKERS - len(self._tasks)
                rows = await intake.claim_checkouts(LEASE, free, self.database) if free else []
            except Exception as error:  # The loop lives on.
                log.warning("pre-checkouts could not be claimed", error=said(error))
                rows = []
            for row in rows:
                task = asyncio.create_task(self._serve(row), name=f"checkout {row['seq']}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if not rows:
                await self.bells.wait("checkout")
        await asyncio.gather(*self._tasks)

    async def _serve(self, row: Row) -> None:
        """An answer that does not get through is tried again when the lease is over, until the query is too old."""
        try:
            query = json.loads(row["body"])["pre_checkout_query"]
            trace = telemetry.trace_at(place_of(str(query.get("invoice_payload", ""))))
            with telemetry.span("pre-checkout", following=trace, kind=SpanKind.CONSUMER):
                ended = await self._ended(row, query)
                async with self.database.transaction() as tx:
                    await intake.end_update(ended, tx)
            UPDATES.labels("checkout", ended.state).inc()
        except Exception as error:  # The next claim takes it up.
            UPDATES.labels("checkout", "put_off").inc()
            log.warning("a pre-checkout was not answered", seq=row["seq"], tries=row["tries"], error=said(error))

    async def _ended(self, row: Row, query: dict[str, Any]) -> Ended:
        if row["age_s"] > TOO_OLD_S:
            return Ended(row["seq"], "dropped", "too old")
        person, reason = await self._decide(query)
        language = person.language if person else language_of(query["from"].get("language_code"))
        sentence = self.texts(language, "checkout-refused", reason=reason) if reason else None
        try:
            await self.bot.answer_pre_checkout_query(
                query["id"], ok=reason is None, error_message=sentence, request_timeout=ANSWER_TIMEOUT_S
            )
        except TelegramBadRequest as error:
            if not is_query_too_old(error):
                raise
            return Ended(row["seq"], "dropped", "Telegram did not wait, or had an answer")
        crash.passing("checkout_answered")
        CHECKOUTS.labels(reason or "yes").inc()
        if reason is not None:
            log.info("charge refused", reason=reason)
            async with self.database.transaction() as tx:
                await people.refuse(person.person if person else None, "charge", reason, tx)
        return Ended(row["seq"], "done", reason)

    async def _decide(self, query: dict[str, Any]) -> tuple[Person | None, str | None]:
        """Who pays, and why not; no reason is a yes. Whoever cannot answer in time says no."""
        person = None
        try:
            async with asyncio.timeout(DECIDE_WITHIN_S):
                person = await people.person_by_telegram(query["from"]["id"], self.database)
                question = AskCheckout(
                    payer=person.person if person else None,
                    payload=query["invoice_payload"],
                    currency=query["currency"],
                    amount_minor=query["total_amount"],
                )
                answer = await self.bus.ask(question, timeout_s=DECIDE_WITHIN_S)
                if isinstance(answer, Checkout) and answer.ok:
                    return person, await self._why_not_again(query)
        except Exception as error:  # Nobody knows: then the charge may not be taken.
            log.warning("payments cannot answer for a charge", error=said(error))
            return person, "away"
        return person, ("away" if isinstance(answer, Refused) else answer.reason) or "away"

    async def _why_not_again(self, query: dict[str, Any]) -> str | None:
        """Why an invoice that payments would let be charged is not: another pay sheet of it was faster."""
        payload = query["invoice_payload"]
        if await yeses.say_yes(payload, query["id"], self.database):
            return None
        return "order_closed" if await yeses.was_charged(payload, self.database) else "being_paid"
