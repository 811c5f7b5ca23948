"""A child process starts when it is ready, and ends at the latest with its parent."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.kit.processes import runs
from tests.kit.waiting import until
from turnpike_local import ports
from turnpike_local.ports import free_port, is_free, kept_port
from turnpike_local.processes import LOG_KEPT_BYTES, Child, StartError, run
from turnpike_local.supervisor import supervise

SLEEP = (sys.executable, "-c", "import time; print('asleep', flush=True); time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('ready', flush=True); time.sleep(60)",
)
HOLDER = (
    sys.executable,
    "-c",
    "import time; from turnpike_local.ports import free_port;"
    " print(free_port(), flush=True); time.sleep(60)",
)
WITH_GRANDCHILD = (
    sys.executable,
    "-c",
    "import subprocess, time;"
    " print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)",
)


async def gone(pid: int) -> None:
    await until(lambda: not runs(pid))


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


async def test_a_stubborn_child_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = await started(STUBBORN, tmp_path / "log")
    assert await child.stop(grace_s=0.2) == -signal.SIGKILL


async def test_grandchildren_end_with_the_child(tmp_path: Path) -> None:
    child = await started(WITH_GRANDCHILD, tmp_path / "log")
    grandchild = int(child.last_lines())
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    await gone(grandchild)


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
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    assert runs(child)
    process.kill()
    await process.wait()
    await gone(child)


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def never() -> bool:
        return False

    argv = (sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    starting = asyncio.create_task(Child.start("child", argv, log=log, ready=never))
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not runs(int(log.read_text()))


async def test_a_failed_start_shows_the_last_lines(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    argv = (sys.executable, "-c", "print('no disk'); raise SystemExit(3)")
    with pytest.raises(
        StartError, match=r"^child ended with status 3 while it was starting\.\nno disk$"
    ):
        await Child.start("child", argv, log=tmp_path / "log", ready=never)


async def test_a_child_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    async def refused() -> bool:
        raise ConnectionRefusedError

    with pytest.raises(StartError, match=r"did not become ready within 0\.3 s"):
        await Child.start("child", SLEEP, log=tmp_path / "log", ready=refused, ready_timeout_s=0.3)


async def test_a_missing_program_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="The program no-such-program is missing"):
        await Child.start("child", ["no-such-program"], log=tmp_path / "log")


async def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"sleeper took longer than 0\.2 s"):
        await run("sleeper", SLEEP, log=tmp_path / "log", timeout_s=0.2)


async def test_the_input_may_exceed_a_pipe(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import sys; print(len(sys.stdin.read()))")
    child = await Child.start("child", argv, log=tmp_path / "log", stdin=b"x" * 200_000)
    assert await child.wait() == 0
    assert child.last_lines() == "200000"


async def test_a_large_log_is_renamed(tmp_path: Path) -> None:
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


async def test_a_port_is_reserved_while_its_holder_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-32: two shops that start at once choose the same port, and one of them cannot listen."""
    holder = await started(HOLDER, tmp_path / "log")
    port = int(holder.last_lines())
    monkeypatch.setattr(ports, "server_ports", lambda: [port] * 1_000)
    with pytest.raises(OSError, match="no free port"):
        free_port()
    holder.kill()
    await holder.wait()
    assert free_port() == port


def test_a_kept_port_stays_while_it_is_free(tmp_path: Path) -> None:
    """W-32: links that people have contain it. A port that is taken is replaced."""
    file = tmp_path / "port"
    port = kept_port(file)
    assert kept_port(file) == port == int(file.read_text())
    assert free_port() != port
    with socket.create_server(("127.0.0.1", port)):
        other = kept_port(file)
    assert other != port
    assert kept_port(file) == other == int(file.read_text())


@pytest.mark.parametrize("written", ["", "web", "0", "65536", "-1", "99999999999999999999"])
def test_a_malformed_kept_port_is_replaced(tmp_path: Path, written: str) -> None:
    file = tmp_path / "port"
    file.write_text(written)
    assert kept_port(file) == int(file.read_text())


def test_a_port_of_another_part_is_not_kept(tmp_path: Path) -> None:
    """W-32: it was drawn before the file was read."""
    file = tmp_path / "port"
    file.write_text(str(free_port()))
    drawn = int(file.read_text())
    assert kept_port(file) != drawn


@pytest.mark.parametrize(
    ("outgoing", "first", "last"), [("32768 60999", 10_000, 65_535), ("1024 65535", 10_000, 65_535)]
)
def test_servers_avoid_the_ports_of_outgoing_connections(
    outgoing: str, first: int, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-32: a connection of another program takes the port before its server listens."""
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


async def test_the_supervisor_restarts_a_part_until_it_runs(
    tmp_path: Path,
) -> None:
    reports: list[str] = []
    part = Sleeper(tmp_path / "log")
    await part.restart()
    first = part.child
    supervisor = asyncio.create_task(supervise(part, reports.append, first_delay_s=0.05))
    await asyncio.sleep(0.05)
    first.kill()
    await until(lambda: "child is running again." in reports)
    supervisor.cancel()
    await asyncio.wait([supervisor])
    assert part.child.alive
    await part.child.stop()
    assert reports == [
        "child ended with SIGKILL, its last lines:\nasleep",
        "child restarts in 0.05 s.",
        "the disk is full",
        "child restarts in 0.1 s.",
        "child is running again.",
    ]
