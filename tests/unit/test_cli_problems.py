"""Where a payment is stuck, from what its owners recorded."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.kit.payment_history import (
    CONFIRMED,
    PERSON,
    REPORTED,
    completed,
    dead_lettered,
    delivery,
    failing,
    in_suspense,
    not_handled,
    pending,
    published,
    with_delivery,
    with_job,
    with_records,
    with_update,
)
from turnpike_cli.payment_history import PaymentHistory
from turnpike_cli.problems import problems
from turnpike_cli.rendering import history_lines
from turnpike_cli.verdict import verdict

Break = Callable[[PaymentHistory], PaymentHistory]


def test_completed_payment_has_no_problems() -> None:
    assert problems(completed()) == []


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        (
            lambda history: with_update(history, "waiting", tries=3, reason="PostgresError"),
            "stuck at bot-gateway: the report has been waiting since 2026-11-25 "
            "19:00:00.000, after 3 tries (PostgresError); fix: read the log of bot-gateway",
        ),
        (
            lambda history: with_update(history, "failed", reason="KeyError: 'currency'"),
            "stuck at bot-gateway: the report in update 7 cannot be read (KeyError: 'currency'); "
            "fix: look up the payment in Telegram.",
        ),
        (
            in_suspense,
            "stuck at payments: 99 XTR is held in suspense (payer_unknown); "
            "fix: find out who paid it, then run turnpike parked to-wallet ",
        ),
        (
            lambda history: replace(history, unresponsive=("notifier",)),
            "stuck at notifier: it does not answer; fix: check that notifier is running.",
        ),
    ],
)
def test_money_and_services_get_a_next_step(breaks: Break, sentence: str) -> None:
    """R-26: each problem of a payment has a place, a reason and a next step."""
    assert verdict(breaks(completed())).startswith(sentence)


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        (
            pending,
            "stuck at bot-gateway: bot.payment.reported has been pending since "
            "2026-11-25 19:00:00.000; fix: check that NATS is running",
        ),
        (
            lambda history: not_handled(history, "vpn", CONFIRMED),
            "stuck at vpn-provisioner: vpn_grants_confirmed has not handled "
            "payments.payment.confirmed; fix: check that vpn-provisioner "
            "is running and its consumer exists",
        ),
        (
            dead_lettered,
            "stuck at vpn-provisioner: vpn_grants_confirmed dead-lettered "
            "payments.payment.confirmed (ValueError: x); fix: fix the cause, then run "
            "turnpike dead-letters replay vpn-provisioner 3.",
        ),
        (
            failing,
            "stuck at referrals: referrals_rewards_confirmed is failing on "
            "payments.payment.confirmed, after 2 tries (KeyError: y); "
            "fix: fix the cause (the handler retries by itself).",
        ),
    ],
)
def test_an_unhandled_event_gets_a_next_step(breaks: Break, sentence: str) -> None:
    """R-26: an event that is pending, unhandled, failing or dead-lettered names its handler."""
    assert verdict(breaks(completed())).startswith(sentence)


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        (
            lambda history: with_job(history, state="dead", tries=10, error="PanelRefused: no"),
            "stuck at vpn-provisioner: node one refused the access job 10 times "
            "(PanelRefused: no); fix: fix the cause, then run "
            f"turnpike dead-letters replay vpn-provisioner {PERSON}.",
        ),
        (
            lambda history: with_job(history, state="waiting"),
            "stuck at vpn-provisioner: the access job for node one is waiting; "
            "fix: check that node one answers",
        ),
        (
            lambda history: with_delivery(
                history, delivery("access_ready", "waiting", tries=4, reason="502")
            ),
            "stuck at notifier: the message access_ready is not sent yet (next try at "
            "2026-11-25 19:00:00.000), after 4 tries (502); fix: check that Telegram answers",
        ),
        (
            lambda history: with_delivery(
                history, delivery("access_ready", "failed", reason="400: bad")
            ),
            "stuck at notifier: the message access_ready was not delivered (400: bad); "
            "fix: write to the person.",
        ),
    ],
)
def test_access_and_messages_get_a_next_step(breaks: Break, sentence: str) -> None:
    """R-26, P-08: a node that refuses and a message that is lost have a next step, too."""
    assert verdict(breaks(completed())).startswith(sentence)


def test_a_young_event_is_on_its_way() -> None:
    """Its age comes from the clock of its owner.

    A healthy shop is not called stuck in the moment between two services.
    """
    young = (published(CONFIRMED, age_s=0.2),)
    history = not_handled(completed(), "vpn", CONFIRMED)
    assert verdict(with_records(history, "payments", published=young)).startswith(
        "on its way at vpn-provisioner: vpn_grants_confirmed has not handled"
    )


def test_the_earliest_problem_is_the_verdict() -> None:
    broken = dead_lettered(not_handled(completed(), "payments", REPORTED))
    assert verdict(broken).startswith(
        "stuck at payments: payments_confirms_reported has not handled"
    )
    assert [one.where for one in problems(broken)] == ["payments", "vpn-provisioner"]
    assert "steps that are not done" in history_lines(broken)
