"""`turnpike up` starts the whole shop, says in one sentence what it cannot do, and leaves nothing behind."""

import asyncio
import os
import re
import secrets
import signal
import socket
import subprocess
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.processes import MARK, comes_true, living
from turnpike_cli.main import python_problem
from turnpike_local.environment import read_env_file
from turnpike_local.ports import free_port
from turnpike_local.processes import StartError, program
from turnpike_local.sandbox.app import Sandbox
from turnpike_local.sandbox.client import SandboxClient
from turnpike_local.up import stack_of

UP_TIMEOUT_S = 180.0
END_TIMEOUT_S = 120.0
TOKEN = "42:" + "A" * 35
ROOT = Path(__file__).parents[2]
LINK = r"http://127\.0\.0\.1:\d+$"


@pytest.fixture
def state(servers_dir: Path, tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return servers_dir / tmp_path.name


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator["Up"]:
    """A shop that is up, for tests which leave it so."""
    async with upping(servers_dir / "shop", TURNPIKE_PAYMENTS_OWNER_DSN="postgresql://elsewhere") as up:
        await up.says("Ctrl-C stops everything")
        yield up
        assert await up.end(signal.SIGHUP) == 0
        assert not up.processes()


@dataclass
class Up:
    """A `turnpike up` of ours; `mark` is in the environment of whatever it starts."""

    process: Process
    state: Path
    mark: str
    others: frozenset[int]
    said: list[str]

    async def says(self, pattern: str, timeout_s: float = UP_TIMEOUT_S) -> re.Match[str]:
        """The first line from now on that the pattern is found in."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            while line := (await self.process.stdout.readline()).decode():
                self.said.append(line)
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"it ended without saying {pattern!r}:\n{''.join(self.said)}")

    def processes(self) -> dict[int, str]:
        """The command lines of all that lives of it."""
        return {pid: command for pid, command in living(self.mark, self.state).items() if pid not in self.others}

    def environment(self, pid: int) -> str:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")

    def pid(self, package: str) -> int:
        """The process of one service."""
        return next(pid for pid, command in self.processes().items() if f"-m {package} " in command)

    async def end(self, by: signal.Signals) -> int:
        self.process.send_signal(by)
        async with asyncio.timeout(END_TIMEOUT_S):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def upping(state: Path, *, env_file: str | Path = os.devnull, **environment: str) -> AsyncIterator[Up]:
    """A `turnpike up` with this environment and file, ended at the latest with the block."""
    mark = secrets.token_hex(8)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")}
    ours |= {"TURNPIKE_STATE_DIR": str(state), "TURNPIKE_SANDBOX_PORT": str(free_port()), MARK: mark}
    others = frozenset(living(mark, state))
    process = await asyncio.create_subprocess_exec(
        program("turnpike"), "up", "--env-file", env_file, env=ours | environment, stdout=PIPE, stderr=STDOUT
    )
    up = Up(process, state, mark, others, [])
    try:
        yield up
    finally:
        if process.returncode is None:
            await up.end(signal.SIGTERM)


async def refusal(state: Path, *, env_file: str | Path = os.devnull, **environment: str) -> str:
    """The one sentence of a `turnpike up` that must refuse, with status 2 and nothing left running."""
    async with upping(state, env_file=env_file, **environment) as up:
        async with asyncio.timeout(UP_TIMEOUT_S):
            said, _ = await up.process.communicate()
        assert up.process.returncode == 2, said.decode()
        assert not up.processes()
        return said.decode().splitlines()[-1]


async def test_an_up_by_the_example_of_an_env_file_starts_the_sandbox_and_leaves_no_process(state: Path) -> None:
    """Copied as it is, it describes a shop elsewhere; of that nothing reaches the shop on this machine."""
    async with upping(state, env_file=ROOT / ".env.example") as up:
        await up.says(LINK)
        assert len(up.processes()) >= 10  # Itself, PostgreSQL, NATS, node, sandbox and five services.
        assert await up.end(signal.SIGINT) == 0
        assert not up.processes()


async def test_an_up_that_is_ended_while_it_starts_leaves_no_process(state: Path) -> None:
    async with upping(state) as up:
        await up.says("PostgreSQL")
        assert await up.end(signal.SIGTERM) == 0
        assert not up.processes()


async def test_a_killed_up_leaves_no_process_and_the_next_finds_the_same_people(state: Path) -> None:
    async with upping(state) as up:
        async with SandboxClient((await up.says(LINK)).group()) as client:
            await client.new_person("Ada")
        up.process.kill()
        await up.process.wait()
        assert await comes_true(lambda: not up.processes())
    async with upping(state) as up, SandboxClient((await up.says(LINK)).group()) as client:
        assert [person.first_name for person in await client.people()] == ["Ada"]


async def test_a_service_that_dies_is_said_and_started_again(shop: Up) -> None:
    dead = shop.pid("notifier")
    os.kill(dead, signal.SIGKILL)
    await shop.says("notifier ended with SIGKILL, its last lines:$")
    await shop.says("notifier is started again in 1 s")
    await shop.says("notifier is back")
    assert shop.pid("notifier") != dead


async def test_a_second_up_says_that_one_is_running(shop: Up) -> None:
    assert await refusal(shop.state) == f"Turnpike already runs on {shop.state}: process {shop.process.pid}."


async def test_the_state_of_a_running_shop_is_not_removed(shop: Up) -> None:
    status, said = await asyncio.to_thread(cleaned, shop.state)
    assert (
        said == f"Turnpike runs on {shop.state}: process {shop.process.pid}. Stop it first (Ctrl-C in its terminal).\n"
    )
    assert status == 2
    assert "postgres" in os.listdir(shop.state)


def test_the_state_of_a_shop_that_ended_is_removed(state: Path) -> None:
    state.mkdir()
    (state / "lock").write_text("1\n")
    assert cleaned(state) == (0, "")
    assert not state.exists()
    assert cleaned(state) == (0, ""), "what is not there is clean"


def cleaned(state: Path) -> tuple[int, str]:
    """What `make clean` does, to another folder."""
    argv = ["sh", str(ROOT / "deploy/local/clean"), str(state)]
    clean = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return clean.returncode, clean.stderr


async def test_a_service_is_given_no_password_but_its_own(shop: Up) -> None:
    environment = shop.environment(shop.pid("referrals"))
    assert "TURNPIKE_REFERRALS_DSN=postgresql://referrals_app:" in environment
    assert environment.count("postgresql://") == 1
    assert "TURNPIKE_BOT_TOKEN" not in environment


async def test_a_taken_port_is_said(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = await refusal(state, TURNPIKE_SANDBOX_PORT=str(port))
    assert said == f"Port {port} is taken by another program; TURNPIKE_SANDBOX_PORT chooses another one."


@pytest.mark.parametrize("port", ["0", "65536", "web", "-1"])
def test_a_port_that_is_none_is_said(port: str) -> None:
    with pytest.raises(StartError, match="TURNPIKE_SANDBOX_PORT must be a port between 1 and 65535"):
        stack_of({"TURNPIKE_SANDBOX_PORT": port})


async def test_a_state_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    state = tmp_path / "file"
    os.close(os.open(state, os.O_CREAT))
    assert await refusal(state) == f"The state folder {state} cannot be written: File exists."


async def test_a_state_of_another_postgresql_is_said(state: Path) -> None:
    data = state / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    assert await refusal(state) == f"{data} was made by PostgreSQL 15, and this is PostgreSQL 18."


async def test_a_broken_state_is_said(state: Path) -> None:
    (state / "postgres" / "data").mkdir(parents=True)
    assert await refusal(state) == f"{state}/postgres/data is not a PostgreSQL data folder (no readable PG_VERSION)."


async def test_a_missing_program_is_said(state: Path) -> None:
    said = await refusal(state, PG_BIN="/nowhere")
    assert said == "The program /nowhere/initdb is missing: it is neither installed with Turnpike nor on the PATH."


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_another_python_is_said(version: tuple[int, int]) -> None:
    assert python_problem(version) == (
        f"Turnpike runs on Python 3.11, 3.12 and 3.13, and this is Python {version[0]}.{version[1]}."
    )


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_our_pythons_are_welcome(version: tuple[int, int]) -> None:
    assert python_problem(version) is None


@pytest.fixture
async def telegram(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A Bot API that knows the bot of `TOKEN`."""
    async with Sandbox(tmp_path, TOKEN) as telegram:
        yield telegram


async def test_a_bot_s_token_starts_no_sandbox_and_a_webhook_has_a_port_that_stays(
    state: Path, telegram: Sandbox
) -> None:
    """What leads Telegram to the shop cannot follow a port that is another one after every start."""
    webhook = {
        "TURNPIKE_TELEGRAM_MODE": "webhook",
        "TURNPIKE_TELEGRAM_WEBHOOK_URL": "http://127.0.0.1:1/telegram",
        "TURNPIKE_TELEGRAM_WEBHOOK_SECRET": "s" * 32,
    }
    assert stack_of({"TURNPIKE_BOT_TOKEN": TOKEN, **webhook}).ports["bot"] == 8080
    real = {"TURNPIKE_BOT_TOKEN": TOKEN, "TURNPIKE_TELEGRAM_API_URL": telegram.url}
    port = free_port()
    async with upping(state, **real, **webhook, TURNPIKE_HTTP_PORT=str(port)) as up:
        assert (await up.says("Turnpike is up after .* s: (.*)$")).group(1) == "https://t.me/turnpike_bot"
        await up.says(f"Telegram's updates are taken at http://127.0.0.1:{port}/telegram.$")
        started = up.processes()
        assert not any("turnpike_local.sandbox" in command for command in started.values())
        told = {pid for pid in started if TOKEN in up.environment(pid)}
        assert told == {up.process.pid, up.pid("bot_gateway"), up.pid("notifier")}


@pytest.mark.parametrize(
    ("token", "url", "sentence"),
    [
        ("42:" + "B" * 35, "", "{} knows no bot with the token in TURNPIKE_BOT_TOKEN: it answers 401 Unauthorized."),
        (
            TOKEN,
            "http://127.0.0.1:1",
            "Telegram does not answer at {} (Connection refused); TURNPIKE_TELEGRAM_API_URL names another Bot API.",
        ),
        (TOKEN, "127.0.0.1", "TURNPIKE_TELEGRAM_API_URL is not usable: it has to look like https://api.telegram.org."),
    ],
    ids=["a wrong token", "nobody there", "no address"],
)
async def test_a_bot_that_cannot_be_served_is_said_before_anything_starts(
    state: Path, telegram: Sandbox, token: str, url: str, sentence: str
) -> None:
    url = url or telegram.url
    said = await refusal(state, TURNPIKE_BOT_TOKEN=token, TURNPIKE_TELEGRAM_API_URL=url)
    assert said == sentence.format(url)
    assert state.name not in os.listdir(state.parent)


def test_an_env_file_is_read_and_the_real_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("# A comment\n\nTURNPIKE_ONE=file\nexport TURNPIKE_TWO='two words'\nTURNPIKE_THREE=${HOME}\n")
    monkeypatch.setattr(os, "environ", {"TURNPIKE_ONE": "real"})
    read_env_file(file)
    assert os.environ == {"TURNPIKE_ONE": "real", "TURNPIKE_TWO": "two words", "TURNPIKE_THREE": "${HOME}"}


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("A=1\n\nnonsense here\n", "line 3: NAME=value is expected."),
        ("A=\udcff", "cannot be read: "),
        (None, "cannot be read: No such file or directory."),
    ],
    ids=["a line that is none", "no text", "no file"],
)
def test_an_env_file_that_cannot_be_read_is_said(tmp_path: Path, written: str | None, sentence: str) -> None:
    file = tmp_path / ".env"
    if written is not None:
        file.write_bytes(written.encode(errors="surrogateescape"))
    with pytest.raises(StartError) as refused:
        read_env_file(file)
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(str(file))


async def test_a_demo_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    environment = os.environ | {"TMPDIR": str(tmp_path), MARK: mark}
    argv = (program("turnpike"), "demo", "--env-file", os.devnull)
    demo = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=PIPE, stderr=STDOUT)
    assert demo.stdout is not None
    async with asyncio.timeout(UP_TIMEOUT_S):
        while b"PostgreSQL" not in (line := await demo.stdout.readline()):
            assert line, "the demo ended before it had begun"
        demo.send_signal(signal.SIGTERM)
        await demo.communicate()
    assert demo.returncode == 130
    assert not living(mark, tmp_path)
    assert os.listdir(tmp_path) == []
