"""Failpoints: each step of the list is in the code, and only the named one ends the process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from shared.platform.failpoints import STATUS, STEPS

ROOT = Path(__file__).parents[2]

PROGRAM = """
from shared.platform.failpoints import failpoint
for _ in range(3):
    failpoint("handler_done", "reader")
print("lives")
"""


def test_steps_and_failpoints_in_the_code_agree() -> None:
    """A step without a failpoint proves nothing; a failpoint without a step never fires."""
    in_code = [
        node.args[0].value
        for folder in ("shared", "services")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "failpoint"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert set(in_code) == set(STEPS)


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
def test_only_the_nth_named_failpoint_ends_the_process(at: str, status: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"TURNPIKE_FAILPOINT": at}, capture_output=True
    )
    assert (ran.returncode, ran.stdout) == (status, b"" if status else b"lives\n")
