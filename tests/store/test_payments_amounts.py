"""Reports that no row can hold: each is dead-lettered alone, and the others are booked."""

from typing import Any
from uuid import uuid4

import pytest

from payments.audit import CHECKS, COUNTS
from payments.queries import answer_trial_balance
from payments.subscribers import payments_confirms_reported
from shared.contracts.bot import PaymentReported
from shared.contracts.payments import TrialBalanceQuery
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.inbox import Handler, Message
from shared.messaging.relay import hour_of
from shared.operations.audit import audited
from shared.platform.db import Database
from tests.kit.payments import NOW, paid, placed, report, wallet

REPORTED = next(
    subscription
    for subscription in SUBSCRIPTIONS
    if subscription.handler == "payments_confirms_reported"
)
LARGEST = 2**63 - 1


def reported(**changed: object) -> PaymentReported:
    person = uuid4()
    fields: dict[str, Any] = {
        "charge": uuid4().hex,
        "payload": "free",
        "currency": "XTR",
        "amount_minor": 7,
    } | changed
    return PaymentReported.caused_by(
        f"telegram_stars:{fields['charge']}",
        about=person,
        at=NOW,
        acquirer="telegram_stars",
        payer=person,
        paid_at=NOW,
        **fields,
    )


def message_of(event: PaymentReported) -> Message:
    headers = {
        "Nats-Msg-Id": str(event.id),
        "Turnpike-Digest": str(event.digest()),
        "Turnpike-Hour": hour_of(event.at),
    }
    return Message(event.subject(), headers, event.model_dump_json().encode())


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"amount_minor": 0}, id="zero"),
        pytest.param({"amount_minor": -5}, id="negative"),
        pytest.param({"amount_minor": LARGEST + 1}, id="beyond bigint"),
        pytest.param({"amount_minor": LARGEST}, id="its value beyond bigint"),
        pytest.param({"charge": "ch\0arge"}, id="NUL in the charge"),
        pytest.param({"payload": "pay\0load"}, id="NUL in the payload"),
        pytest.param({"currency": "X\0R"}, id="NUL in the currency"),
    ],
)
async def test_unbookable_report_is_dead_lettered_alone(
    payments_db: Database, changed: dict[str, object]
) -> None:
    """M-08, R-26: its bytes are kept, the audit reports it, and the rest of the batch is booked."""
    bad, others = reported(**changed), [reported() for _ in range(4)]
    handler = Handler(REPORTED, payments_confirms_reported, payments_db)
    outcome = await handler.handle_batch([message_of(event) for event in (bad, *others)])
    assert (outcome.done, outcome.dead_lettered, outcome.retried) == (4, 1, 0)
    assert [await wallet(event.about, payments_db) for event in others] == [1050] * 4
    assert await wallet(bad.about, payments_db) == 0
    kept = await payments_db.fetchval("select body from dead_letters where event_id = $1", bad.id)
    assert PaymentReported.model_validate_json(kept) == bad
    assert await violations(payments_db, "there is no dead letter")


async def violations(database: Database, truth: str) -> int:
    findings = (await audited(database, CHECKS, COUNTS)).findings
    [violations] = [finding.violations for finding in findings if finding.truth == truth]
    return violations


async def test_large_products_do_not_break_the_audit(payments_db: Database) -> None:
    """The amounts fit into bigint, but their product does not."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=10**15))
    assert await wallet(person, payments_db) == 10**15 * 14900 // 99 - 14900
    findings = (await audited(payments_db, CHECKS, COUNTS)).findings
    assert not [one for one in findings if one.invariant == "I9" and one.violations]


async def test_trial_balance_shows_suspense_beyond_bigint(payments_db: Database) -> None:
    """Suspense has no balance column that would bound its sum."""
    handler = Handler(REPORTED, payments_confirms_reported, payments_db)
    parked = [reported(currency="ABC", amount_minor=LARGEST) for _ in range(2)]
    await handler.handle_batch([message_of(event) for event in parked])
    answer = await answer_trial_balance(TrialBalanceQuery(), payments_db)
    sums = {(line.account, line.currency): line.amount_minor for line in answer.lines}
    assert sums["suspense", "ABC"] == 2 * LARGEST


@pytest.mark.parametrize("together", [True, False])
async def test_two_parts_pay_an_order_exactly(payments_db: Database, together: bool) -> None:
    """M-37: in one batch, and in two."""
    person = uuid4()
    order = await placed(person, payments_db)
    parts = [paid(order, person, amount=amount) for amount in (50, 49)]
    for batch in [parts] if together else [parts[:1], parts[1:]]:
        await report(payments_db, *batch)
    state = await payments_db.fetchval("select state from orders where id = $1", order.order)
    assert (state, await wallet(person, payments_db)) == ("paid", 0)
    findings = (await audited(payments_db, CHECKS, COUNTS)).findings
    assert not [one for one in findings if one.invariant == "I9" and one.violations]
