"""`turnpike up` starts the whole shop, reports a refusal in one sentence, and ends completely."""

import asyncio
import os
import secrets
import signal
import socket
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.processes import MARK, living
from tests.kit.up import UP_TIMEOUT_S, Up, refusal, running_up
from tests.kit.waiting import until
from tests.kit.yookassa import Merchant, order
from turnpike_cli.main import python_problem
from turnpike_local.environment import read_env_file
from turnpike_local.processes import StartError, program
from turnpike_local.sandbox.__main__ import SHOP
from turnpike_local.sandbox.client import SandboxClient
from turnpike_local.up import stack_of
from turnpike_local.yookassa import Shop

ROOT = Path(__file__).parents[2]
LINK = r"http://127\.0\.0\.1:\d+$"


@pytest.fixture
def state(servers_dir: Path, tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return servers_dir / tmp_path.name


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Up]:
    """A running shop, for tests that do not stop it."""
    async with running_up(
        servers_dir / "shop", TURNPIKE_PAYMENTS_OWNER_DSN="postgresql://elsewhere"
    ) as up:
        await up.prints("Ctrl-C stops everything")
        yield up
        assert await up.end(signal.SIGHUP) == 0
        assert not up.processes()


async def test_the_example_env_file_starts_the_sandbox(state: Path) -> None:
    """Its addresses are of servers elsewhere, and none of them reaches the shop on this machine."""
    async with running_up(state, env_file=ROOT / ".env.example") as up:
        await up.prints(LINK)
        # Itself, PostgreSQL, NATS, node, sandbox and five services.
        assert len(up.processes()) >= 10
        assert await up.end(signal.SIGINT) == 0
        assert not up.processes()


async def test_an_interrupted_start_leaves_no_process(state: Path) -> None:
    async with running_up(state) as up:
        await up.prints("PostgreSQL")
        assert await up.end(signal.SIGTERM) == 0
        assert not up.processes()


async def test_a_killed_shop_keeps_people_and_links(state: Path) -> None:
    """The kill leaves no process. The next start has the same state, also behind links to pay."""
    async with running_up(state) as up:
        async with SandboxClient((await up.prints(LINK)).group()) as client:
            await client.new_person("Ada")
        async with aiohttp.ClientSession() as http:
            made = await Merchant(http, SHOP, settings_of(up)["YOOKASSA_API_URL"]).done(
                "payments", order()
            )
        up.process.kill()
        await up.process.wait()
        await until(lambda: not up.processes())
    async with (
        running_up(state) as up,
        SandboxClient((await up.prints(LINK)).group()) as client,
        aiohttp.ClientSession() as http,
    ):
        assert [person.first_name for person in await client.people()] == ["Ada"]
        async with http.get(made["confirmation"]["confirmation_url"]) as page:
            assert "149,00" in await page.text()


async def test_payments_reaches_the_provider_stand_ins(shop: Up) -> None:
    """By its settings, which no other service has."""
    settings = settings_of(shop)
    assert "TURNPIKE_YOOKASSA_" not in shop.environment(shop.pid("bot_gateway"))
    merchant = Shop(settings["YOOKASSA_SHOP_ID"], settings["YOOKASSA_SECRET_KEY"])
    token = {"Crypto-Pay-API-Token": settings["CRYPTOBOT_TOKEN"]}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{settings['CRYPTOBOT_API_URL']}/api/getMe", headers=token) as app,
    ):
        me = await Merchant(http, merchant, settings["YOOKASSA_API_URL"]).get("me")
        assert (me[0], me[1]["payment_methods"]) == (200, ["sbp", "bank_card"])
        assert (await app.json())["ok"]


def settings_of(up: Up) -> dict[str, str]:
    """The variables of the payments process, without their prefix."""
    pairs = (line.partition("=") for line in up.environment(up.pid("payments")).split("\0"))
    return {name.removeprefix("TURNPIKE_"): value for name, _, value in pairs}


async def test_a_killed_service_is_reported_and_restarted(shop: Up) -> None:
    dead = shop.pid("notifier")
    os.kill(dead, signal.SIGKILL)
    await shop.prints("notifier ended with SIGKILL, its last lines:$")
    await shop.prints("notifier restarts in 1 s")
    await shop.prints("notifier is running again")
    assert shop.pid("notifier") != dead


async def test_a_second_shop_on_one_state_is_refused(shop: Up) -> None:
    assert (
        await refusal(shop.state)
        == f"Turnpike already runs on {shop.state}: process {shop.process.pid}. "
        "Stop it first (Ctrl-C in its terminal)."
    )


async def test_a_service_gets_only_its_own_password(shop: Up) -> None:
    environment = shop.environment(shop.pid("referrals"))
    assert "TURNPIKE_REFERRALS_DSN=postgresql://referrals_app:" in environment
    assert environment.count("postgresql://") == 1
    assert "TURNPIKE_BOT_TOKEN" not in environment


async def test_a_taken_port_is_reported(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = await refusal(state, TURNPIKE_SANDBOX_PORT=str(port))
    assert sentence == (
        f"Port {port} is taken by another program; TURNPIKE_SANDBOX_PORT chooses another one."
    )


@pytest.mark.parametrize("port", ["0", "65536", "web", "-1"])
def test_an_invalid_port_is_reported(port: str) -> None:
    with pytest.raises(
        StartError, match="TURNPIKE_SANDBOX_PORT must be a port between 1 and 65535"
    ):
        stack_of({"TURNPIKE_SANDBOX_PORT": port})


def test_all_invalid_ports_are_reported() -> None:
    """W-44"""
    with pytest.raises(StartError) as refused:
        stack_of({"TURNPIKE_SANDBOX_PORT": "web", "TURNPIKE_HTTP_PORT": "0"})
    lines = str(refused.value).splitlines()
    assert [line.split()[0] for line in lines] == ["TURNPIKE_SANDBOX_PORT", "TURNPIKE_HTTP_PORT"]


async def test_an_unusable_state_folder_is_reported(tmp_path: Path) -> None:
    state = tmp_path / "file"
    os.close(os.open(state, os.O_CREAT))
    assert await refusal(state) == f"The state folder {state} cannot be written: File exists."


async def test_a_state_of_another_postgresql_is_reported(state: Path) -> None:
    data = state / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    assert await refusal(state) == f"{data} was made by PostgreSQL 15, and this is PostgreSQL 18."


async def test_a_broken_state_is_reported(state: Path) -> None:
    (state / "postgres" / "data").mkdir(parents=True)
    assert (
        await refusal(state)
        == f"{state}/postgres/data is not a PostgreSQL data folder (no readable PG_VERSION)."
    )


async def test_a_missing_program_is_reported(state: Path) -> None:
    assert await refusal(state, PG_BIN="/nowhere") == (
        "The program /nowhere/initdb is missing: "
        "it is neither installed with Turnpike nor on the PATH."
    )


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_another_python_is_refused(version: tuple[int, int]) -> None:
    assert python_problem(version) == (
        "Turnpike runs on Python 3.11, 3.12 and 3.13, "
        f"and this is Python {version[0]}.{version[1]}."
    )


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_supported_python_is_accepted(version: tuple[int, int]) -> None:
    assert python_problem(version) is None


def test_the_environment_overrides_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# A comment\n\nTURNPIKE_ONE=file\n"
        "export TURNPIKE_TWO='two words'\nTURNPIKE_THREE=${HOME}\n"
    )
    monkeypatch.setattr(os, "environ", {"TURNPIKE_ONE": "real"})
    read_env_file(file)
    assert os.environ == {
        "TURNPIKE_ONE": "real",
        "TURNPIKE_TWO": "two words",
        "TURNPIKE_THREE": "${HOME}",
    }


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("A=1\n\nnonsense here\n", "line 3: NAME=value is expected."),
        ("A=\udcff", "cannot be read: "),
        (None, "cannot be read: No such file or directory."),
    ],
    ids=["a malformed line", "no text", "no file"],
)
def test_an_unreadable_env_file_is_reported(
    tmp_path: Path, written: str | None, sentence: str
) -> None:
    file = tmp_path / ".env"
    if written is not None:
        file.write_bytes(written.encode(errors="surrogateescape"))
    with pytest.raises(StartError) as refused:
        read_env_file(file)
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(str(file))


async def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    environment = os.environ | {"TMPDIR": str(tmp_path), MARK: mark}
    argv = (program("turnpike"), "demo", "--verbose", "--env-file", os.devnull)
    demo = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=PIPE, stderr=STDOUT)
    assert demo.stdout is not None
    printed: list[bytes] = []
    async with asyncio.timeout(UP_TIMEOUT_S):
        while not (line := await demo.stdout.readline()).startswith(b"  PostgreSQL"):
            assert line, f"the demo ended before it had begun: {b''.join(printed).decode()}"
            printed.append(line)
        demo.send_signal(signal.SIGTERM)
        await demo.communicate()
    assert demo.returncode == 130
    assert not living(mark, tmp_path)
    assert os.listdir(tmp_path) == []
