"""The chaos matrix covers every failpoint, from the lists that make up the services."""

from typing import Any

import pytest

from shared.contracts.catalogue import COMMANDS
from shared.contracts.message import Command
from shared.contracts.owners import OWNERS
from shared.contracts.payments import PlaceOrder
from shared.contracts.streams import SUBSCRIPTIONS
from shared.platform.failpoints import STEPS
from tests.chaos.__main__ import ROWS
from tests.chaos.crashes import PUBLISHERS, SUBSCRIBERS
from tests.chaos.points import NOT_IN_A_ROW, STEPS_OF_ROW, points_of, sampled
from tests.chaos.triggers import harmless_command


def test_every_step_belongs_to_one_row() -> None:
    """W-24"""
    played = [step for steps in STEPS_OF_ROW.values() for step in steps]
    assert sorted([*played, *NOT_IN_A_ROW]) == sorted(STEPS)


def test_every_step_and_service_has_a_point() -> None:
    """W-24"""
    points = {step: list(points_of(step)) for step in STEPS}
    assert all(points.values())
    assert (
        {point.service for some in points.values() for point in some}
        == set(PUBLISHERS + SUBSCRIBERS)
        == set(OWNERS)
    )


def test_every_handler_relay_and_command_has_points() -> None:
    """W-24: a new one gets its points by itself."""
    who = {step: {point.who for point in points_of(step)} for step in STEPS}
    for step in ("handler_remembered", "handler_done", "handler_committed"):
        assert who[step] == {subscription.handler for subscription in SUBSCRIPTIONS}
    assert who["relay_published"] == set(OWNERS)
    for step in ("command_done", "command_committed"):
        assert who[step] == {command.topic for command in COMMANDS}


@pytest.mark.parametrize(
    "kind", [kind for kind in COMMANDS if kind is not PlaceOrder], ids=lambda kind: kind.topic
)
def test_every_command_has_a_harmless_form(kind: type[Command[Any]]) -> None:
    """W-24: a service reaches the points of a command only when it receives one."""
    assert harmless_command(kind).subject() == kind.subject()


def test_short_form_keeps_steps_handlers_and_relays() -> None:
    points = [point for step in STEPS for point in points_of(step)]
    some = sampled(points)
    assert {point.step for point in some} == set(STEPS)
    assert {point.who for point in some} >= {
        subscription.handler for subscription in SUBSCRIPTIONS
    } | set(OWNERS)
    assert len(some) < len(points) * 0.6


def test_both_forms_play_each_row_once() -> None:
    numbers = [row.number for row in ROWS]
    assert len(set(numbers)) == len(numbers)
    assert set(STEPS_OF_ROW) <= {row.number for row in ROWS if row.long}
    assert "1-6" in {row.number for row in ROWS if row.short}
