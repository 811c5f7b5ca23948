"""Traces in the sandbox: exports of services, and the list of purchases with their states."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from shared.platform.telemetry import BOOKED
from tests.kit.otlp import Made, bought, send
from tests.kit.sandbox import TOKEN, call, offer, pay, started
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.trace_control import PURCHASES_LISTED
from turnpike_local.sandbox.traces import SPANS_PER_TRACE, TRACES_KEPT

FIRST, SECOND, BATCH = f"{1:032x}", f"{2:032x}", f"{7:032x}"
HANG_S = 30.0
SENT = {"message": "access_ready", "outcome": "sent"}


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN, limits=Limits(pre_checkout_s=2)) as running:
        yield running


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as acting:
        yield acting


async def lines(client: SandboxClient) -> list[tuple[str | None, str, str]]:
    listed = (await client.purchases())["purchases"]
    return [(one["name"], one["title"], one["state"]) for one in listed]


async def test_an_invoice_marks_its_trace(sandbox: Sandbox, client: SandboxClient) -> None:
    """Exports come plain or compressed. The payload's second id, of the invoice, is no trace."""
    await offer(sandbox, FIRST)
    marked = Made(FIRST, 1, "confirm", attributes={"turnpike.order": "o-1"})
    await send(sandbox.url, marked, zipped=True)
    await send(sandbox.url, Made(SECOND, 2, "tick"))
    assert await client.newest_payment_trace() == FIRST
    (span,) = await client.spans(FIRST)
    assert (span["name"], span["service"], span["attributes"]) == (
        "confirm",
        "payments",
        {"turnpike.order": "o-1"},
    )
    listed = (await client.get("/sandbox/traces"))["traces"]
    assert [(trace["name"], trace["of_payment"]) for trace in listed] == [
        ("tick", False),
        ("confirm", True),
    ]
    assert len((await client.purchases())["purchases"]) == 1


async def test_an_invoice_without_a_chat_is_announced(sandbox: Sandbox) -> None:
    """W-67: an open page reads its list of purchases again."""
    async with (
        aiohttp.ClientSession(sandbox.url) as http,
        http.get("/sandbox/events") as stream,
        asyncio.timeout(HANG_S),
    ):
        await offer(sandbox, FIRST)
        line = await stream.content.readline()
        while not line.startswith(b"data: "):
            line = await stream.content.readline()
    assert json.loads(line.removeprefix(b"data: ")) == {"kind": "traces"}


async def test_a_trace_shows_its_linked_batch(sandbox: Sandbox, client: SandboxClient) -> None:
    await send(sandbox.url, Made(BATCH, 1, "batch"))
    await send(sandbox.url, Made(FIRST, 2, "event", link=(BATCH, 1)))
    assert [span["name"] for span in await client.spans(FIRST)] == ["batch", "event"]
    assert [span["name"] for span in await client.spans(BATCH)] == ["batch", "event"]


async def test_only_the_newest_traces_are_kept(sandbox: Sandbox, client: SandboxClient) -> None:
    many = [Made(f"{number:032x}", number) for number in range(1, TRACES_KEPT + 3)]
    await send(sandbox.url, *many)
    assert await client.spans(SECOND) == []
    assert len(await client.spans(f"{3:032x}")) == 1


async def test_an_unreadable_export_is_refused(sandbox: Sandbox) -> None:
    async with (
        aiohttp.ClientSession(sandbox.url) as http,
        http.post("/v1/traces", data=b"\xff\xff no protobuf") as answer,
    ):
        assert answer.status == 400


async def test_purchases_carry_buyer_plan_and_state(
    sandbox: Sandbox, client: SandboxClient
) -> None:
    """W-67. The buyer is known before the payment: the link is in their chat."""
    alice, bob = await started(client, "Alice"), await started(client, "Bob")
    await offer(sandbox, FIRST, "Basic, 1 month", to=alice)
    await offer(sandbox, SECOND, "Plus, 1 month", to=bob)
    assert await lines(client) == [
        ("Bob", "Plus, 1 month", "waiting"),
        ("Alice", "Basic, 1 month", "waiting"),
    ]
    assert await pay(sandbox, alice) is not None
    newest, older = (await client.purchases())["purchases"]
    assert (newest["state"], older["state"]) == ("waiting", "paid")
    assert (older["amount"], older["currency"]) == (5, "XTR")


async def test_the_payer_is_the_buyer(sandbox: Sandbox, client: SandboxClient) -> None:
    """W-67. A link can be passed on."""
    alice, bob = await started(client, "Alice"), await started(client, "Bob")
    link = await offer(sandbox, FIRST, to=alice)
    keyboard = {"inline_keyboard": [[{"text": "Pay", "url": link}]]}
    await call(sandbox, "sendMessage", chat_id=bob.id, text="Pay", reply_markup=keyboard)
    assert await lines(client) == [("Alice", "Basic", "waiting")]
    await pay(sandbox, bob)
    assert await lines(client) == [("Bob", "Basic", "paid")]


async def test_a_state_follows_the_spans(sandbox: Sandbox, client: SandboxClient) -> None:
    """W-67. A failure that a later try mended is not the state."""
    await offer(sandbox, FIRST, to=await started(client))
    (alice,) = await client.people()
    await pay(sandbox, alice)
    states = []
    for step in (
        Made(FIRST, 1, "vpn.agree", failed=True),
        Made(FIRST, 2, "vpn.agree"),
        Made(FIRST, 3, "notifier_notifies_granted"),
        Made(FIRST, 4, "deliver", attributes={"message": "access_ready", "outcome": "unreachable"}),
        Made(FIRST, 5, "deliver", attributes=SENT),
    ):
        await send(sandbox.url, step)
        states += [state for _, _, state in await lines(client)]
    assert states == ["failed", "paid", "issued", "failed", "sent"]


async def test_the_partners_failed_message_is_not_the_buyers(
    sandbox: Sandbox, client: SandboxClient
) -> None:
    """W-67. It is in the same trace, and goes to the partner."""
    await offer(sandbox, FIRST, to=await started(client))
    (alice,) = await client.people()
    await pay(sandbox, alice)
    lost = {"message": "reward_earned", "outcome": "unreachable"}
    await send(sandbox.url, Made(FIRST, 1, "deliver", attributes=lost, failed=True))
    assert await lines(client) == [("Alice", "Basic", "paid")]


async def test_unpaid_attempts_are_states_too(sandbox: Sandbox, client: SandboxClient) -> None:
    """W-67. Refused, then not answered in time, then paid and refunded."""
    await offer(sandbox, FIRST, to=await started(client))
    (alice,) = await client.people()
    await pay(sandbox, alice, ok=False)
    states = await lines(client)
    await alice.pay()
    await client.drop_updates()
    states += await lines(client)
    charge = await pay(sandbox, alice)
    await call(sandbox, "refundStarPayment", user_id=alice.id, telegram_payment_charge_id=charge)
    states += await lines(client)
    assert [state for _, _, state in states] == ["refused", "unanswered", "refunded"]


async def test_older_purchases_come_page_by_page(sandbox: Sandbox, client: SandboxClient) -> None:
    """W-67. A page has a bound, and begins below the number of the last known one."""
    for number in range(1, PURCHASES_LISTED + 3):
        await offer(sandbox, f"{number:032x}")
    page = await client.purchases()
    older = await client.purchases(before=page["purchases"][-1]["seq"])
    assert (len(page["purchases"]), page["has_older"]) == (PURCHASES_LISTED, True)
    assert [one["trace_id"] for one in older["purchases"]] == [SECOND, FIRST]
    assert older["has_older"] is False


async def test_a_page_reads_its_own_rows_only(tmp_path: Path) -> None:
    """W-67. SQLite goes down the primary key from the number that is given."""
    async with Sandbox(tmp_path, TOKEN) as sandbox:
        seen: list[str] = []
        db = sandbox._state._db
        db.set_trace_callback(seen.append)
        async with SandboxClient(sandbox.url) as client:
            await client.purchases(before=9)
        db.set_trace_callback(None)
        query = next(sql for sql in seen if "where seq < 9" in sql)
        (plan,) = db.execute(f"explain query plan {query}").fetchall()
    assert plan["detail"] == "SEARCH purchases USING INTEGER PRIMARY KEY (rowid<?)"


async def verdict(client: SandboxClient, trace: str) -> str:
    counted = (await client.get("/sandbox/traces", about=trace))["counted"]
    return str(counted["verdict"])


async def test_a_named_span_that_is_missing_counts(sandbox: Sandbox, client: SandboxClient) -> None:
    """W-69. A parent, and a batch that is linked; both arrive later."""
    await offer(sandbox, FIRST, to=await started(client))
    assert await verdict(client, FIRST) == "unpaid"
    (alice,) = await client.people()
    await pay(sandbox, alice)
    assert await verdict(client, FIRST) == "incomplete"
    await send(sandbox.url, *bought(FIRST), Made(FIRST, 9, "child", 8, link=(BATCH, 7)))
    seen = [await verdict(client, FIRST)]
    await send(sandbox.url, Made(FIRST, 8))
    seen.append(await verdict(client, FIRST))
    await send(sandbox.url, Made(BATCH, 7))
    seen.append(await verdict(client, FIRST))
    await send(sandbox.url, Made(FIRST, 10, "again", attributes={BOOKED: "bought"}))
    assert [*seen, await verdict(client, FIRST)] == ["incomplete", "incomplete", "proved", "wrong"]


async def test_a_trace_that_is_cut_is_no_proof(sandbox: Sandbox, client: SandboxClient) -> None:
    """W-69."""
    await offer(sandbox, FIRST, to=await started(client))
    (alice,) = await client.people()
    await pay(sandbox, alice)
    await send(sandbox.url, *bought(FIRST), *(Made(FIRST, at) for at in range(9, SPANS_PER_TRACE)))
    assert await verdict(client, FIRST) == "proved"
    await send(sandbox.url, *(Made(FIRST, SPANS_PER_TRACE + at) for at in range(9)))
    assert await verdict(client, FIRST) == "incomplete"
