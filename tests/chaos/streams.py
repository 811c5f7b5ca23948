"""Rows about the pipe: its disk is lost or old, a durable is gone, everything comes ten times."""

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

from shared.outbox import ROUND_TIMEOUT_S
from shared.owners import OWNERS
from shared.streams import DUPLICATE_WINDOW, KEPT_FOR, LISTENING, stream_of
from tests.chaos.shop import Shop, signal_to
from tests.chaos.trial import Trial

TIMES = 10
SHORTEST_WINDOW_S = 0.1
AFTER_WINDOW_S = 0.15
STORED_AFTER_S = 1.0  # A message of an atomic batch is heard before the batch is committed.

INCARNATIONS = " union all ".join(f"select name, incarnation from {owner}.streams" for owner in OWNERS)
RETOLD = "stream is another one, facts are told again"
FACTS = "select " + " + ".join(f"(select count(*) from {owner}.facts)" for owner in OWNERS)
KEPT_FACTS = " union all ".join(
    f"select '{owner}' as owner, count(*) as facts from {owner}.facts where told_at > now() - $1::interval"
    for owner in OWNERS
)
REPEATED_WITHIN_S = 120.0


async def disk_wiped(trial: Trial) -> None:
    """10 (W-31): under load, and between "received" and the worker: made and told again by the relays, nothing lost."""
    shop = trial.shop

    async def die() -> None:
        trial.faults.append(f"{signal_to(shop.broker.child, signal.SIGKILL)} and its disk wiped under load")

    wanted = await trial.town.orders(trial.size(800, 240))
    half = len(wanted) // 2
    known = await incarnations(shop)
    async with shop.kept():
        trial.took("resumed", await trial.broken_under_load(wanted[:half], die, shop.broker.wipe), 5.0)
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)
    await _all_is_told_again(trial, known, "after the disk was wiped under load")

    known = await incarnations(shop)
    await shop.stop("payments")
    await trial.pay(wanted[half:])
    await until_told(shop, "bot")
    killed = signal_to(shop.broker.child, signal.SIGKILL)
    trial.faults.append(f"{killed} and its disk wiped with {half} payments received and heard by nobody")
    await shop.broker.wipe()
    await shop.start("payments")
    await _all_is_told_again(trial, known, "after it was wiped before payments heard")


async def _all_is_told_again(trial: Trial, known: dict[str, str], when: str) -> None:
    """Every stream was made anew, with all of its three days, and all is heard.

    After each fault: it may not mend what the one before broke.
    """
    await trial.rests(f"the shop {when}")
    again = await incarnations(trial.shop)
    unchanged = {name for name in known if again.get(name) == known[name]}
    trial.expect(f"every stream is another one {when}: {unchanged} are not", not unchanged)
    told = {row["owner"]: row["facts"] for row in await trial.shop.asked(KEPT_FACTS, KEPT_FOR)}
    kept = await messages_of(trial.shop)
    lacking = {owner: f"{kept[owner]} of {facts}" for owner, facts in told.items() if kept[owner] < facts}
    trial.expect(f"each stream has its three days {when}: {lacking}", not lacking)
    trial.figures.append(f"{sum(told.values())} facts told again")
    await trial.counts(when)


async def disk_of_before(trial: Trial) -> None:
    """11 (W-31): a copy from before in the place of the disk, and every durable deleted: noticed, and told again.

    Noticed here by the sequence. That a relay meets another incarnation is row 10; the hourly count, which finds what
    neither tells, cannot be awaited here: `store/test_tally.py` and `flow/test_second_net.py` have it.
    """
    shop = trial.shop
    wanted = await trial.town.orders(trial.size(600, 200))
    third = len(wanted) // 3
    await shop.broker.stop()
    kept = shop.state_dir / "nats-before"
    shutil.copytree(shop.broker.store, kept)
    await shop.broker.restart()

    async def die() -> None:
        trial.faults.append(f"{signal_to(shop.broker.child, signal.SIGKILL)} and its disk of {third} payments before")
        await shop.broker.child.wait()
        shutil.rmtree(shop.broker.store)
        kept.rename(shop.broker.store)

    async with shop.kept():
        await trial.pay(wanted[:third])
        await trial.rests("what the copy lacks")
        noticed = told_again(shop)
        resumed_s = await trial.broken_under_load(wanted[third : 2 * third], die, shop.broker.restart)
        trial.took("resumed", resumed_s, 5.0)
        await trial.rests("the shop after its disk was of before")
        again = {stream for stream, times in told_again(shop).items() if times > noticed[stream]}
        tellers = {stream_of(owner) for owner in OWNERS if owner != "notifier"}
        trial.expect(f"all but notifier, which told nothing, notice the old stream: {again}", again >= tellers)
        await trial.counts("after the disk was of before")
        await _durable_deleted(trial, wanted[2 * third :])
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def _durable_deleted(trial: Trial, wanted: list[Any]) -> None:
    shop = trial.shop
    paying = asyncio.create_task(trial.pay(wanted))
    await asyncio.sleep(len(wanted) / trial.per_s / 2)
    for listening in LISTENING:
        answer = await call(shop, f"CONSUMER.DELETE.{listening.stream}.{listening.handler}")
        trial.expect(f"{listening.handler} was deleted", answer.get("success") is True)
    trial.faults.append(f"all {len(LISTENING)} durables deleted under load")
    await paying
    await trial.rests("the shop without its durables")


async def all_ten_times(trial: Trial) -> None:
    """17 (M-02, M-35): every message delivered ten times: no effect twice."""
    wanted = await trial.town.orders(trial.size(300, 100))
    async with told_ten_times(trial):
        async with trial.town.life():
            await trial.pay(wanted, trial.per_s / 2)
        await trial.rests("what is told ten times", 120)


@asynccontextmanager
async def told_ten_times(trial: Trial) -> AsyncIterator[None]:
    """Publish each message ten times more under the same id, each once the stream has forgotten the one before.

    Ten, not nine: a message is heard before its batch is committed, and a copy that comes first is kept in its place.
    """
    shop = trial.shop
    await windows(shop, SHORTEST_WINDOW_S)
    before, told_before = await messages(shop), await shop.asked_one(FACTS)
    repeater = Repeater(shop)
    subscription = await shop.bus.client.subscribe("evt.>", cb=repeater.hear)
    try:
        yield
        with suppress(TimeoutError):
            async with asyncio.timeout(REPEATED_WITHIN_S):
                await repeater.finish()
        trial.expect(
            f"all is told again within {REPEATED_WITHIN_S:g} s, {repeater.left} facts are not: {repeater.refused}",
            not repeater.left,
        )
    finally:
        repeater.give_up()
        await subscription.unsubscribe()
        await windows(shop, DUPLICATE_WINDOW.total_seconds())
    stored, told = await messages(shop) - before, await shop.asked_one(FACTS) - told_before
    trial.faults.append(f"{told} facts in {stored} messages")
    trial.expect(f"each of {told} facts is repeated: {len(repeater.heard)}", len(repeater.heard) >= told > 0)
    trial.expect(f"every fact is there at least {TIMES} times", stored >= TIMES * told)


class Repeater:
    """Tells everything again that it hears for the first time."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.heard: set[str] = set()
        self.refused = ""
        """What the stream said last of a copy that it did not keep."""
        self._telling: set[asyncio.Task[None]] = set()

    async def hear(self, message: Msg) -> None:
        headers = message.headers or {}
        fact = headers.get("Nats-Msg-Id", "")
        if "Chaos-Copy" in headers or fact in self.heard:  # A relay may have to publish once more.
            return
        self.heard.add(fact)
        task = asyncio.create_task(self._tell_again(message.subject, message.data, headers))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_again(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        own = {name: value for name, value in headers.items() if not name.startswith("Nats-Batch")}
        await asyncio.sleep(STORED_AFTER_S)
        for copy in range(TIMES):
            while True:
                await asyncio.sleep(AFTER_WINDOW_S)
                answer = await published(self.shop, subject, data, own | {"Chaos-Copy": str(copy)})
                if is_kept(answer):
                    break
                self.refused = f"copy {copy} of {own.get('Nats-Msg-Id')} in {subject}: {answer}"

    @property
    def left(self) -> int:
        return len(self._telling)

    async def finish(self) -> None:
        while self._telling:
            await asyncio.wait(self._telling)

    def give_up(self) -> None:
        for task in self._telling:
            task.cancel()


# JetStream, asked directly


async def call(shop: Shop, name: str, request: Any = None) -> dict[str, Any]:
    body = b"" if request is None else json.dumps(request).encode()
    answer = await shop.bus.client.request(f"$JS.API.{name}", body, ROUND_TIMEOUT_S)
    decoded: dict[str, Any] = json.loads(answer.data)
    return decoded


async def publish(shop: Shop, subject: str, data: bytes, headers: dict[str, str]) -> bool:
    """True when the stream keeps it, not when it knew it."""
    return is_kept(await published(shop, subject, data, headers))


def is_kept(answer: dict[str, Any]) -> bool:
    return "seq" in answer and not answer.get("duplicate")


async def published(shop: Shop, subject: str, data: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """What JetStream says of it."""
    try:
        message = await shop.bus.client.request(subject, data, ROUND_TIMEOUT_S, headers=headers)
    except NatsError as error:
        return {"error": repr(error)}
    answer: dict[str, Any] = json.loads(message.data)
    return answer


async def windows(shop: Shop, seconds: float) -> None:
    """How long every stream knows an id: the first of the three nets."""
    for owner in OWNERS:
        config = (await call(shop, f"STREAM.INFO.{stream_of(owner)}"))["config"]
        answer = await call(
            shop, f"STREAM.UPDATE.{stream_of(owner)}", config | {"duplicate_window": int(seconds * 1e9)}
        )
        assert "error" not in answer, answer


async def messages(shop: Shop) -> int:
    return sum((await last_sequences(shop)).values())


async def messages_of(shop: Shop) -> dict[str, int]:
    """How many messages the stream of each owner has: as many as ids, within the time that it knows them."""
    return {owner: int(state["messages"]) for owner, state in (await states(shop)).items()}


async def last_sequences(shop: Shop) -> dict[str, int]:
    return {owner: int(state["last_seq"]) for owner, state in (await states(shop)).items()}


async def states(shop: Shop) -> dict[str, dict[str, Any]]:
    """What JetStream says of the stream of each owner."""
    return {owner: (await call(shop, f"STREAM.INFO.{stream_of(owner)}"))["state"] for owner in OWNERS}


async def incarnations(shop: Shop) -> dict[str, str]:
    return {row["name"]: row["incarnation"] for row in await shop.asked(INCARNATIONS)}


@asynccontextmanager
async def held_back(shop: Shop, *handlers: str) -> AsyncIterator[None]:
    """These handlers hear nothing until the end of the block; what comes for them waits in its stream."""
    until = datetime.now(UTC) + timedelta(hours=1)
    paths = [f"{listening.stream}.{listening.handler}" for listening in LISTENING if listening.handler in handlers]
    for path in paths:
        answer = await call(shop, f"CONSUMER.PAUSE.{path}", {"pause_until": until.isoformat()})
        assert answer.get("paused") is True, answer
    try:
        yield
    finally:
        for path in paths:
            await call(shop, f"CONSUMER.PAUSE.{path}", {})


async def until_told(shop: Shop, *owners: str, within_s: float = 120.0) -> None:
    """Until these owners have nothing to tell and nothing to hear any more, though others do not listen."""
    still = {"untold"} | ({"updates", "telegram's updates"} if "bot" in owners else set())
    still |= {"jobs"} if "vpn" in owners else set()
    still |= {listening.handler for listening in LISTENING if listening.service in owners}
    give_up_at = time.monotonic() + within_s
    while still & (moving := await shop.on_its_way()).keys():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{owners} do not come to rest: {moving}")
        await asyncio.sleep(0.1)


def told_again(shop: Shop) -> Counter[str]:
    """How often the services' logs say of each stream that it is another one."""
    logs = [log.read_text(errors="replace") for log in (shop.state_dir / "logs").glob("*.log")]
    lines = [json.loads(line) for log in logs for line in log.splitlines() if RETOLD in line]
    return Counter(line["stream"] for line in lines)
