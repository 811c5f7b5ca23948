"""A child process starts when it is ready and ends surely, whoever dies first."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.kit.processes import comes_true, runs
from turnpike_local import ports
from turnpike_local.keeper import keep
from turnpike_local.ports import free_port, is_free
from turnpike_local.processes import LOG_KEPT_BYTES, Child, StartError, run

SLEEP = (sys.executable, "-c", "import time; print('asleep', flush=True); time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
)
HOLDER = (
    sys.executable,
    "-c",
    "import time; from turnpike_local.ports import free_port; print(free_port(), flush=True); time.sleep(60)",
)
WITH_GRANDCHILD = (
    sys.executable,
    "-c",
    "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)",
)


async def gone(pid: int) -> bool:
    return await comes_true(lambda: not runs(pid))


async def started(argv: tuple[str, ...], log: Path) -> Child:
    """A child that has written its first line."""

    async def has_written() -> bool:
        return os.stat(log).st_size > 0

    return await Child.start("child", argv, log=log, ready=has_written)


async def test_a_stopped_child_leaves_no_process(tmp_path: Path) -> None:
    child = await started(SLEEP, tmp_path / "log")
    assert child.alive
    assert await child.stop() == -signal.SIGTERM
    assert not child.alive
    assert not runs(child.pid)
    assert await child.stop() == -signal.SIGTERM, "a second stop is harmless"


async def test_a_child_deaf_to_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = await started(STUBBORN, tmp_path / "log")
    began = time.monotonic()
    assert await child.stop(grace_s=0.2) == -signal.SIGKILL
    assert time.monotonic() - began < 3


async def test_the_children_of_a_child_end_with_it(tmp_path: Path) -> None:
    child = await started(WITH_GRANDCHILD, tmp_path / "log")
    grandchild = int(child.last_lines())
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    assert await gone(grandchild)


async def test_a_killed_parent_leaves_no_child(tmp_path: Path) -> None:
    parent = textwrap.dedent(f"""
        import asyncio, time
        from pathlib import Path
        from turnpike_local.processes import Child
        async def main():
            child = await Child.start("child", {SLEEP!r}, log=Path({str(tmp_path / "log")!r}))
            print(child.pid, flush=True)
            time.sleep(60)
        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    assert runs(child)
    process.kill()
    await process.wait()
    assert await gone(child)


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def never() -> bool:
        return False

    argv = (sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    starting = asyncio.create_task(Child.start("child", argv, log=log, ready=never))
    assert await comes_true(lambda: log.exists() and log.read_text().endswith("\n"))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not runs(int(log.read_text()))


async def test_a_child_that_ends_while_starting_says_its_last_lines(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    argv = (sys.executable, "-c", "print('no disk'); raise SystemExit(3)")
    with pytest.raises(StartError, match=r"^child ended with status 3 while it was starting\.\nno disk$"):
        await Child.start("child", argv, log=tmp_path / "log", ready=never)


async def test_a_child_that_never_becomes_ready_is_ended(tmp_path: Path) -> None:
    async def nobody_there() -> bool:
        raise ConnectionRefusedError

    with pytest.raises(StartError, match=r"did not become ready within 0\.3 s"):
        await Child.start("child", SLEEP, log=tmp_path / "log", ready=nobody_there, ready_timeout_s=0.3)


async def test_a_missing_program_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="The program no-such-program is missing"):
        await Child.start("child", ["no-such-program"], log=tmp_path / "log")


async def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"sleeper took longer than 0\.2 s"):
        await run("sleeper", SLEEP, log=tmp_path / "log", timeout_s=0.2)


async def test_what_a_child_reads_may_be_longer_than_a_pipe(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import sys; print(len(sys.stdin.read()))")
    child = await Child.start("child", argv, log=tmp_path / "log", stdin=b"x" * 200_000)
    assert await child.wait() == 0
    assert child.last_lines() == "200000"


async def test_a_grown_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (LOG_KEPT_BYTES + 1))
    child = await Child.start("child", (sys.executable, "-c", "print('new')"), log=log)
    await child.wait()
    assert log.read_text() == "new\n"
    assert (tmp_path / "log.1").stat().st_size == LOG_KEPT_BYTES + 1


def test_a_free_port_is_given_once() -> None:
    given = [free_port() for _ in range(50)]
    assert len(set(given)) == len(given)
    assert is_free(given[0])


async def test_no_other_process_is_given_a_port_until_its_holder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-32: two shops that start side by side choose the same port, and one of them cannot listen."""
    holder = await started(HOLDER, tmp_path / "log")
    port = int(holder.last_lines())
    monkeypatch.setattr(ports, "server_ports", lambda: [port] * 1_000)
    with pytest.raises(OSError, match="no free port"):
        free_port()
    holder.kill()
    await holder.wait()
    assert free_port() == port


@pytest.mark.parametrize(
    ("outgoing", "first", "last"), [("32768 60999", 10_000, 65_535), ("1024 65535", 10_000, 65_535)]
)
def test_servers_take_no_port_of_outgoing_connections_where_others_are_left(
    outgoing: str, first: int, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-32: a connection of another program sits on the port before its server listens."""
    monkeypatch.setattr(ports, "_OUTGOING", tmp_path / "range")
    (tmp_path / "range").write_text(outgoing)
    given = ports.server_ports()
    assert (given[0], given[-1]) == (first, last)
    assert (40_000 in given) is (outgoing == "1024 65535")
    assert free_port() in given


class Sleeper:
    def __init__(self, log: Path) -> None:
        self.log = log
        self.starts = 0

    async def restart(self) -> None:
        self.starts += 1
        if self.starts == 2:
            raise StartError("the disk is full")
        self.child = await started(SLEEP, self.log)


async def test_the_keeper_says_why_a_part_ended_and_starts_it_until_it_is_back(tmp_path: Path) -> None:
    said: list[str] = []
    part = Sleeper(tmp_path / "log")
    await part.restart()
    first = part.child
    keeper = asyncio.create_task(keep(part, said.append, first_delay_s=0.05))
    await asyncio.sleep(0.05)
    first.kill()
    assert await comes_true(lambda: "child is back." in said)
    keeper.cancel()
    await asyncio.wait([keeper])
    assert part.child.alive
    await part.child.stop()
    assert said == [
        "child ended with SIGKILL, its last lines:\nasleep",
        "child is started again in 0.05 s.",
        "the disk is full",
        "child is started again in 0.1 s.",
        "child is back.",
    ]
