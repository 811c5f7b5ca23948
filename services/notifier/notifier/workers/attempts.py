"""One attempt to deliver a message, outside any transaction."""

import structlog

from notifier.domain.deliveries import (
    ACCESS_GONE,
    Answer,
    Claimed,
    NotYet,
    Outdated,
    Sent,
    Settled,
    Unavailable,
    Unreachable,
    Verdict,
    outdated_reminder,
    verdict,
)
from notifier.domain.messages import ANSWERS_A_PAYMENT, shows_key
from notifier.domain.wording import words
from notifier.telegram import Telegram
from shared.contracts.bot import Recipient, RecipientQuery
from shared.contracts.message import Refused
from shared.contracts.vpn import AccessQuery, Key, KeyQuery
from shared.messaging.rpc import Bus, UnansweredError
from shared.platform import telemetry
from shared.platform.failpoints import failpoint

log = structlog.get_logger()

QUERY_TIMEOUT_S = 2.0


class Attempts:
    """Queries the recipient, the key or the access, and calls Telegram."""

    def __init__(self, bus: Bus, telegram: Telegram) -> None:
        self.bus = bus
        self.telegram = telegram

    async def attempt(self, claimed: Claimed) -> Settled:
        """The verdict about one attempt. It never raises."""
        recipient, learned = claimed.recipient, None
        with telemetry.span("deliver", following=claimed.trace, message=claimed.kind) as span:
            try:
                answer: Answer | Recipient = recipient or await self._recipient(claimed)
                if isinstance(answer, Recipient):
                    recipient, learned = answer, None if recipient else answer
                    answer = await self._send(claimed, recipient)
                if isinstance(answer, Sent):
                    failpoint("message_sent")
            except Exception as error:  # Our own fault must not stop the other deliveries.
                telemetry.failed(span, error)
                log.exception("attempt failed", delivery=str(claimed.id), kind=claimed.kind)
                answer = Unavailable(type(error).__name__, called=False)
            found = verdict(answer, claimed.kind, claimed.counts)
            span.set_attribute("outcome", found.state)
            _report(claimed, found)
        return Settled(claimed, found, learned)

    async def _recipient(self, claimed: Claimed) -> Recipient | Answer:
        query = RecipientQuery(person=claimed.person)
        try:
            answer = await self.bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        except UnansweredError:
            return NotYet("bot-gateway does not answer")
        return Unavailable(answer.reason, called=False) if isinstance(answer, Refused) else answer

    async def _send(self, claimed: Claimed, recipient: Recipient) -> Answer:
        if not recipient.reachable and claimed.kind not in ANSWERS_A_PAYMENT:
            return Unreachable("known to have blocked the bot", called=False)
        key: Key | None = None
        if shows_key(claimed.kind, claimed.details):
            answer = await self._key(claimed)
            if not isinstance(answer, Key):
                return answer
            key = answer
        if claimed.kind in ("access_ended", "access_expiring"):
            obstacle = await self._obstacle(claimed)
            if obstacle is not None:
                return obstacle
        text = words(claimed.kind, claimed.details, recipient.language, key)
        return await self.telegram.send(recipient.chat_id, text, instead_of=claimed.instead_of)

    async def _key(self, claimed: Claimed) -> Key | Answer:
        try:
            answer = await self.bus.query(
                KeyQuery(person=claimed.person), timeout_s=QUERY_TIMEOUT_S
            )
        except UnansweredError:
            return NotYet("vpn-provisioner does not answer")
        if not isinstance(answer, Refused):
            return answer
        if answer.reason == "issuing":
            return NotYet("issuing")
        if answer.reason == "no_access":
            return Outdated(ACCESS_GONE)
        return Unavailable(answer.reason, called=False)

    async def _obstacle(self, claimed: Claimed) -> Answer | None:
        """Why the end is not announced, or reminded of, now: it may have moved meanwhile."""
        query = AccessQuery(person=claimed.person)
        try:
            access = await self.bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        except UnansweredError:
            return NotYet("vpn-provisioner does not answer")
        if isinstance(access, Refused):
            return Unavailable(access.reason, called=False)
        if claimed.kind == "access_expiring":
            return outdated_reminder(claimed.details, access)
        return Outdated("renewed") if access.state in ("up", "issuing") else None


def _report(claimed: Claimed, found: Verdict) -> None:
    """Log the verdicts that are neither sent, superseded nor unreachable."""
    fields = {
        "delivery": str(claimed.id),
        "kind": claimed.kind,
        "reason": found.reason,
        "tries": found.counts.tries,
    }
    if found.state in ("failed", "unknown"):
        log.error("delivery lost", outcome=found.state, **fields)
    elif found.state == "waiting":
        pause_s = round(max(found.pause_s, found.chat_pause_s), 1)
        log.info("delivery postponed", pause_s=pause_s, **fields)
