"""People of the sandbox: links, buttons, the events of the page, traces, and what an app would not let them do."""

import asyncio
import gzip
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import Json, PersonClient, SandboxError
from turnpike_local.sandbox.state import BrokenStateError
from turnpike_local.sandbox.traces import TRACES_KEPT

TOKEN = "4242:AAtest-token"


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN) as started:
        yield started


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as asking:
        yield asking


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


async def test_the_bot_hears_nothing_before_start(client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    with pytest.raises(SandboxError, match="nothing before /start"):
        await alice.say("hello")
    assert (await client.health())["pending_updates"] == 0


async def test_an_invitation_link_starts_the_chat_with_its_code(
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
async def test_a_start_parameter_of_a_wrong_form_is_refused(client: SandboxClient, payload: str) -> None:
    alice = await client.new_person("Alice")
    with pytest.raises(SandboxError, match="1 to 64 characters"):
        await alice.open(f"https://t.me/turnpike_bot?start={payload}")


async def test_links_to_elsewhere_open_nothing_here(client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    for url in ("https://example.org/x", "https://t.me/another_bot?start=r_x", "https://t.me/share/url?url=x"):
        assert await alice.open(url) == {"opens": "link", "url": url}
    with pytest.raises(SandboxError, match="invoice does not exist"):
        await alice.open("https://t.me/$nothing")


async def test_a_double_tap_is_two_callback_queries(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    alice = await client.new_person("Alice")
    await alice.say("/start")
    await with_button(http, alice, callback_data="buy:1")
    await alice.press("press", times=2)
    updates = (await call(http, "getUpdates"))["result"]
    queries = [update["callback_query"] for update in updates if "callback_query" in update]
    assert [query["data"] for query in queries] == ["buy:1", "buy:1"]
    assert queries[0]["id"] != queries[1]["id"]
    assert queries[0]["message"]["text"] == "Here"


async def test_buttons_copy_open_and_follow_links(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    alice = await client.new_person("Alice")
    await alice.say("/start")
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


async def test_who_blocked_the_bot_can_do_nothing_but_restart(client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    await alice.say("/start")
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
async def test_an_account_of_a_wrong_form_is_refused(client: SandboxClient, body: Json) -> None:
    with pytest.raises(SandboxError):
        await client.post("/sandbox/people", body)


async def test_html_becomes_text_and_entities_in_utf16_units(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    alice = await client.new_person("Alice")
    await alice.say("/start")
    html = (
        ' 🚀 <b>a&lt;<i>b</i></b> <a href="https://example.org/?a=1&amp;b=2">c</a> <code>k&amp;y</code> https://t.me/x.'
    )
    sent = (await call(http, "sendMessage", chat_id=alice.id, text=html, parse_mode="HTML"))["result"]
    assert sent["text"] == "🚀 a<b c k&y https://t.me/x."
    assert sent["entities"] == [
        {"type": "bold", "offset": 3, "length": 3},
        {"type": "italic", "offset": 5, "length": 1},
        {"type": "text_link", "offset": 7, "length": 1, "url": "https://example.org/?a=1&b=2"},
        {"type": "code", "offset": 9, "length": 3},
        {"type": "url", "offset": 13, "length": 14},
    ]
    assert (await alice.hears("k&y")).code == ["k&y"]


async def test_what_is_no_link_for_telegram_stays_text(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    alice = await client.new_person("Alice")
    await alice.say("/start")
    html = '<a href="happ://add/x">a</a> <a href="example.org/x">b</a> <a href="nowhere">c</a>'
    sent = (await call(http, "sendMessage", chat_id=alice.id, text=html, parse_mode="HTML"))["result"]
    assert sent["entities"] == [{"type": "text_link", "offset": 2, "length": 1, "url": "http://example.org/x"}]


async def test_code_with_a_language_is_one_entity(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    alice = await client.new_person("Alice")
    await alice.say("/start")
    html = '<pre><code class="language-python">x = 1</code></pre><blockquote expandable>q</blockquote>'
    sent = (await call(http, "sendMessage", chat_id=alice.id, text=html, parse_mode="HTML"))["result"]
    assert sent["entities"] == [
        {"type": "pre", "offset": 0, "length": 5, "language": "python"},
        {"type": "expandable_blockquote", "offset": 5, "length": 1},
    ]


async def test_waiting_for_what_does_not_come_ends_and_shows_the_chat(client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    await alice.say("/start")
    with pytest.raises(TimeoutError, match=r"Alice waited 0\.2 s for \[Buy\]; the last message is '/start'"):
        await alice.press("Buy", timeout_s=0.2)


async def test_the_page_hears_of_every_change(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    async with http.get("/sandbox/events") as stream:
        alice = await client.new_person("Alice")
        await alice.say("/start")
        await call(http, "sendChatAction", chat_id=alice.id, action="typing")
        events: list[Json] = []
        async with asyncio.timeout(5):
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


async def test_another_site_in_the_same_browser_gets_nothing(http: aiohttp.ClientSession) -> None:
    async with http.get("/sandbox/people", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
    async with http.post("/sandbox/people", data={"first_name": "x"}) as answer:
        assert answer.status == 415


async def test_the_local_page_counts_its_visits(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    for visit in (1, 2):
        async with http.get("/page") as answer:
            text = await answer.text()
        assert "Traffic reached this page" in text
        assert f"<strong>{visit}</strong>" in text
    assert (await client.health())["page_visits"] == 2


async def test_the_page_needs_nothing_from_outside(http: aiohttp.ClientSession) -> None:
    for path in ("/", "/api.js", "/app.js", "/chat.js", "/story.js", "/style.css"):
        async with http.get(path) as answer:
            assert answer.status == 200
            text = await answer.text()
        assert 'src="http' not in text
        assert "url(http" not in text
        assert "@import" not in text


def export(
    trace: int, span: int, *, name: str = "work", order: str | None = None, link: tuple[int, int] | None = None
) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "payments"
    made = resource.scope_spans.add().spans.add(
        trace_id=trace.to_bytes(16, "big"), span_id=span.to_bytes(8, "big"), name=name
    )
    made.start_time_unix_nano, made.end_time_unix_nano = span * 1000, span * 1000 + 500
    if order is not None:
        made.attributes.add(key="turnpike.order").value.string_value = order
    if link is not None:
        made.links.add(trace_id=link[0].to_bytes(16, "big"), span_id=link[1].to_bytes(8, "big"))
    return request


async def send(http: aiohttp.ClientSession, request: ExportTraceServiceRequest, *, zipped: bool = False) -> None:
    body = request.SerializeToString()
    headers = {"Content-Type": "application/x-protobuf", **({"Content-Encoding": "gzip"} if zipped else {})}
    async with http.post("/v1/traces", data=gzip.compress(body) if zipped else body, headers=headers) as answer:
        assert answer.status == 200


async def test_spans_come_plain_or_zipped_and_an_invoice_names_its_story(
    client: SandboxClient, http: aiohttp.ClientSession
) -> None:
    story = f"{1:032x}"
    prices = [{"label": "Basic", "amount": 5}]
    asked = {"title": "Basic", "description": "A month", "currency": "XTR", "prices": prices}
    await call(http, "createInvoiceLink", payload=f"{story}.{7:032x}.{9:016x}", **asked)
    await send(http, export(1, 1, order="o-1", name="confirm"), zipped=True)
    await send(http, export(2, 2, name="tick"))
    assert await client.newest_story() == story
    (span,) = await client.spans(story)
    assert (span["name"], span["service"], span["attributes"]) == ("confirm", "payments", {"turnpike.order": "o-1"})
    listed = (await client.get("/sandbox/traces"))["traces"]
    assert [(trace["name"], trace["story"]) for trace in listed] == [("tick", False), ("confirm", True)]


async def test_a_trace_shows_the_batch_that_it_is_linked_to(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    await send(http, export(7, 1, name="batch"))
    await send(http, export(1, 2, name="event", link=(7, 1)))
    assert [span["name"] for span in await client.spans(f"{1:032x}")] == ["batch", "event"]
    assert [span["name"] for span in await client.spans(f"{7:032x}")] == ["batch", "event"]


async def test_only_the_newest_traces_are_kept(client: SandboxClient, http: aiohttp.ClientSession) -> None:
    many = ExportTraceServiceRequest()
    for number in range(1, TRACES_KEPT + 3):
        many.MergeFrom(export(number, number))
    await send(http, many)
    assert await client.spans(f"{2:032x}") == []
    assert len(await client.spans(f"{3:032x}")) == 1


async def test_an_export_that_cannot_be_read_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/traces", data=b"\xff\xff no protobuf") as answer:
        assert answer.status == 400


async def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sandbox.sqlite3").write_bytes(b"this is no database " * 100)
    with pytest.raises(BrokenStateError, match="is not a state of the sandbox"):
        await Sandbox(tmp_path, TOKEN).start()


async def test_a_taken_port_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await Sandbox(tmp_path / "second", TOKEN, port=sandbox.port).start()


async def test_the_process_keeps_its_state_when_it_is_killed(tmp_path: Path) -> None:
    for run in (1, 2):
        argv = [sys.executable, "-m", "turnpike_local.sandbox", "--state", str(tmp_path), "--token", TOKEN]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), 15)).decode()
            async with SandboxClient(line.split()[-1]) as client:
                assert (await client.health())["people"] == run - 1
                await client.new_person(f"Person {run}")
        finally:
            process.kill()
            await process.wait()
    with sqlite3.connect(tmp_path / "sandbox.sqlite3") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
