"""The history of one payment in which every step is done, and ways to break it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from shared.contracts.bot import Report, Reports, ReportUpdate
from shared.contracts.notifier import Deliveries, DeliveryRecord
from shared.contracts.operations import (
    DeadLetteredEvent,
    EventRecords,
    FailingEvent,
    HandledEvent,
    PublishedEvent,
)
from shared.contracts.owners import OWNERS
from shared.contracts.payments import OrderRecord, PaymentRecord, ReceiptRecord
from shared.contracts.referrals import RewardRecord, Rewards
from shared.contracts.vpn import AccessJob, Grant
from turnpike_cli.payment_history import PaymentHistory, subscriptions_to

AT = datetime(2026, 11, 25, 19, tzinfo=UTC)
ENDS_AT = AT + timedelta(days=30)
ORDER, PERSON, PARTNER, RECEIPT = uuid4(), uuid4(), uuid4(), uuid4()
REPORTED, CONFIRMED, EARNED, GRANTED = (uuid4() for _ in range(4))
TOPICS = {
    REPORTED: "bot.payment.reported",
    CONFIRMED: "payments.payment.confirmed",
    EARNED: "referrals.reward.earned",
    GRANTED: "vpn.access.granted",
}


def completed() -> PaymentHistory:
    """Paid, rewarded, granted, and all messages sent."""
    return PaymentHistory(
        "stx1",
        payment=PaymentRecord(order=order(), invoices=(), receipts=(receipt(),), transfers=()),
        reports=Reports(reports=(report(),)),
        rewards=Rewards(rewards=(reward(),), waits_since=None, started=True, refused=None),
        grant=grant(),
        deliveries=Deliveries(deliveries=(delivery("access_ready"), delivery("reward_earned"))),
        events=all_handled(),
    )


def order() -> OrderRecord:
    return OrderRecord(
        what="subscription",
        order=ORDER,
        person=PERSON,
        plan="basic",
        months=1,
        price_minor=14900,
        received_minor=14900,
        state="paid",
        placed_at=AT,
        paid_at=AT,
        honoured_until=ENDS_AT,
        honoured=False,
        trace=f"00-{ORDER.hex}-00f067aa0ba902b7-01",
    )


def receipt() -> ReceiptRecord:
    return ReceiptRecord(
        receipt=RECEIPT,
        acquirer="telegram_stars",
        charge="stx1",
        payer=PERSON,
        currency="XTR",
        amount_minor=99,
        paid_at=AT,
        received_at=AT,
        outcome="bought",
        because="paid",
        value_minor=14900,
        event=CONFIRMED,
    )


def report() -> Report:
    update = ReportUpdate(seq=7, state="done", reason=None, tries=0, received_at=AT, ended_at=AT)
    return Report(
        charge="stx1",
        currency="XTR",
        amount_minor=99,
        order=ORDER,
        payer=PERSON,
        event=REPORTED,
        recorded_at=AT,
        updates=(update,),
    )


def reward() -> RewardRecord:
    return RewardRecord(
        receipt=RECEIPT,
        outcome="rewarded",
        partner=PARTNER,
        paying=1,
        percent=10,
        value_minor=14900,
        reward_minor=1490,
        event=EARNED,
        decided_at=AT,
    )


def grant() -> Grant:
    job = AccessJob(
        node="one", present=True, state="agreed", tries=0, run_at=AT, agreed_at=AT, error=None
    )
    return Grant(
        order=ORDER,
        person=PERSON,
        handled_at=AT,
        age_s=60.0,
        announced_at=AT,
        event=GRANTED,
        state="live",
        ends_at=ENDS_AT,
        jobs=(job,),
    )


def delivery(kind: str, state: str = "sent", **fields: object) -> DeliveryRecord:
    known = {
        "delivery": uuid4(),
        "person": PERSON,
        "kind": kind,
        "cause": str(ORDER),
        "state": state,
        "reason": None,
    }
    known |= {"tries": 0, "not_before": AT, "written_at": AT, "settled_at": AT, "event": None}
    return DeliveryRecord(**known | fields)


def all_handled() -> dict[str, EventRecords]:
    """Every event was published, and every handler is done with it."""
    records = {}
    for owner in OWNERS:
        own = [event for event, topic in TOPICS.items() if topic.startswith(f"{owner}.")]
        handled = [
            HandledEvent(event=event, handler=subscription.handler, outcome="done", handled_at=AT)
            for event, topic in TOPICS.items()
            for subscription in subscriptions_to(topic)
            if subscription.service == owner
        ]
        records[owner] = EventRecords(
            published=tuple(published(event) for event in own),
            handled=tuple(handled),
            failing=(),
            dead_lettered=(),
        )
    return records


def published(event: UUID, **fields: object) -> PublishedEvent:
    known = {"event": event, "topic": TOPICS[event], "recorded_at": AT}
    known |= {"age_s": 60.0, "pending": False}
    return PublishedEvent(**known | fields)


# Ways to break it


def with_records(history: PaymentHistory, owner: str, **fields: object) -> PaymentHistory:
    """The same history, with other records of events at this owner."""
    records = history.events[owner].model_copy(update=fields)
    return replace(history, events=history.events | {owner: records})


def not_handled(history: PaymentHistory, owner: str, event: UUID) -> PaymentHistory:
    handled = tuple(one for one in history.events[owner].handled if one.event != event)
    return with_records(history, owner, handled=handled)


def pending(history: PaymentHistory) -> PaymentHistory:
    return with_records(history, "bot", published=(published(REPORTED, pending=True),))


def dead_lettered(history: PaymentHistory) -> PaymentHistory:
    dead_letter = DeadLetteredEvent(
        event=CONFIRMED,
        handler="vpn_grants_confirmed",
        dead_letter=3,
        reason="ValueError: x",
        dead_lettered_at=AT,
        replayed_at=None,
    )
    return with_records(history, "vpn", dead_lettered=(dead_letter,))


def failing(history: PaymentHistory) -> PaymentHistory:
    attempt = FailingEvent(
        event=CONFIRMED, handler="referrals_rewards_confirmed", tries=2, reason="KeyError: y"
    )
    history = not_handled(history, "referrals", CONFIRMED)
    return with_records(history, "referrals", failing=(attempt,))


def with_job(history: PaymentHistory, **fields: object) -> PaymentHistory:
    assert history.grant
    jobs = tuple(one.model_copy(update=fields) for one in history.grant.jobs)
    changes = {"jobs": jobs, "announced_at": None}
    return replace(history, grant=history.grant.model_copy(update=changes))


def with_delivery(history: PaymentHistory, one: DeliveryRecord) -> PaymentHistory:
    return replace(history, deliveries=Deliveries(deliveries=(one,)))


def with_update(history: PaymentHistory, state: str, **fields: object) -> PaymentHistory:
    """Reported, and not published yet."""
    assert history.reports
    [found] = history.reports.reports
    [update] = found.updates
    update = update.model_copy(update={"state": state, "ended_at": None, **fields})
    found = found.model_copy(update={"event": None, "updates": (update,)})
    return replace(history, reports=Reports(reports=(found,)), payment=None)


def in_suspense(history: PaymentHistory) -> PaymentHistory:
    assert history.payment
    fields = {"outcome": "suspense", "because": "payer_unknown", "value_minor": None}
    receipts = tuple(one.model_copy(update=fields) for one in history.receipts)
    return replace(history, payment=history.payment.model_copy(update={"receipts": receipts}))
