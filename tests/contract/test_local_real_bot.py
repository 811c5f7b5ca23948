"""`turnpike up` with a real bot: what is asked of Telegram at the start, and while it is away."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.up import UP_TIMEOUT_S, Up, refusal, running_up
from turnpike_local import telegram as bot_api
from turnpike_local.ports import free_port
from turnpike_local.processes import StartError
from turnpike_local.sandbox.app import Sandbox
from turnpike_local.telegram import NoAnswerError, awaited_username, username_of
from turnpike_local.up import stack_of

TOKEN = "42:" + "A" * 35
OTHER_TOKEN = "42:" + "B" * 35
NODE = {
    "TURNPIKE_VPN_XRAY_API": "127.0.0.1:1",
    "TURNPIKE_VPN_XRAY_LINK": "vless://{key}@vpn.example.org:443?security=reality",
}


@pytest.fixture
def state(servers_dir: Path, tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return servers_dir / tmp_path.name


@pytest.fixture
async def telegram(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A Bot API that knows the bot of `TOKEN`."""
    async with Sandbox(tmp_path, TOKEN) as telegram:
        yield telegram


async def test_a_real_bot_has_a_fixed_webhook_port(state: Path, telegram: Sandbox) -> None:
    """R-41, W-78: with a token there is no sandbox, no node of ours and no payment stand-in.

    A proxy outside leads Telegram to the port, so it must be the same at every start.
    """
    webhook = {
        "TURNPIKE_TELEGRAM_MODE": "webhook",
        "TURNPIKE_TELEGRAM_WEBHOOK_URL": "http://127.0.0.1:1/telegram",
        "TURNPIKE_TELEGRAM_WEBHOOK_SECRET": "s" * 32,
    }
    assert stack_of({"TURNPIKE_BOT_TOKEN": TOKEN, **NODE, **webhook}).ports["bot"] == 8080
    real = NODE | {"TURNPIKE_BOT_TOKEN": TOKEN, "TURNPIKE_TELEGRAM_API_URL": telegram.url}
    port = free_port()
    async with running_up(state, **real, **webhook, TURNPIKE_HTTP_PORT=str(port)) as up:
        link = (await up.prints("Turnpike is up after .* s: (.*)$")).group(1)
        assert link == "https://t.me/turnpike_bot"
        await up.prints(f"The webhook for Telegram is http://127.0.0.1:{port}/telegram.$")
        started = up.processes()
        for ours in ("turnpike_local.sandbox", "import sys, xray"):
            assert not any(ours in command for command in started.values())
        payments = up.environment(up.pid("payments"))
        assert "TURNPIKE_YOOKASSA_" not in payments
        assert "TURNPIKE_CRYPTOBOT_" not in payments
        environment = up.environment(up.pid("vpn_provisioner")).split("\0")
        assert {f"{name}={value}" for name, value in NODE.items()} < set(environment)
        with_token = {pid for pid in started if TOKEN in up.environment(pid)}
        assert with_token == {up.process.pid, up.pid("bot_gateway"), up.pid("notifier")}


@pytest.mark.parametrize(
    ("token", "url", "sentence"),
    [
        (
            "42:" + "B" * 35,
            "",
            "{} knows no bot with the token in TURNPIKE_BOT_TOKEN: it answers 401 Unauthorized.",
        ),
        (
            TOKEN,
            "127.0.0.1",
            "TURNPIKE_TELEGRAM_API_URL is not usable: "
            "it has to look like https://api.telegram.org.",
        ),
    ],
    ids=["a wrong token", "no address"],
)
async def test_an_unusable_bot_is_reported_before_the_start(
    state: Path, telegram: Sandbox, token: str, url: str, sentence: str
) -> None:
    url = url or telegram.url
    real = {"TURNPIKE_BOT_TOKEN": token, "TURNPIKE_TELEGRAM_API_URL": url}
    refused = await refusal(state, **NODE, **real)
    assert refused == sentence.format(url)
    assert state.name not in os.listdir(state.parent)


@asynccontextmanager
async def up_without_telegram(state: Path, port: int) -> AsyncIterator[Up]:
    """A shop that runs, and whose Bot API is to appear on this port."""
    url = f"http://127.0.0.1:{port}"
    real = NODE | {"TURNPIKE_BOT_TOKEN": TOKEN, "TURNPIKE_TELEGRAM_API_URL": url}
    async with running_up(state, **real) as up:
        await up.prints(
            rf"^Telegram does not answer at {url} \(Connection refused\): the shop starts without "
            r"it, and asks again until it answers\.$"
        )
        await up.prints("Turnpike is up after .* s; the bot's link follows when Telegram answers")
        yield up


async def test_a_shop_starts_without_telegram(state: Path, tmp_path: Path) -> None:
    """W-46: the services wait for Telegram by themselves, and the link follows."""
    port = free_port()
    async with up_without_telegram(state, port) as up:
        assert up.pid("payments")
        async with Sandbox(tmp_path, TOKEN, port=port):
            await up.prints("^Telegram answers: https://t.me/turnpike_bot$")
        assert await up.end(signal.SIGINT) == 0
        assert not up.processes()


async def test_a_wrong_token_ends_the_waiting(state: Path, tmp_path: Path) -> None:
    """W-46"""
    port = free_port()
    async with up_without_telegram(state, port) as up:
        async with Sandbox(tmp_path, OTHER_TOKEN, port=port):
            await up.prints("knows no bot with the token in TURNPIKE_BOT_TOKEN: it answers 401")
            async with asyncio.timeout(UP_TIMEOUT_S):
                await up.process.communicate()
        assert up.process.returncode == 2
        assert not up.processes()


@asynccontextmanager
async def server(*answers: bytes | None) -> AsyncIterator[dict[str, str]]:
    """The settings of a bot whose server gives these answers, the last one for ever.

    An answer is `STATUS|BODY`. None is silence.
    """
    left = list(answers)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer is None:
            await reader.read()
        else:
            status, _, body = answer.partition(b"|")
            size = str(len(body)).encode()
            head = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %b\r\n\r\n"
            writer.write(head % (status, size) + body)
            await writer.drain()
        writer.close()

    port = free_port()
    listening = await asyncio.start_server(respond, "127.0.0.1", port)
    try:
        url = f"http://127.0.0.1:{port}"
        yield {"TURNPIKE_BOT_TOKEN": TOKEN, "TURNPIKE_TELEGRAM_API_URL": url}
    finally:
        listening.close()


@pytest.mark.parametrize(
    ("answer", "clause"),
    [
        (b"500 Internal|oops", "Telegram answers 500 at "),
        (b"502 Bad Gateway|<html>", "Telegram answers 502 at "),
        (
            b'429 Slow|{"ok":false,"description":"Too Many Requests: retry after 5"}',
            "Telegram answers 429 Too Many Requests: retry after 5 at ",
        ),
        (None, "Telegram does not answer at "),
    ],
    ids=["500", "502", "429", "silence"],
)
async def test_a_busy_telegram_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, clause: str
) -> None:
    """W-46"""
    monkeypatch.setattr(bot_api, "ANSWER_TIMEOUT_S", 0.3 if answer is None else 30.0)
    async with server(answer) as settings:
        with pytest.raises(NoAnswerError) as away:
            await username_of(settings)
    assert str(away.value).startswith(clause + settings["TURNPIKE_TELEGRAM_API_URL"])
    assert TOKEN not in str(away.value)


async def test_an_unknown_host_is_waited_for() -> None:
    """W-46: without a network there is no name service either."""
    url = {"TURNPIKE_TELEGRAM_API_URL": "http://nowhere.invalid"}
    with pytest.raises(
        NoAnswerError, match=r"^Telegram does not answer at http://nowhere\.invalid"
    ):
        await username_of({"TURNPIKE_BOT_TOKEN": TOKEN, **url})


@pytest.mark.parametrize("answer", [b"200 OK|<html>Log in", b"404 Not Found|<html>"])
async def test_another_server_is_refused_at_once(answer: bytes) -> None:
    async with server(answer) as settings:
        with pytest.raises(StartError, match=r"is not the Bot API|it answers 404\."):
            await username_of(settings)


async def test_a_new_reason_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-46: the first one was reported at the start. The page of a proxy ends no running shop."""
    monkeypatch.setattr(bot_api, "FIRST_PAUSE_S", 0.01)
    named = b'200 OK|{"ok":true,"result":{"username":"a_bot"}}'
    strange, busy = b"404 Not Found|<html>", b"503 Busy|"
    reported: list[str] = []
    async with server(busy, busy, strange, strange, busy, named) as settings:
        assert await awaited_username(settings, reported.append) == "a_bot"
        url = settings["TURNPIKE_TELEGRAM_API_URL"]
    assert reported == [
        f"{url} knows no bot with the token in TURNPIKE_BOT_TOKEN: it answers 404.",
        f"Telegram answers 503 at {url}.",
    ]
