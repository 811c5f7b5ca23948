"""The second net on a real NATS and PostgreSQL: what was told is held against what was heard, hour by hour."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from referrals.subscribers import referrals_registers_started
from shared import bus, inbox, outbox, streams, tally
from shared.audit import STRANGERS, UNHEARD
from shared.bus import Bus
from shared.commands import TellAgain
from shared.contract import Refused
from shared.db import Database, Tx
from shared.facts import PersonStarted
from shared.inbox import Handler
from shared.obey import obey
from shared.questions import AskTold, AskToldIds
from shared.streams import LISTENING, Listening
from shared.tally import HOUR, Compared, compare, start_of_hour
from tests.kit.servers import MakeDatabase
from turnpike_local.broker import Broker

HANG_S = 30.0
HANDLER = "referrals_registers_started"
STARTED = next(entry for entry in LISTENING if entry.handler == HANDLER)

TELL_THEN = """
with told as (
  insert into facts (id, topic, version, body, digest, told_at)
  select id, $2, 1, body::json, digest, told_at
  from unnest($1::uuid[], $3::text[], $4::bigint[], $5::timestamptz[]) as f (id, body, digest, told_at)
  returning seq
)
insert into untold (seq) select seq from told
"""


class Street:
    """A teller (bot) and a listener (referrals) with everything between them; the listener may be deaf for a while."""

    def __init__(self, teller: Database, listener: Database, url: str, owner_dsn: str) -> None:
        self.teller = teller
        self.owner_dsn = owner_dsn
        self.listener = listener
        self.url = url
        self.heard: list[UUID] = []
        self.fails: Exception | None = None

    async def __aenter__(self) -> "Street":
        self._exits = AsyncExitStack()
        self.bus, told = Bus(self.url, "listener"), Bus(self.url, "teller")
        told.answers(AskTold.of("bot"), lambda asked: tally.answer_told(asked, self.teller))
        told.answers(AskToldIds.of("bot"), lambda asked: tally.answer_told_ids(asked, self.teller))
        told.answers(TellAgain.of("bot"), self._tell_again)
        for one in (told, self.bus):
            await one.open()
            self._exits.push_async_callback(one.close)
        self._stopping = asyncio.Event()
        self._relay = asyncio.create_task(outbox.Relay(self.teller, told.client, "bot").run(self._stopping))
        self._exits.push_async_callback(self.end_relay)
        await until(self._stream_is_there)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def end_relay(self) -> None:
        self._stopping.set()
        await asyncio.wait_for(self._relay, HANG_S)

    async def _stream_is_there(self) -> bool:
        return "error" not in await self.api(f"STREAM.INFO.{STARTED.stream}")

    async def _tell_again(self, command: Any) -> Any:
        return await obey(self.teller, command, tally.tell_again)

    async def handle(self, events: Sequence[PersonStarted], tx: Tx) -> None:
        if self.fails is not None:
            raise self.fails
        await referrals_registers_started(events, tx)
        ids = [event.id for event in events]
        tx.after_commit(lambda: self.heard.extend(ids))

    async def tell(self, count: int, hour: datetime, *, relayed: bool = True) -> list[UUID]:
        """Facts of that hour, told and acknowledged by the broker."""
        people = [uuid4() for _ in range(count)]
        moments = [hour + timedelta(seconds=place % 3600) for place in range(count)]
        facts = [
            PersonStarted.because(person, about=person, at=at, code=None, invited_by=None)
            for person, at in zip(people, moments, strict=True)
        ]
        ids, bodies = [fact.id for fact in facts], [fact.model_dump_json() for fact in facts]
        digests = [fact.digest() for fact in facts]
        await self.teller.execute(TELL_THEN, ids, PersonStarted.topic, bodies, digests, moments)
        if relayed:
            await self.until_told()
        return ids

    async def until_told(self) -> None:
        async def none_waits() -> bool:
            return bool(await self.teller.fetchval("select count(*) from untold") == 0)

        await until(none_waits)

    async def listen(self) -> None:
        """Hear all there is, then be deaf again."""
        stopping = asyncio.Event()
        listening = asyncio.create_task(self.bus.listen(Handler(STARTED, self.handle, self.listener), stopping))

        async def at_rest() -> bool:
            return (await self.bus.unsettled())[HANDLER] == 0

        try:
            await until(at_rest)
        finally:
            stopping.set()
            await asyncio.wait_for(listening, HANG_S)

    async def lose(self, ids: Sequence[UUID]) -> None:
        """The broker loses these messages, as if it had never had them."""
        last = (await self.api(f"STREAM.INFO.{STARTED.stream}"))["state"]["last_seq"]
        lost = 0
        for sequence in range(1, last + 1):
            found = await self.api(f"STREAM.MSG.GET.{STARTED.stream}", {"seq": sequence})
            body = base64.b64decode(found.get("message", {}).get("data", "")).decode()
            if any(str(one) in body for one in ids):
                await self.api(f"STREAM.MSG.DELETE.{STARTED.stream}", {"seq": sequence})
                lost += 1
        assert lost == len(ids), "the broker had them"

    async def as_owner(self, sql: str, *args: object) -> list[Any]:
        """Do to the teller's tables what its app may not."""
        connection = await asyncpg.connect(self.owner_dsn)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def pull(self, count: int) -> list[Msg]:
        """Take so many messages for the handler and acknowledge none."""
        reply = self.bus.client.new_inbox()
        subscription = await self.bus.client.subscribe(reply)
        call = f"$JS.API.CONSUMER.MSG.NEXT.{STARTED.stream}.{HANDLER}"
        await self.bus.client.publish(call, json.dumps({"batch": count, "expires": 5_000_000_000}).encode(), reply)
        return [await subscription.next_msg(HANG_S) for _ in range(count)]

    async def change_stream(self, **changes: int) -> None:
        config = (await self.api(f"STREAM.INFO.{STARTED.stream}"))["config"]
        assert "error" not in await self.api(f"STREAM.UPDATE.{STARTED.stream}", config | changes)

    async def api(self, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        body = json.dumps(request).encode() if request else b""
        answer: dict[str, Any] = json.loads((await self.bus.client.request(f"$JS.API.{call}", body, 5)).data)
        return answer

    async def compare(self, *, hours: int = 72, listening: Listening = STARTED) -> Compared | None:
        return await compare(listening, self.listener, self.bus, hours=hours)

    async def time_passes(self) -> None:
        """A quarter of an hour, as far as the tries are concerned."""
        await self.listener.execute("update differences set tried_at = tried_at - interval '16 minutes'")

    async def found(self, check: str) -> list[str]:
        return [row["example"] for row in await self.listener.fetch(check)]

    async def settled(self, ids: Sequence[UUID]) -> bool:
        """Heard once each, and nothing is found."""
        heard = await self.listener.fetchval("select count(*) from inbox where fact_id = any($1)", list(ids))
        written = await self.listener.fetchval("select count(*) from people")
        compared = await self.compare()
        assert compared is not None
        findings = [*await self.found(UNHEARD), *await self.found(STRANGERS)]
        return (heard, written, compared.differing, findings) == (len(ids), len(ids), 0, [])


@pytest.fixture
def closed() -> datetime:
    """An hour that has long been closed."""
    return start_of_hour(datetime.now(UTC)) - 3 * HOUR


@pytest.fixture
def window() -> timedelta:
    """For how long the broker knows an id: so short that what it lost it takes again."""
    return timedelta(milliseconds=100)


@pytest.fixture
async def street(
    fresh_database: MakeDatabase, broker: Broker, window: timedelta, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Street]:
    """Empty tables and an empty broker."""
    monkeypatch.setattr(streams, "DUPLICATE_WINDOW", window)
    await broker.wipe()
    place = await fresh_database("bot")
    teller = Database(place.dsn("bot_app"), name="teller")
    listener = Database((await fresh_database("referrals")).dsn("referrals_app"), name="listener")
    await teller.open()
    await listener.open()
    async with Street(teller, listener, broker.url, place.dsn("bot_owner")) as opened:
        yield opened
    await teller.close()
    await listener.close()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG_S):
        while not await true():
            await asyncio.sleep(0.02)


async def test_what_was_told_and_heard_agrees(street: Street, closed: datetime) -> None:
    ids = [*await street.tell(5, closed), *await street.tell(3, closed - HOUR)]
    await street.listen()
    assert await street.compare() == Compared(hours=2)
    assert await street.settled(ids)


async def test_a_message_that_the_broker_lost_is_noticed_told_again_and_heard(street: Street, closed: datetime) -> None:
    """W-25: nobody restarts anything, the stream is the same and its sequence goes on; the count of an hour tells."""
    ids = [*await street.tell(40, closed), *await street.tell(2, closed - HOUR)]
    await street.lose(ids[7:10])
    await street.listen()
    assert len(street.heard) == 39
    assert await street.compare() == Compared(hours=2, differing=1, told_again=3)
    assert await street.found(UNHEARD) == [f"{HANDLER} lacks 3 of {closed:%Y-%m-%d %H:%M:%S}+00, told again 1 times"]
    await street.until_told()
    await street.listen()
    assert set(street.heard) == set(ids)
    assert await street.settled(ids)


async def test_what_was_forgotten_but_done_is_absorbed_a_second_time_without_effect(
    street: Street, closed: datetime
) -> None:
    """W-25: an inbox restored from before its effects is filled again; natural keys meet what is done already."""
    ids = await street.tell(6, closed)
    await street.listen()
    await street.listener.execute("delete from inbox where fact_id = any($1)", ids[:4])
    compared = await street.compare()
    assert compared is not None
    assert compared.told_again == 4
    await street.until_told()
    await street.listen()
    assert len(street.heard) == 10, "the handler was called again"
    assert await street.settled(ids), "and wrote nothing twice"


async def test_an_id_that_only_the_listener_has_is_a_finding_and_no_loop(street: Street, closed: datetime) -> None:
    """W-26: an effect without a cause is listed for a person; the hour agrees otherwise and is not looked at again."""
    ids = await street.tell(6, closed)
    await street.listen()
    await street.as_owner("delete from facts where id = $1", ids[2])
    assert await street.compare() == Compared(hours=1, differing=1, strangers=1)
    assert await street.found(STRANGERS) == [f"{HANDLER} heard {ids[2]} in {closed:%Y-%m-%d %H:%M:%S}+00"]
    assert await street.compare() == Compared(hours=1), "the finding stays, the search is over"
    assert len(await street.found(STRANGERS)) == 1
    assert await street.teller.fetchval("select count(*) from commands") == 0


async def test_a_restored_owner_that_tells_the_same_cause_anew_ends_the_finding(
    street: Street, closed: datetime
) -> None:
    """W-26: the fact has the same id and a later hour; its row follows, and nobody is told anything again."""
    (known, again) = await street.tell(2, closed - HOUR)
    await street.listen()
    (fact,) = await street.as_owner("delete from facts where id = $1 returning topic, body::text, digest", again)
    assert await street.compare() == Compared(hours=1, differing=1, strangers=1)
    await street.teller.execute(
        TELL_THEN, [again], fact["topic"], [fact["body"]], [fact["digest"]], [closed + timedelta(minutes=5)]
    )
    await street.until_told()
    await street.listen()
    assert await street.compare() == Compared(hours=2, differing=1)
    assert await street.settled([known, again])
    assert await street.listener.fetchval("select hour from inbox where fact_id = $1", again) == closed


async def test_another_digest_is_an_alarm_once(street: Street, closed: datetime) -> None:
    """The restored owner made another fact of the same cause: I12 sees it although the id never came twice."""
    (one, other) = await street.tell(2, closed)
    await street.listen()
    await street.as_owner("update facts set digest = 7 where id = $1", one)
    assert await street.compare() == Compared(hours=1, differing=1)
    noted = await street.listener.fetch(
        "select fact_id, digest_heard from contradictions where where_seen = $1", HANDLER
    )
    assert [tuple(row) for row in noted] == [(one, 7)]
    assert await street.settled([one, other]), "what is noted is not looked for again"


async def test_three_tries_then_an_alert_and_no_fourth(street: Street, closed: datetime) -> None:
    """W-25: what cannot be mended by telling is not told for ever."""
    ids = await street.tell(3, closed)

    async def hear_and_lose_one() -> None:
        await street.until_told()
        await street.listen()
        await street.listener.execute("delete from inbox where fact_id = $1", ids[0])

    await hear_and_lose_one()
    with capture_logs() as logs:
        for _ in range(tally.MOST_TRIES):
            compared = await street.compare()
            assert compared is not None
            assert compared.told_again == 1
            await hear_and_lose_one()
            assert await street.compare() == Compared(hours=1, differing=1), "not again within a quarter of an hour"
            await street.time_passes()
        for _ in range(3):
            assert await street.compare() == Compared(hours=1, differing=1)
            await street.time_passes()
    alerts = [entry for entry in logs if entry["log_level"] == "critical"]
    assert [(entry["handler"], entry["examples"]) for entry in alerts] == [(HANDLER, [str(ids[0])])]
    commands = await street.teller.fetch("select actor, outcome from commands where topic = 'bot.tell_again'")
    assert [tuple(row) for row in commands] == [("service:referrals", "done")] * tally.MOST_TRIES
    given_up = "select count(*) from differences where given_up_at is not null"
    assert await street.listener.fetchval(given_up) == 1
    fact = await street.teller.fetchval("select seq from facts where id = $1", ids[0])
    await street.teller.execute("insert into untold (seq) values ($1)", fact)
    await street.until_told()
    await street.listen()
    assert await street.settled(ids), "heard at last, it is forgotten that it was given up"


async def test_an_hour_that_is_open_is_not_compared(street: Street) -> None:
    """A fact on its way is not a fact that is missing."""
    now = await street.teller.fetchval("select now()")
    await street.tell(4, start_of_hour(now))
    assert await street.compare() is None, "nobody listens yet"
    await street.listen()
    await street.listener.execute("delete from inbox")
    assert await street.compare() == Compared()


async def test_an_hour_that_is_not_told_to_its_end_is_not_compared(street: Street, closed: datetime) -> None:
    """The broker was away for hours: what its owner still holds, nobody can have heard."""
    await street.tell(2, closed)
    await street.tell(2, closed - HOUR)
    await street.listen()
    await street.end_relay()
    (waits,) = await street.tell(1, closed, relayed=False)
    assert await street.compare() == Compared(hours=2), "two hours with facts, one of them not ready to be compared"
    await street.teller.execute("delete from untold")
    assert await street.compare() == Compared(hours=2, differing=1, told_again=1)
    again = "select retold from untold join facts using (seq) where id = $1"
    assert await street.teller.fetchval(again, waits) is True, "behind the live ones"


async def test_a_handler_that_has_not_passed_the_hour_is_not_compared(
    street: Street, closed: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter that is tried again later (our own fault) is not missing yet."""
    monkeypatch.setattr(inbox, "OUR_FAULT_RETRY_S", (0.2,) * 1000)
    monkeypatch.setattr(bus, "PASSED_TIMEOUT_S", 0.0)
    ids = await street.tell(3, closed)
    street.fails = RuntimeError("ours")
    stopping = asyncio.Event()
    listening = asyncio.create_task(street.bus.listen(Handler(STARTED, street.handle, street.listener), stopping))

    async def stumbled() -> bool:
        return bool(await street.listener.fetchval("select count(*) from stumbles") == 3)

    await until(stumbled)
    assert await street.compare() is None
    stopping.set()
    await asyncio.wait_for(listening, HANG_S)
    street.fails = None
    await street.listen()
    assert await street.settled(ids)


async def test_a_handler_under_steady_load_passes_its_hours_too(street: Street, closed: datetime) -> None:
    """It is never at rest; what counts is that it acknowledged all that stood in the stream when it was asked."""
    await street.tell(3, closed)
    await street.listen()
    (first,) = await street.tell(1, closed)
    held = await street.pull(1)
    asked = asyncio.Event()
    info = street.bus._info

    async def watched(call: str) -> dict[str, Any]:
        answer = await info(call)
        if call.startswith("CONSUMER"):
            asked.set()
        return answer

    street.bus._info = watched  # type: ignore[method-assign]  # What it asks is watched, and still asked.
    standing = asyncio.create_task(street.bus.standing(STARTED))
    await asked.wait()
    assert not standing.done(), "one is not acknowledged"
    await street.tell(5, closed)
    await held[0].ack()
    assert (await standing).passed
    assert (await street.bus.unsettled())[HANDLER] == 5, f"the five after {first} are not heard"


async def test_bytes_that_nobody_can_read_count_by_their_header(street: Street, closed: datetime) -> None:
    """They lie buried and wait for a replay; telling them again would bury them again."""
    await street.tell(2, closed)
    await street.listen()
    await street.end_relay()
    (broken,) = await street.tell(1, closed, relayed=False)
    await street.teller.execute("delete from untold")
    digest = await street.teller.fetchval("select digest from facts where id = $1", broken)
    headers = {"Nats-Msg-Id": str(broken), "Turnpike-Digest": str(digest), "Turnpike-Hour": closed.isoformat()}
    for body, bears in ((b"\xff", headers), (b"no header at all", {"Nats-Msg-Id": "x"})):
        await street.bus.client.request(PersonStarted.subject(), body, headers=bears)
    await street.listen()
    assert await street.listener.fetchval("select count(*) from dead_letters") == 2
    assert await street.compare() == Compared(hours=1)


@pytest.mark.parametrize("window", [streams.DUPLICATE_WINDOW])
async def test_what_the_duplicate_window_swallows_is_told_by_the_next_try(street: Street, closed: datetime) -> None:
    """The broker lost the message and still knows its id: it acknowledges the telling and keeps nothing."""
    ids = await street.tell(3, closed)
    await street.lose(ids[:1])
    await street.listen()
    for _ in range(2):
        compared = await street.compare()
        assert compared is not None
        assert compared.told_again == 1
        await street.until_told()
        await street.listen()
        assert len(street.heard) == 2, "swallowed"
        await street.time_passes()
    await street.change_stream(duplicate_window=100_000_000)
    await asyncio.sleep(0.2)
    compared = await street.compare()
    assert compared is not None
    assert compared.told_again == 1
    await street.until_told()
    await street.listen()
    assert await street.settled(ids)


async def test_hours_before_the_handler_was_added_are_not_its_to_hear(
    street: Street, closed: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new handler hears what its stream holds; thirty days are not told anew to all because of it."""
    monkeypatch.setattr(tally, "HOURS_PER_QUESTION", 24)
    old, young = closed.replace(hour=0) - HOUR, closed
    ids = [*await street.tell(2, old), *await street.tell(2, young)]
    await street.listen()
    await street.listener.execute("delete from inbox where fact_id = any($1)", [ids[0], ids[2]])
    added = replace(STARTED, since=f"{young:%Y-%m-%d}")
    compared = await street.compare(listening=added)
    assert compared is not None
    assert (compared.differing, compared.told_again) == (1, 1)
    again = await street.teller.fetch("select id from untold join facts using (seq)")
    assert ids[0] not in [row["id"] for row in again]


async def test_two_replicas_that_find_the_same_make_one_try(street: Street, closed: datetime) -> None:
    ids = await street.tell(5, closed)
    await street.listen()
    await street.end_relay()
    await street.listener.execute("delete from inbox where fact_id = any($1)", ids[:2])
    both = await asyncio.gather(street.compare(), street.compare())
    assert both[0] is not None
    assert both[0].differing == 1
    obeyed = "select count(*) from commands where topic = 'bot.tell_again' and outcome = 'done'"
    assert await street.teller.fetchval(obeyed) == 1
    assert await street.listener.fetchval("select tries from differences") == 1


async def test_one_replica_compares_each_hour_and_all_thirty_days_once_a_day(street: Street, closed: datetime) -> None:
    old = closed - 10 * 24 * HOUR
    long_ago = replace(STARTED, since="2026-01-01")
    await street.tell(1, old)
    await street.listen()
    rounds: list[Compared] = []

    async def due() -> None:
        with capture_logs() as logs:
            await asyncio.gather(*(tally.compare_due([long_ago], street.listener, street.bus) for _ in range(3)))
        rounds.extend(Compared(**{k: e[k] for k in vars(Compared())}) for e in logs if e["event"] == "hours compared")

    await due()
    assert rounds == [], "a service that just started has other things to do"
    await street.listener.execute("update comparisons set due_at = now()")
    await due()
    assert rounds == [Compared(hours=1)], "one of three, and all days"
    await due()
    await street.listener.execute("update comparisons set due_at = now()")
    await due()
    assert rounds[1:] == [Compared(hours=0)], "the recent ones only"


async def test_an_owner_that_does_not_answer_is_asked_again_when_the_lease_ends(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "ASK_TIMEOUT_S", 0.3)
    (foreign,) = [entry for entry in LISTENING if entry.handler == "referrals_rewards_confirmed"]
    for statement in ("select 1", "update comparisons set due_at = now()"):
        await street.listener.execute(statement)
        await tally.compare_due([foreign], street.listener, street.bus)
    row = await street.listener.fetchrow("select *, due_at - now() as rest from comparisons")
    assert row is not None
    assert timedelta(minutes=5) < row["rest"] <= tally.LEASED_FOR
    assert row["whole_due_at"] < row["due_at"]


async def test_a_large_hour_is_looked_through_in_pages(
    street: Street, closed: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "IDS_PER_QUESTION", 10)
    monkeypatch.setattr(tally, "IDS_PER_COMMAND", 3)
    ids = [*await street.tell(55, closed), *await street.tell(4, closed - 20 * HOUR)]
    await street.listen()
    await street.end_relay()
    await street.listener.execute("delete from inbox where fact_id = any($1)", ids[:8])
    await street.as_owner("delete from facts where id = any($1)", ids[50:55])
    assert await street.compare() == Compared(hours=2, differing=1, told_again=8, strangers=5)
    waiting = await street.teller.fetch("select id from untold join facts using (seq)")
    assert {row["id"] for row in waiting} == set(ids[:8])
    assert await street.teller.fetchval("select count(*) from commands where topic = 'bot.tell_again'") == 3


async def test_a_stream_that_is_half_full_is_not_filled_by_what_is_told_again(street: Street, closed: datetime) -> None:
    """Live facts must find room: a full stream refuses them."""
    ids = await street.tell(5, closed)
    await street.listen()
    await street.listener.execute("delete from inbox where fact_id = $1", ids[0])
    used = (await street.api(f"STREAM.INFO.{STARTED.stream}"))["state"]["bytes"]
    await street.change_stream(max_bytes=used * 2 - 1)
    assert await street.compare() == Compared(hours=1, differing=1, cut_short=True)
    await street.change_stream(max_bytes=used * 2 + 2)
    compared = await street.compare()
    assert compared is not None
    assert compared.told_again == 1


async def test_another_owners_facts_are_not_answered_for(street: Street) -> None:
    """Zero facts would make everything that was heard a stranger."""
    refused = await street.bus.ask(AskTold.of("bot")(fact="payments.payment.confirmed", hours=1))
    assert refused == Refused(reason="not_mine")


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        (tally.TOLD, (PersonStarted.topic, "closed", "closed"), "facts_by_time"),
        (tally.TOLD_IDS, (PersonStarted.topic, "closed", UUID(int=0), 10), "facts_by_time"),
        (tally.OWN, (HANDLER, "closed", "closed"), "inbox_by_hour"),
    ],
    ids=["the owner's tallies", "the owner's ids", "the listener's tallies"],
)
async def test_an_hour_costs_an_hour_and_not_a_history(
    street: Street, closed: datetime, statement: str, arguments: tuple[object, ...], index: str
) -> None:
    given = [closed if argument == "closed" else argument for argument in arguments]
    async with street.listener.transaction() as tx:
        await tx.execute("set local enable_seqscan = off")
        plan = "\n".join(row[0] for row in await tx.fetch(f"explain {statement}", *given))
    assert index in plan, plan
