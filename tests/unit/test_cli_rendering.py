"""The lines of `turnpike why`: they fit a screen and print nothing but text."""

from dataclasses import replace
from uuid import uuid4

from shared.contracts.notifier import Deliveries
from shared.contracts.payments import EntryRecord, InvoiceRecord, TransferRecord
from tests.kit.payment_history import (
    AT,
    CONFIRMED,
    PERSON,
    TOPICS,
    completed,
    dead_lettered,
    delivery,
    failing,
    not_handled,
    with_job,
)
from turnpike_cli.payment_history import PaymentHistory, subscriptions_to
from turnpike_cli.rendering import history_lines


def test_lines_fit_and_control_characters_are_escaped() -> None:
    history = with_job(completed(), state="dead", error="bad \x1b[31m\n" + "word " * 60)
    lines = history_lines(replace(history, unresponsive=("bot",)))
    assert max(len(line) for line in lines) <= 100
    assert not [line for line in lines if not line.isprintable()]


def full() -> PaymentHistory:
    """With an invoice, three transfers and four messages."""
    history = completed()
    assert history.payment
    invoice = InvoiceRecord(
        invoice=uuid4(),
        way="stars",
        asked_minor=99,
        currency="XTR",
        state="paid",
        opened_at=AT,
        expires_at=AT,
        expired=False,
    )
    entries = tuple(
        EntryRecord(account=account, owner=PERSON, currency="RUB", amount_minor=14900)
        for account in ("wallet", "revenue")
    )
    transfers = tuple(
        TransferRecord(
            transfer=uuid4(), cause="a cause", reason=reason, person=PERSON, at=AT, entries=entries
        )
        for reason in ("receipt", "purchase", "reward")
    )
    kinds = ("paid_issuing", "access_ready", "left_over", "reward_earned")
    changes = {"invoices": (invoice,), "transfers": transfers}
    return replace(
        history,
        payment=history.payment.model_copy(update=changes),
        deliveries=Deliveries(deliveries=tuple(delivery(kind) for kind in kinds)),
    )


def test_a_completed_payment_fits_one_screen() -> None:
    """The entries of the transfers are printed only with `--entries`."""
    history = full()
    assert history.payment
    short, long = history_lines(history), history_lines(history, entries=True)
    assert len(short) <= 40
    entries = sum(len(transfer.entries) for transfer in history.payment.transfers)
    assert len(long) == len(short) + entries
    first_entry = next(line for line in long if line not in short)
    assert first_entry.split()[:3] == ["149.00", "RUB", "wallet"]
    handlers = [one.handler for topic in TOPICS.values() for one in subscriptions_to(topic)]
    assert not [handler for handler in handlers if handler not in "".join(short)]


def test_an_unfinished_handler_has_its_own_line() -> None:
    """The state of each is apart from the handlers that are done."""
    for broken, text in (
        (not_handled(completed(), "vpn", CONFIRMED), "vpn_grants_confirmed: not handled"),
        (failing(completed()), "referrals_rewards_confirmed: failed 2 times, KeyError: y"),
        (dead_lettered(completed()), "vpn_grants_confirmed: done (dead letter 3)"),
    ):
        lines = [line[25:].strip() for line in history_lines(broken)]
        assert text in lines, text
