"""Rows about the broker: its disk is lost or old, durables are deleted, messages come ten times."""

import asyncio
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from shared.contracts.owners import OWNERS
from shared.contracts.streams import DUPLICATE_WINDOW, KEPT_FOR, SUBSCRIPTIONS, stream_of
from shared.messaging import jetstream
from tests.chaos.load import Purchase
from tests.chaos.shop import MOVING, Shop, send_signal
from tests.chaos.trial import Trial
from tests.kit.messaging import set_duplicate_window

TIMES = 10
REQUEST_S = 5.0
SHORTEST_WINDOW_S = 0.1
AFTER_WINDOW_S = 0.15
STORED_AFTER_S = 1.0  # A message of an atomic batch is received before the batch is committed.

INCARNATIONS = " union all ".join(
    f"select name, incarnation from {owner}.streams" for owner in OWNERS
)
STREAM_CHANGED = "stream changed, events are republished"
EVENTS = "select " + " + ".join(f"(select count(*) from {owner}.events)" for owner in OWNERS)
KEPT_EVENTS = " union all ".join(
    f"""
select '{owner}' as owner, count(*) as events
from {owner}.events
where recorded_at > now() - $1::interval
"""
    for owner in OWNERS
)
REPEATED_WITHIN_S = 120.0
REPUBLISHED_PER_S = 10_000
"""The events of three days come before new ones; how many there are depends on earlier rows."""


async def disk_wiped(trial: Trial) -> None:
    """10 (W-31): under load, and between "received" and the worker.

    The relays create the streams again and republish; nothing is lost.
    """
    shop = trial.shop

    async def die() -> None:
        killed = send_signal(shop.broker.child, signal.SIGKILL)
        trial.faults.append(f"{killed} and its disk wiped under load")

    purchases = await trial.load.place_orders(trial.size(800, 240))
    half = len(purchases) // 2
    known = await incarnations(shop)
    kept = sum(row["events"] for row in await shop.fetch(KEPT_EVENTS, KEPT_FOR))
    async with shop.supervised():
        took_s = await trial.break_under_load(purchases[:half], die, shop.broker.wipe)
        trial.expect_within("resumed", took_s, 5.0 + kept / REPUBLISHED_PER_S)
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)
    await _expect_republished(trial, known, "after the disk was wiped under load")

    known = await incarnations(shop)
    await shop.stop("payments")
    await trial.pay(purchases[half:])
    await until_published(shop, "bot")
    killed = send_signal(shop.broker.child, signal.SIGKILL)
    trial.faults.append(f"{killed} and its disk wiped with {half} payments received, none handled")
    await shop.broker.wipe()
    await shop.start("payments")
    await _expect_republished(trial, known, "after it was wiped before payments handled")


async def _expect_republished(trial: Trial, known: dict[str, str], when: str) -> None:
    """Every stream was created again with all of its three days, and all events are handled.

    Checked after each fault: one fault may not repair the damage of the one before.
    """
    await trial.expect_quiescent(f"the shop {when}")
    now = await incarnations(trial.shop)
    unchanged = {name for name in known if now.get(name) == known[name]}
    trial.expect(f"every stream is another one {when}: {unchanged} are not", not unchanged)
    kept = await trial.shop.fetch(KEPT_EVENTS, KEPT_FOR)
    events = {row["owner"]: row["events"] for row in kept}
    messages = await messages_of(trial.shop)
    lacking = {
        owner: f"{messages[owner]} of {count}"
        for owner, count in events.items()
        if messages[owner] < count
    }
    trial.expect(f"each stream has its three days {when}: {lacking}", not lacking)
    trial.figures.append(f"{sum(events.values())} events republished")
    await trial.expect_no_loss(when)


async def old_disk(trial: Trial) -> None:
    """11 (W-31): the disk is replaced by an old copy, and every durable is deleted.

    The relays notice by the sequence, and republish. That a relay meets another incarnation is
    row 10. The hourly checksums, which find what neither shows, take too long for a row:
    `tests/store/test_anti_entropy.py` and `tests/flow/test_anti_entropy.py` cover them.
    """
    shop = trial.shop
    purchases = await trial.load.place_orders(trial.size(600, 200))
    third = len(purchases) // 3
    await shop.broker.stop()
    copy = shop.state_dir / "nats-before"
    shutil.copytree(shop.broker.store, copy)
    await shop.broker.restart()

    async def die() -> None:
        killed = send_signal(shop.broker.child, signal.SIGKILL)
        trial.faults.append(f"{killed} and its disk of {third} payments before")
        await shop.broker.child.wait()
        shutil.rmtree(shop.broker.store)
        copy.rename(shop.broker.store)

    async with shop.supervised():
        await trial.pay(purchases[:third])
        await trial.expect_quiescent("the shop with events that the copy lacks")
        changed_before = changed_streams(shop)
        resumed_s = await trial.break_under_load(
            purchases[third : 2 * third], die, shop.broker.restart
        )
        trial.expect_within("resumed", resumed_s, 5.0)
        await trial.expect_quiescent("the shop with its old disk")
        changed = {
            stream
            for stream, times in changed_streams(shop).items()
            if times > changed_before[stream]
        }
        publishers = {stream_of(owner) for owner in OWNERS if owner != "notifier"}
        trial.expect(
            f"all but notifier, which published nothing, notice the old stream: {changed}",
            changed >= publishers,
        )
        await trial.expect_no_loss("after the disk was replaced by an old copy")
        await _durables_deleted(trial, purchases[2 * third :])
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def _durables_deleted(trial: Trial, purchases: list[Purchase]) -> None:
    shop = trial.shop
    paying = asyncio.create_task(trial.pay(purchases))
    await asyncio.sleep(len(purchases) / trial.per_s / 2)
    deleted: set[str] = set()
    for owner in OWNERS:
        deleted |= set(await jetstream.drop_consumers(shop.bus.client, owner))
    handlers = {subscription.handler for subscription in SUBSCRIPTIONS}
    trial.expect(f"every durable was deleted: {handlers - deleted} were not", deleted == handlers)
    trial.faults.append(f"all {len(SUBSCRIPTIONS)} durables deleted under load")
    await paying
    await trial.expect_quiescent("the shop without its durables")


async def all_ten_times(trial: Trial) -> None:
    """17 (M-02, M-35): every message is delivered ten times: no effect twice."""
    purchases = await trial.load.place_orders(trial.size(300, 100))
    async with published_ten_times(trial):
        async with trial.load.background_activity():
            await trial.pay(purchases, trial.per_s / 2)
        await trial.expect_quiescent("the shop with tenfold messages", 120)


@asynccontextmanager
async def published_ten_times(trial: Trial) -> AsyncIterator[None]:
    """Publish each message ten times more under its id, each time after the duplicate window.

    Ten, not nine: a message is received before its batch is committed, and a copy that is stored
    first takes its place.
    """
    shop = trial.shop
    await set_duplicate_windows(shop, SHORTEST_WINDOW_S)
    messages_before = await count_messages(shop)
    events_before = await shop.fetch_value(EVENTS)
    repeater = Repeater(shop)
    subscription = await shop.bus.client.subscribe("evt.>", cb=repeater.repeat)
    try:
        yield
        with suppress(TimeoutError):
            async with asyncio.timeout(trial.patience_s(REPEATED_WITHIN_S)):
                await repeater.finish()
        left = f"{repeater.left} events are not: {repeater.refused}"
        trial.expect(
            f"all is republished within {REPEATED_WITHIN_S:g} s, {left}", not repeater.left
        )
    finally:
        repeater.give_up()
        await subscription.unsubscribe()
        await set_duplicate_windows(shop, DUPLICATE_WINDOW.total_seconds())
    messages = await count_messages(shop) - messages_before
    events = await shop.fetch_value(EVENTS) - events_before
    trial.faults.append(f"{events} events in {messages} messages")
    repeated = len(repeater.received)
    trial.expect(f"each of {events} events is repeated: {repeated}", repeated >= events > 0)
    trial.expect(f"every event is there at least {TIMES} times", messages >= TIMES * events)


class Repeater:
    """Republishes every event that it receives for the first time.

    `refused` is the stream's last answer about a copy that it did not store.
    """

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.received: set[str] = set()
        self.refused = ""
        self._repeating: set[asyncio.Task[None]] = set()

    async def repeat(self, message: Msg) -> None:
        headers = message.headers or {}
        event = headers.get("Nats-Msg-Id", "")
        # A relay may have to publish an event once more.
        if "Chaos-Copy" in headers or event in self.received:
            return
        self.received.add(event)
        task = asyncio.create_task(self._republish(message.subject, message.data, headers))
        self._repeating.add(task)
        task.add_done_callback(self._repeating.discard)

    async def _republish(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        own = {name: value for name, value in headers.items() if not name.startswith("Nats-Batch")}
        await asyncio.sleep(STORED_AFTER_S)
        for copy in range(TIMES):
            while True:
                await asyncio.sleep(AFTER_WINDOW_S)
                answer = await answer_to(self.shop, subject, data, own | {"Chaos-Copy": str(copy)})
                if is_stored(answer):
                    break
                self.refused = f"copy {copy} of {own.get('Nats-Msg-Id')} in {subject}: {answer}"

    @property
    def left(self) -> int:
        return len(self._repeating)

    async def finish(self) -> None:
        while self._repeating:
            await asyncio.wait(self._repeating)

    def give_up(self) -> None:
        for task in self._repeating:
            task.cancel()


# JetStream


async def call(shop: Shop, name: str, request: Any = None) -> dict[str, Any]:
    return await jetstream.api(shop.bus.client, name, request, timeout_s=REQUEST_S)


async def publish(shop: Shop, subject: str, data: bytes, headers: dict[str, str]) -> bool:
    """Whether the stream stores the message; it does not store a duplicate."""
    return is_stored(await answer_to(shop, subject, data, headers))


def is_stored(answer: dict[str, Any]) -> bool:
    return "seq" in answer and not answer.get("duplicate")


async def answer_to(
    shop: Shop, subject: str, data: bytes, headers: dict[str, str]
) -> dict[str, Any]:
    """JetStream's answer to a message, or the error of the request."""
    try:
        message = await shop.bus.client.request(subject, data, REQUEST_S, headers=headers)
    except NatsError as error:
        return {"error": repr(error)}
    answer: dict[str, Any] = json.loads(message.data)
    return answer


async def set_duplicate_windows(shop: Shop, seconds: float) -> None:
    """How long every stream knows an id: the first of three defences against repeats."""
    for owner in OWNERS:
        await set_duplicate_window(shop.bus.client, stream_of(owner), seconds)


async def count_messages(shop: Shop) -> int:
    return sum((await last_sequences(shop)).values())


async def messages_of(shop: Shop) -> dict[str, int]:
    """How many messages each stream has: as many as ids, within the duplicate window."""
    return {owner: int(state["messages"]) for owner, state in (await states(shop)).items()}


async def last_sequences(shop: Shop) -> dict[str, int]:
    return {owner: int(state["last_seq"]) for owner, state in (await states(shop)).items()}


async def states(shop: Shop) -> dict[str, dict[str, Any]]:
    """The state of each owner's stream."""
    return {
        owner: (await call(shop, f"STREAM.INFO.{stream_of(owner)}"))["state"] for owner in OWNERS
    }


async def incarnations(shop: Shop) -> dict[str, str]:
    return {row["name"]: row["incarnation"] for row in await shop.fetch(INCARNATIONS)}


@asynccontextmanager
async def paused(shop: Shop, *handlers: str) -> AsyncIterator[None]:
    """Deliver nothing to these handlers during the block; their messages wait in the stream."""
    until = datetime.now(UTC) + timedelta(hours=1)
    paths = [
        f"{subscription.stream}.{subscription.handler}"
        for subscription in SUBSCRIPTIONS
        if subscription.handler in handlers
    ]
    for path in paths:
        answer = await call(shop, f"CONSUMER.PAUSE.{path}", {"pause_until": until.isoformat()})
        assert answer.get("paused") is True, answer
    try:
        yield
    finally:
        for path in paths:
            await call(shop, f"CONSUMER.PAUSE.{path}")


async def until_published(shop: Shop, *owners: str, within_s: float = 120.0) -> None:
    """Wait until these owners have done and published everything; others may lag behind."""
    kinds = {"outbox", MOVING} | ({"updates", "telegram's updates"} if "bot" in owners else set())
    kinds |= {"jobs"} if "vpn" in owners else set()
    kinds |= {"messages"} if "notifier" in owners else set()
    kinds |= {
        subscription.handler for subscription in SUBSCRIPTIONS if subscription.service in owners
    }
    give_up_at = time.monotonic() + within_s
    while kinds & (left := await shop.in_flight()).keys():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{owners} have not published everything: {left}")
        await asyncio.sleep(0.1)


def changed_streams(shop: Shop) -> Counter[str]:
    """How often the services' logs report that each stream changed."""
    logs = [log.read_text(errors="replace") for log in (shop.state_dir / "logs").glob("*.log")]
    lines = [
        json.loads(line) for log in logs for line in log.splitlines() if STREAM_CHANGED in line
    ]
    return Counter(line["stream"] for line in lines)
