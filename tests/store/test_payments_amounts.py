"""What cannot be a row of the book is buried whole, with an alarm, and holds nobody else's money back."""

from typing import Any
from uuid import uuid4

import pytest

from payments.answers import answer_book
from payments.audit import CHECKS, COUNTS
from payments.subscribers import payments_confirms_reported
from shared import outbox
from shared.audit import audited
from shared.db import Database
from shared.facts import PaymentReported
from shared.inbox import Handler, Letter
from shared.questions import AskBook
from shared.streams import LISTENING
from tests.kit.payments import NOW, paid, placed, report, wallet

REPORTED = next(listening for listening in LISTENING if listening.handler == "payments_confirms_reported")
LARGEST = 2**63 - 1


def reported(**changed: object) -> PaymentReported:
    person = uuid4()
    fields: dict[str, Any] = {"charge": uuid4().hex, "payload": "free", "currency": "XTR", "amount_minor": 7} | changed
    return PaymentReported.because(
        f"telegram_stars:{fields['charge']}",
        about=person,
        at=NOW,
        acquirer="telegram_stars",
        payer=person,
        paid_at=NOW,
        **fields,
    )


def letter(fact: PaymentReported) -> Letter:
    headers = {"Nats-Msg-Id": str(fact.id), "Turnpike-Digest": str(fact.digest())}
    headers["Turnpike-Hour"] = outbox.hour_of(fact.at)
    return Letter(fact.subject(), headers, fact.model_dump_json().encode())


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
async def test_a_report_that_cannot_be_booked_is_buried_whole_and_the_rest_is_booked(
    book: Database,
    changed: dict[str, object],
) -> None:
    """M-08, R-26: its bytes and the reason are kept, the audit says so, and its neighbours are booked."""
    bad, neighbours = reported(**changed), [reported() for _ in range(4)]
    outcome = await Handler(REPORTED, payments_confirms_reported, book).absorb([letter(bad), *map(letter, neighbours)])
    assert (outcome.done, outcome.buried, outcome.retried) == (4, 1, 0)
    assert [await wallet(fact.about, book) for fact in neighbours] == [1050] * 4
    assert await wallet(bad.about, book) == 0
    kept = await book.fetchval("select body from dead_letters where fact_id = $1", bad.id)
    assert PaymentReported.model_validate_json(kept) == bad
    findings = (await audited(book, CHECKS, COUNTS)).findings
    assert next(finding for finding in findings if finding.truth == "no letter lies buried").violations


async def test_amounts_that_fit_but_multiply_beyond_bigint_do_not_blind_the_audit(
    book: Database,
) -> None:
    person = uuid4()
    await report(book, paid(await placed(person, book), person, amount=10**15))
    assert await wallet(person, book) == 10**15 * 14900 // 99 - 14900
    assert not [f for f in (await audited(book, CHECKS, COUNTS)).findings if f.invariant == "I9" and f.violations]


async def test_suspense_beyond_bigint_can_still_be_shown(book: Database) -> None:
    """Nobody's balance bounds what is parked."""
    handler = Handler(REPORTED, payments_confirms_reported, book)
    await handler.absorb([letter(reported(currency="ABC", amount_minor=LARGEST)) for _ in range(2)])
    lines = {(line.account, line.currency): line.amount_minor for line in (await answer_book(AskBook(), book)).lines}
    assert lines["suspense", "ABC"] == 2 * LARGEST
