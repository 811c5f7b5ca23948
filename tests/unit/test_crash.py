"""The steps at which a process can be made to die: all are in the code, and only the one that is named kills."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from shared.crash import STATUS, STEPS

ROOT = Path(__file__).parents[2]

PROGRAM = "from shared.crash import passing\nfor _ in range(3): passing('handler_done', 'reader')\nprint('lives')"


def test_every_step_of_the_list_is_passed_in_the_code_and_no_other() -> None:
    """A step without a place would be proved by nobody, and a place without a step would never die."""
    passed = [
        node.args[0].value
        for folder in ("shared", "services")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "crash.passing"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert set(passed) == set(STEPS)


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("handler_done reader 3", STATUS),
        ("handler_done - 1", STATUS),
        ("handler_done reader 4", 0),
        ("handler_done writer 1", 0),
        ("handler_committed reader 1", 0),
        ("", 0),
    ],
)
def test_a_process_dies_at_the_nth_passing_of_the_step_that_is_named(at: str, status: int) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env={"TURNPIKE_CRASH_AT": at}, capture_output=True)
    assert (ran.returncode, ran.stdout) == (status, b"" if status else b"lives\n")
