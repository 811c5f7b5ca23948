"""`turnpike demo` as a newcomer runs it: thirty lines, and the rest only where it is wanted."""

import os
import re
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from turnpike_local.processes import program

MOST_LINES = 30
WIDTH = 80
FAULTS = ("--kill", "payments", "--wipe-broker")


async def demo(*arguments: str) -> tuple[int, list[str], str]:
    """Status, lines of stdout, and stderr, of a run whose output is no terminal."""
    argv = (program("turnpike"), "demo", "--env-file", os.devnull, *arguments)
    process = await create_subprocess_exec(*argv, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), err.decode()


@pytest.fixture(scope="module")
async def played() -> tuple[int, list[str], str]:
    return await demo(*FAULTS)


def steps(lines: Sequence[str]) -> list[tuple[str, str]]:
    """The service and what it did, of each line of the timeline."""
    found = (re.match(r"\s+\d+\.\d{3}  (\S+)\s+(.+)", line) for line in lines)
    return [(match[1], match[2]) for match in found if match]


async def test_a_broken_purchase_fits_thirty_lines(played: tuple[int, list[str], str]) -> None:
    """80 columns, no colour codes, and no log lines of the demo's own connections."""
    status, lines, err = played
    assert (status, err) == (0, ""), "\n".join(lines)
    assert len(lines) <= MOST_LINES, "\n".join(lines)
    assert max(cell_len(line) for line in lines) <= WIDTH
    assert "\x1b" not in "".join(lines)


async def test_the_last_line_is_the_verdict(played: tuple[int, list[str], str]) -> None:
    _, lines, _ = played
    assert lines[-1].startswith("Every check holds: ")
    assert "Exit status 0" in lines[-1]


async def test_faults_and_effects_are_in_order(played: tuple[int, list[str], str]) -> None:
    _, lines, _ = played
    did = [what for _, what in steps(lines)]
    killed = next(what for what in did if what.startswith("is killed in its transaction"))
    booked = "books the payment, and Bob's order spends it"
    wiped = "is killed and loses its disk, with the payment in it"
    order = [did.index(what) for what in (killed, booked, wiped, "sends Bob his key")]
    assert order == sorted(order), did
    assert [service for service, what in steps(lines) if what == "is running again"] == [
        "payments",
        "nats",
    ]
    assert any("✓ payments died and restarted" in line for line in lines)


async def test_lost_notice_and_refund_are_checked(played: tuple[int, list[str], str]) -> None:
    """R-126: a lost notice was made up for by asking, and a refund took the reward back."""
    _, lines, _ = played
    for sentence in ("a lost notice was made up for", "a refund took the reward back"):
        assert any(f"✓ {sentence}" in line for line in lines), sentence
