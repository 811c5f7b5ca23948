"""The chaos matrix is whole: each step at which a process can die has its rows, made from the real lists."""

from typing import Any

import pytest

from shared.commands import COMMANDS, PlaceOrder
from shared.contract import Command
from shared.crash import STEPS
from shared.owners import OWNERS
from shared.streams import LISTENING
from tests.chaos.__main__ import ROWS
from tests.chaos.crashes import LISTENERS, STEPS_OF_ROW, TELLERS, order_of_an_operator, points_of, sampled


def test_every_step_belongs_to_one_row() -> None:
    """W-24"""
    assert sorted(step for steps in STEPS_OF_ROW.values() for step in steps) == sorted(STEPS)


def test_every_step_is_passed_somewhere_and_every_service_dies() -> None:
    """W-24"""
    points = {step: list(points_of(step)) for step in STEPS}
    assert all(points.values())
    assert {point.service for some in points.values() for point in some} == set(TELLERS + LISTENERS) == set(OWNERS)


def test_every_handler_relay_and_command_has_its_points() -> None:
    """W-24: a new one gets them by itself."""
    who = {step: {point.who for point in points_of(step)} for step in STEPS}
    for step in ("handler_remembered", "handler_done", "handler_committed"):
        assert who[step] == {listening.handler for listening in LISTENING}
    assert who["relay_published"] == set(OWNERS)
    for step in ("command_done", "command_committed"):
        assert who[step] == {command.topic for command in COMMANDS}


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind is not PlaceOrder], ids=lambda kind: kind.topic)
def test_every_command_can_be_given_by_an_operator_who_wants_nothing(kind: type[Command[Any]]) -> None:
    """W-24: a service dies at a command only when somebody gives it."""
    assert order_of_an_operator(kind).subject() == kind.subject()


def test_the_short_form_leaves_out_no_step_no_handler_and_no_relay() -> None:
    points = [point for step in STEPS for point in points_of(step)]
    some = sampled(points)
    assert {point.step for point in some} == set(STEPS)
    assert {point.who for point in some} >= {listening.handler for listening in LISTENING} | set(OWNERS)
    assert len(some) < len(points) * 0.6


def test_both_forms_play_each_row_once() -> None:
    numbers = [row.number for row in ROWS]
    assert len(set(numbers)) == len(numbers)
    assert set(STEPS_OF_ROW) <= {row.number for row in ROWS if row.long}
    assert "1-6" in {row.number for row in ROWS if row.short}
