"""People of the sandbox: links, buttons, refused acts, and the events of the page."""

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.sandbox import TOKEN, started
from tests.kit.waiting import HANG_S
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.app import PAGE
from turnpike_local.sandbox.client import Json, PersonClient, SandboxError


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN) as running:
        yield running


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as acting:
        yield acting


@pytest.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sandbox.url) as session:
        yield session


async def call(http: aiohttp.ClientSession, method: str, **arguments: object) -> Json:
    async with http.post(f"/bot{TOKEN}/{method}", json=arguments) as answer:
        body: Json = await answer.json()
    assert body["ok"], body
    return body


async def with_button(http: aiohttp.ClientSession, person: PersonClient, **action: object) -> None:
    keyboard = {"inline_keyboard": [[{"text": "Press me", **action}]]}
    await call(http, "sendMessage", chat_id=person.id, text="Here", reply_markup=keyboard)


async def test_the_bot_receives_nothing_before_start(client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    with pytest.raises(SandboxError, match="nothing before /start"):
        await alice.say("hello")
    assert (await client.health())["pending_updates"] == 0


async def test_an_invitation_link_starts_with_its_code(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    alice = await client.new_person("Alice", username="alice_a", language="ru")
    opened = await alice.open("https://t.me/turnpike_bot?start=r_abc-1")
    assert opened["opens"] == "chat"
    (update,) = (await call(http, "getUpdates"))["result"]
    assert update["message"]["text"] == "/start r_abc-1"
    assert update["message"]["from"]["language_code"] == "ru"
    assert update["message"]["from"]["username"] == "alice_a"
    assert update["message"]["entities"] == [{"type": "bot_command", "offset": 0, "length": 6}]


@pytest.mark.parametrize("payload", ["a%20b", "x" * 65, "привет", "a.b"])
async def test_a_malformed_start_parameter_is_refused(client: SandboxClient, payload: str) -> None:
    alice = await client.new_person("Alice")
    with pytest.raises(SandboxError, match="1 to 64 characters"):
        await alice.open(f"https://t.me/turnpike_bot?start={payload}")


async def test_an_outside_link_does_not_start_the_bot(client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    for url in (
        "https://example.org/x",
        "https://t.me/another_bot?start=r_x",
        "https://t.me/share/url?url=x",
    ):
        assert await alice.open(url) == {"opens": "link", "url": url}
    with pytest.raises(SandboxError, match="invoice does not exist"):
        await alice.open("https://t.me/$nothing")


async def test_a_double_tap_is_two_callback_queries(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    alice = await started(client)
    await with_button(http, alice, callback_data="buy:1")
    await alice.press("press", times=2)
    updates = (await call(http, "getUpdates"))["result"]
    queries = [update["callback_query"] for update in updates if "callback_query" in update]
    assert [query["data"] for query in queries] == ["buy:1", "buy:1"]
    assert queries[0]["id"] != queries[1]["id"]
    assert queries[0]["message"]["text"] == "Here"


async def test_buttons_copy_texts_and_open_links(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    alice = await started(client)
    await with_button(http, alice, copy_text={"text": "vless://key"})
    assert await alice.press("press") == {"opens": "copy", "text": "vless://key"}
    await with_button(http, alice, url="https://example.org")
    assert await alice.press("press") == {"opens": "link", "url": "https://example.org"}
    link = (
        await call(
            http,
            "createInvoiceLink",
            title="Basic",
            description="A month",
            payload="p",
            currency="XTR",
            prices=[{"label": "Basic", "amount": 5}],
        )
    )["result"]
    await with_button(http, alice, url=link)
    opened = await alice.press("press")
    assert opened["opens"] == "invoice"
    assert opened["invoice"]["total_amount"] == 5


async def test_a_person_who_blocked_can_only_restart(client: SandboxClient) -> None:
    alice = await started(client)
    await alice.block()
    with pytest.raises(SandboxError, match="has blocked the bot"):
        await alice.say("hello")
    with pytest.raises(SandboxError, match="has blocked the bot"):
        await alice.press_data(1, "x")
    await alice.open("https://t.me/turnpike_bot")
    await alice.say("hello")


@pytest.mark.parametrize(
    "body",
    [
        {"first_name": ""},
        {"first_name": "x" * 65},
        {"first_name": 5},
        {"first_name": "Al", "username": "a b"},
        {"first_name": "Al", "stars": -1},
        {"first_name": "Al", "stars": "many"},
    ],
)
async def test_a_malformed_account_is_refused(client: SandboxClient, body: Json) -> None:
    with pytest.raises(SandboxError):
        await client.post("/sandbox/people", body)


async def test_html_becomes_text_and_entities_in_utf16_units(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    alice = await started(client)
    html = (
        ' 🚀 <b>a&lt;<i>b</i></b> <a href="https://example.org/?a=1&amp;b=2">c</a>'
        " <code>k&amp;y</code> https://t.me/x."
    )
    sent = (await call(http, "sendMessage", chat_id=alice.id, text=html, parse_mode="HTML"))[
        "result"
    ]
    assert sent["text"] == "🚀 a<b c k&y https://t.me/x."
    assert sent["entities"] == [
        {"type": "bold", "offset": 3, "length": 3},
        {"type": "italic", "offset": 5, "length": 1},
        {"type": "text_link", "offset": 7, "length": 1, "url": "https://example.org/?a=1&b=2"},
        {"type": "code", "offset": 9, "length": 3},
        {"type": "url", "offset": 13, "length": 14},
    ]
    assert (await alice.receives("k&y")).code == ["k&y"]


async def test_an_unsupported_link_stays_text(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    alice = await started(client)
    html = '<a href="happ://add/x">a</a> <a href="example.org/x">b</a> <a href="nowhere">c</a>'
    sent = (await call(http, "sendMessage", chat_id=alice.id, text=html, parse_mode="HTML"))[
        "result"
    ]
    assert sent["entities"] == [
        {"type": "text_link", "offset": 2, "length": 1, "url": "http://example.org/x"}
    ]


async def test_code_with_a_language_is_one_entity(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    alice = await started(client)
    html = (
        '<pre><code class="language-python">x = 1</code></pre><blockquote expandable>q</blockquote>'
    )
    sent = (await call(http, "sendMessage", chat_id=alice.id, text=html, parse_mode="HTML"))[
        "result"
    ]
    assert sent["entities"] == [
        {"type": "pre", "offset": 0, "length": 5, "language": "python"},
        {"type": "expandable_blockquote", "offset": 5, "length": 1},
    ]


async def test_a_failed_wait_shows_the_chat(
    client: SandboxClient,
) -> None:
    alice = await started(client)
    with pytest.raises(
        TimeoutError, match=r"Alice waited 0\.2 s for \[Buy\]; the last message is '/start'"
    ):
        await alice.press("Buy", timeout_s=0.2)


async def test_the_page_gets_an_event_per_change(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    async with http.get("/sandbox/events") as stream:
        alice = await client.new_person("Alice")
        await alice.say("/start")
        await call(http, "sendChatAction", chat_id=alice.id, action="typing")
        events: list[Json] = []
        async with asyncio.timeout(HANG_S):
            while len(events) < 4:
                line = (await stream.content.readline()).decode()
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
    person = {"person": alice.id}
    assert events == [
        {"kind": "chat", **person},
        {"kind": "people"},
        {"kind": "chat", **person},
        {"kind": "typing", **person},
    ]


async def test_another_site_in_the_browser_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.get("/sandbox/people", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
    async with http.post("/sandbox/people", data={"first_name": "x"}) as answer:
        assert answer.status == 415


async def test_the_local_page_counts_its_visits(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    for visit in (1, 2):
        async with http.get("/page") as answer:
            text = await answer.text()
        assert "Traffic reached this page" in text
        assert f"<strong>{visit}</strong>" in text
    assert (await client.health())["page_visits"] == 2


async def test_the_page_loads_nothing_from_outside(http: aiohttp.ClientSession) -> None:
    for path in ("/", *(f"/{name}" for name in PAGE if name)):
        async with http.get(path) as answer:
            assert answer.status == 200
            text = await answer.text()
        assert 'src="http' not in text
        assert "url(http" not in text
        assert "@import" not in text


async def test_ids_of_the_page_are_unique(http: aiohttp.ClientSession) -> None:
    """W-67: of two elements with one id, a script finds the first only."""
    async with http.get("/") as answer:
        ids = re.findall(r'\bid="([^"]+)"', await answer.text())
    assert sorted(ids) == sorted(set(ids))


async def test_a_killed_sandbox_keeps_its_state(tmp_path: Path) -> None:
    for run in (1, 2):
        argv = [
            sys.executable,
            "-m",
            "turnpike_local.sandbox",
            "--state",
            str(tmp_path),
            "--token",
            TOKEN,
        ]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), HANG_S)).decode()
            async with SandboxClient(line.split()[-1]) as client:
                assert (await client.health())["people"] == run - 1
                await client.new_person(f"Person {run}")
        finally:
            process.kill()
            await process.wait()
    with sqlite3.connect(tmp_path / "sandbox.sqlite3") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
