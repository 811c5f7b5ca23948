"""The bus on a real NATS and PostgreSQL: heard once, poison buried alone, a stranger's stream told everything again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared import inbox, outbox, telemetry
from shared.bus import Bus, StandingPull, UnansweredError
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused, Value
from shared.db import Database, Tx
from shared.facts import PersonStarted
from shared.inbox import Handler, Letter
from shared.obey import obey
from shared.questions import AskPlans, Plans
from shared.streams import LISTENING
from tests.kit.proxy import Proxy
from tests.kit.servers import MakeDatabase
from turnpike_local.broker import Broker

HANG_S = 30.0
STARTED = next(entry for entry in LISTENING if entry.handler == "referrals_registers_started")


@pytest.fixture(scope="module")
async def teller(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    database = Database((await fresh_database("bot")).dsn("bot_app"), name="teller")
    await database.open()
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def listener(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    database = Database((await fresh_database("referrals")).dsn("referrals_app"), name="listener")
    await database.open()
    yield database
    await database.close()


class House:
    """A teller with a relay and a listener with one handler, each with a bus of its own."""

    def __init__(self, teller: Database, listener: Database, url: str) -> None:
        self.teller = teller
        self.listener = listener
        self.url = url
        self.heard: list[UUID] = []
        self.batches: list[int] = []
        self.calls = 0
        self.fails: Callable[[PersonStarted], Exception | None] = lambda _: None

    async def handle(self, events: Sequence[PersonStarted], tx: Tx) -> None:
        self.calls += 1
        for event in events:
            if error := self.fails(event):
                raise error
        ids = [event.id for event in events]
        self.batches.append(len(ids))
        tx.after_commit(lambda: self.heard.extend(ids))

    async def tell(self, count: int = 1, *, code: str | None = None) -> list[PersonStarted]:
        async with self.teller.transaction() as tx:
            now = await tx.now()
            people = [uuid4() for _ in range(count)]
            facts = [PersonStarted.because(p, about=p, at=now, code=code, invited_by=None) for p in people]
            await outbox.tell(tx, facts)
        return facts

    async def until_heard(self, facts: Sequence[PersonStarted]) -> None:
        wanted = {fact.id for fact in facts}
        await until(lambda: wanted <= set(self.heard))

    @asynccontextmanager
    async def open(self, *, listening: bool = True) -> AsyncIterator["House"]:
        stopping = asyncio.Event()
        told, hears = Bus(self.url, "teller"), Bus(self.url, "listener")
        await told.open()
        await hears.open()
        relay = outbox.Relay(self.teller, told.client, "bot")
        told.on_disconnect(relay.disconnected)
        told.on_reconnect(relay.reconnected)
        tasks = [asyncio.create_task(relay.run(stopping))]
        if listening:
            handler = Handler(STARTED, self.handle, self.listener)
            tasks.append(asyncio.create_task(hears.listen(handler, stopping)))
        self.bus = hears
        try:
            yield self
        finally:
            stopping.set()
            await asyncio.wait_for(asyncio.gather(*tasks), HANG_S)
            await told.close()
            await hears.close()


@pytest.fixture
async def house(teller: Database, listener: Database, broker: Broker, nats_url: str) -> House:
    """On a broker that holds nothing of another module's; a test may have left it dead."""
    if not broker.child.alive:
        await broker.restart()
    return House(teller, listener, nats_url)


async def until(true: Callable[[], bool | Awaitable[bool]]) -> None:
    give_up_at = time.monotonic() + HANG_S
    while time.monotonic() < give_up_at:
        answer = true()
        if answer if isinstance(answer, bool) else await answer:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"did not happen within {HANG_S} s")


def letter(fact: PersonStarted, **headers: str) -> Letter:
    known = {"Nats-Msg-Id": str(fact.id), "Turnpike-Digest": str(fact.digest())}
    known["Turnpike-Hour"] = outbox.hour_of(fact.at)
    return Letter(fact.subject(), known | headers, fact.model_dump_json().encode())


async def test_what_is_told_is_heard_once_in_natural_batches(house: House) -> None:
    async with house.open():
        await house.until_heard(await house.tell())
        many = [fact for _ in range(4) for fact in await house.tell(250)]
        await house.until_heard(many)
        assert len(house.heard) == len(set(house.heard)) == 1001
        assert max(house.batches) > 1, "under load a batch takes what has arrived"
        await until(lambda: _untold_is(house, 0))


async def _untold_is(house: House, count: int) -> bool:
    return bool(await house.teller.fetchval("select count(*) from untold") == count)


async def test_a_cancel_in_the_moment_of_an_arrival_ends_the_waiting(house: House) -> None:
    """R-15, W-24: who is told to end at that moment must not go on with what has arrived."""
    async with house.open(listening=False):
        pull = StandingPull(house.bus.client, Handler(STARTED, house.handle, house.listener), replicas=1)
        for arrived in (pull._arrived.set, lambda: None):
            waiting = asyncio.create_task(pull.take(1, asyncio.Event()))
            await asyncio.sleep(0.01)
            arrived()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting


async def test_the_same_letter_ten_times_acts_once(house: House) -> None:
    """M-02: redelivery is the ordinary case; the inbox makes it nothing."""
    async with house.open(listening=False):
        (fact,) = await house.tell()
        handler = Handler(STARTED, house.handle, house.listener)
        outcomes = await asyncio.gather(*(handler.absorb([letter(fact)] * 3) for _ in range(10)))
        assert (sum(o.done for o in outcomes), sum(o.repeated for o in outcomes)) == (1, 29)
        assert house.heard == [fact.id]


async def test_the_same_id_with_other_fields_is_an_alarm(house: House) -> None:
    async with house.open(listening=False):
        (fact,) = await house.tell()
        handler = Handler(STARTED, house.handle, house.listener)
        await handler.absorb([letter(fact)])
        other = fact.model_copy(update={"code": "r_other"})
        counted = telemetry.CONTRADICTIONS.labels(handler.name)._value.get()
        for _ in range(3):
            await handler.absorb([letter(other)])
        assert telemetry.CONTRADICTIONS.labels(handler.name)._value.get() == counted + 1, "the same is no news"
        assert house.heard == [fact.id]
        noted = await house.listener.fetchrow("select * from contradictions where fact_id = $1", fact.id)
        assert noted is not None
        assert noted["digest_known"] != noted["digest_heard"]


async def test_the_same_id_with_other_fields_in_one_batch_is_an_alarm_too(house: House) -> None:
    async with house.open(listening=False):
        (fact,) = await house.tell()
        handler = Handler(STARTED, house.handle, house.listener)
        outcome = await handler.absorb([letter(fact), letter(fact.model_copy(update={"code": "r_other"}))])
        assert (outcome.done, outcome.repeated) == (1, 1)
        assert await house.listener.fetchval("select count(*) from contradictions where fact_id = $1", fact.id) == 1


SESSIONS_THAT_WAIT = """
select count(*) > 0
from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


async def somebody_waits(database: Database) -> bool:
    return bool(await database.fetchval(SESSIONS_THAT_WAIT))


async def test_other_fields_that_come_while_the_first_are_being_heard_are_an_alarm(house: House) -> None:
    """M-22: who waited for another replica's transaction compares with what that one wrote."""
    async with house.open(listening=False):
        (fact,) = await house.tell()
        hears, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(events: Sequence[PersonStarted], tx: Tx) -> None:
            hears.set()
            await go_on.wait()
            await house.handle(events, tx)

        first = asyncio.create_task(Handler(STARTED, slowly, house.listener).absorb([letter(fact)]))
        await hears.wait()
        other = letter(fact.model_copy(update={"code": "r_other"}))
        second = asyncio.create_task(Handler(STARTED, house.handle, house.listener).absorb([other]))
        await until(lambda: somebody_waits(house.listener))
        go_on.set()
        assert ((await first).done, (await second).repeated) == (1, 1)
        assert house.heard == [fact.id]
        assert await house.listener.fetchval("select count(*) from contradictions where fact_id = $1", fact.id) == 1


async def test_one_id_told_by_two_transactions_at_once_with_two_contents_is_an_alarm(house: House) -> None:
    """M-22: the owner's own outbox has the same moment."""
    person = uuid4()

    def fact(code: str) -> PersonStarted:
        return PersonStarted.because(person, about=person, at=datetime.now(UTC), code=code, invited_by=None)

    async def tell(code: str) -> None:
        async with house.teller.transaction() as tx:
            await outbox.tell(tx, [fact(code)])

    async with house.teller.transaction() as tx:
        await outbox.tell(tx, [fact("r_1")])
        second = asyncio.create_task(tell("r_2"))
        await until(lambda: somebody_waits(house.teller))
    await second
    id_ = fact("r_1").id
    assert await house.teller.fetchval("select body ->> 'code' from facts where id = $1", id_) == "r_1"
    assert await house.teller.fetchval("select count(*) from contradictions where fact_id = $1", id_) == 1


async def test_one_id_told_with_two_contents_at_once_is_an_alarm(house: House) -> None:
    person = uuid4()
    async with house.teller.transaction() as tx:
        now = await tx.now()
        facts = [PersonStarted.because(person, about=person, at=now, code=c, invited_by=None) for c in ("r_1", "r_2")]
        await outbox.tell(tx, facts)
    told = await house.teller.fetchval("select body ->> 'code' from facts where id = $1", facts[0].id)
    assert told == "r_1", "the first counts"
    assert await house.teller.fetchval("select count(*) from contradictions where fact_id = $1", facts[0].id) == 1


async def test_a_relay_that_is_quicker_does_not_make_the_stream_another_one(house: House) -> None:
    """A second replica publishes and remembers while this one still looks at the stream: nothing is told again."""
    async with house.open(listening=False):
        await house.tell(5)
        await until(lambda: _untold_is(house, 0))
        relay = outbox.Relay(house.teller, house.bus.client, "bot")
        async with house.teller.held() as connection:
            await relay.compare_stream(connection)

            class Behind:
                """A connection whose second read finds what another relay remembered meanwhile."""

                async def fetchval(self, sql: str, *args: object) -> object:
                    return await connection.fetchval(sql, *args)

                async def fetchrow(self, sql: str, *args: object) -> object:
                    await connection.execute("update streams set sequence = sequence + 3 where name = 'EVT_BOT'")
                    return await connection.fetchrow(sql, *args)

                def __getattr__(self, name: str) -> Any:
                    return getattr(connection, name)

            await relay.compare_stream(Behind())
            await connection.execute("update streams set sequence = sequence - 3 where name = 'EVT_BOT'")
        assert await house.teller.fetchval("select count(*) from untold") == 0


async def test_an_answer_that_was_lost_with_its_connection_is_not_waited_for(
    house: House, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-04: the broker died with what was sent to it; once it is back, the round is tried again."""
    monkeypatch.setattr(outbox, "ROUND_TIMEOUT_S", 10 * HANG_S)
    async with Proxy(broker.port) as link:
        through = House(house.teller, house.listener, house.url.replace(f":{broker.port}", f":{link.port}"))
        async with through.open(listening=False):
            await through.tell()
            await until(lambda: _untold_is(house, 0))
            link.cut("silent")
            await through.tell()
            await until(lambda: _is_being_told(house))
            link.cut("severed")
            link.mend()
            await until(lambda: _untold_is(house, 0))


async def _is_being_told(house: House) -> bool:
    """A relay holds what is untold."""
    async with house.teller.transaction() as tx:
        return not await tx.fetch("select from untold for update skip locked")


async def test_a_fact_told_twice_with_other_fields_is_an_alarm_at_its_owner(house: House) -> None:
    person = uuid4()
    for code in ("r_one", "r_two"):
        async with house.teller.transaction() as tx:
            fact = PersonStarted.because(person, about=person, at=await tx.now(), code=code, invited_by=None)
            await outbox.tell(tx, [fact])
    told = await house.teller.fetch("select body from facts where id = $1", fact.id)
    assert [json.loads(row["body"])["code"] for row in told] == ["r_one"]
    assert await house.teller.fetchval("select count(*) from contradictions where fact_id = $1", fact.id) == 1


async def test_one_poison_among_five_hundred_is_buried_alone(house: House) -> None:
    """M-08, P-10: a data error halves the batch until it stands alone; 499 are applied, few calls, one letter."""
    async with house.open(listening=False):
        facts = await house.tell(500)
        poison = facts[137]

        async def handle(events: Sequence[PersonStarted], tx: Tx) -> None:
            house.calls += 1
            for event in events:
                await tx.execute("select 1 / $1::int", 0 if event.id == poison.id else 1)

        handler = Handler(STARTED, handle, house.listener)
        outcome = await handler.absorb([letter(fact) for fact in facts])
        assert (outcome.done, outcome.buried, outcome.again) == (499, 1, {})
        assert house.calls <= 20
        buried = await house.listener.fetchrow("select * from dead_letters where fact_id = $1", poison.id)
        assert buried is not None
        assert "division by zero" in buried["reason"]
        assert bytes(buried["body"]) == poison.model_dump_json().encode()
        assert (await handler.absorb([letter(poison)])).repeated == 1, "a buried letter is not called again"


@pytest.mark.parametrize(
    ("body", "subject"),
    [
        (b"not json", None),
        (b'{"id": 5}', None),
        (b"\xff\xfe", None),
        (b"x" * 1_000_000, None),
        (None, "evt.bot.person.started.v9"),
    ],
    ids=["no json", "wrong types", "bad utf-8", "one megabyte", "unknown version"],
)
async def test_what_nobody_can_read_is_buried_and_the_rest_goes_on(
    house: House, body: bytes | None, subject: str | None
) -> None:
    async with house.open(listening=False):
        (good,) = await house.tell()
        (other,) = await house.tell()
        bad = Letter(subject or good.subject(), letter(other).headers, body or other.model_dump_json().encode())
        handler = Handler(STARTED, house.handle, house.listener)
        outcome = await handler.absorb([bad, letter(good)])
        assert (outcome.done, outcome.buried) == (1, 1)
        kept = await house.listener.fetchval("select body from dead_letters where fact_id = $1", other.id)
        assert bytes(kept) == bad.body


async def test_our_own_fault_is_tried_again_later_and_buried_when_its_tries_are_used_up(house: House) -> None:
    """M-17: an error of ours is not mistaken for the letter's; its tries are counted across restarts."""
    async with house.open(listening=False):
        facts = await house.tell(3)
        house.fails = lambda event: RuntimeError("ours") if event.id == facts[1].id else None
        waits = []
        for _ in inbox.OUR_FAULT_RETRY_S:
            handler = Handler(STARTED, house.handle, house.listener)  # A new one each time, as after a restart.
            outcome = await handler.absorb([letter(fact) for fact in facts])
            waits.append(outcome.again[facts[1].id])
        assert waits == list(inbox.OUR_FAULT_RETRY_S)
        assert set(house.heard) == {facts[0].id, facts[2].id}
        outcome = await Handler(STARTED, house.handle, house.listener).absorb([letter(facts[1])])
        assert (outcome.buried, outcome.again) == (1, {})


async def test_who_stood_up_again_stumbles_no_more(house: House) -> None:
    """M-17, I13: a fault that passed leaves no finding, and its next fault has all its tries."""
    async with house.open(listening=False):
        (fact,) = await house.tell()
        handler = Handler(STARTED, house.handle, house.listener)
        house.fails = lambda _: RuntimeError("once")
        assert fact.id in (await handler.absorb([letter(fact)])).again
        stumbles = "select count(*) from stumbles where fact_id = $1"
        assert await house.listener.fetchval(stumbles, fact.id) == 1
        house.fails = lambda _: None
        assert (await handler.absorb([letter(fact)])).done == 1
        assert await house.listener.fetchval(stumbles, fact.id) == 0


async def test_a_fault_of_ours_whose_text_no_row_can_hold_is_a_fault_like_any_other(house: House) -> None:
    """M-08, M-17: what is said of a fault must not become a fault that ends the process, again and again."""
    async with house.open(listening=False):
        (fact,) = await house.tell()
        house.fails = lambda _: RuntimeError("a\0b \ud800")
        handler = Handler(STARTED, house.handle, house.listener)
        for _ in inbox.OUR_FAULT_RETRY_S:
            assert fact.id in (await handler.absorb([letter(fact)])).again
        assert (await handler.absorb([letter(fact)])).buried == 1
        reason = await house.listener.fetchval("select reason from dead_letters where fact_id = $1", fact.id)
        assert reason == r"RuntimeError: a\x00b \ud800"


async def test_a_letter_of_an_hour_that_is_none_is_heard_or_buried_like_any_other(house: House) -> None:
    """M-08: headers are as little to be believed as bytes; none of them ends the process."""
    async with house.open(listening=False):
        (fact,) = await house.tell()
        handler = Handler(STARTED, house.handle, house.listener)
        odd = {"Turnpike-Hour": "0001-01-01T00:00:00+14:00", "Turnpike-Digest": "9" * 5_000}
        assert (await handler.absorb([letter(fact, **odd)])).done == 1


async def test_an_unreadable_letter_that_comes_again_is_a_repeat(house: House) -> None:
    """M-08: a broker that is told everything again does not bury anything twice, and stops no handler by that."""
    async with house.open(listening=False):
        facts = await house.tell(inbox.BURIALS_A_MINUTE - 5)
        handler = Handler(STARTED, house.handle, house.listener)
        unreadable = [Letter(f.subject(), letter(f).headers, b"?") for f in facts]
        assert (await handler.absorb(unreadable)).buried == len(facts)
        for _ in range(3):
            again = await handler.absorb(unreadable)
            assert (again.buried, again.repeated) == (0, len(facts))


async def test_a_buried_letter_is_replayed_in_one_transaction(house: House) -> None:
    async with house.open(listening=False):
        (fact,) = await house.tell()
        house.fails = lambda _: ValueError("bad")
        handler = Handler(STARTED, house.handle, house.listener)
        for _ in range(len(inbox.OUR_FAULT_RETRY_S) + 1):
            await handler.absorb([letter(fact)])
        number = await house.listener.fetchval("select id from dead_letters where fact_id = $1", fact.id)
        house.fails = lambda _: None
        async with house.listener.transaction() as tx:
            assert await handler.replay(number, tx)
        async with house.listener.transaction() as tx:
            assert not await handler.replay(number, tx), "a second replay finds nothing to do"
        assert house.heard == [fact.id]


async def test_a_handler_that_buries_everything_stops(house: House) -> None:
    async with house.open(listening=False):
        facts = await house.tell(inbox.BURIALS_A_MINUTE + 5)
        handler = Handler(STARTED, house.handle, house.listener)
        unreadable = [Letter(f.subject(), letter(f).headers, b"?") for f in facts]
        with pytest.raises(inbox.TooManyBurialsError):
            await handler.absorb(unreadable)


async def test_a_lost_database_is_waited_for_and_costs_no_letter(house: House) -> None:
    async with house.open():
        await house.until_heard(await house.tell())
        for _ in range(5):
            facts = await house.tell(40)
            await house.listener.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'listener' and pid <> pg_backend_pid() and usename = current_user"
            )
            await house.until_heard(facts)
        assert len(house.heard) == len(set(house.heard))
        assert await house.listener.fetchval("select count(*) from dead_letters where reason like '%connection%'") == 0


async def test_a_relay_waits_for_no_flush_and_who_tells_does(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-33: a relay's connection waits for no flush; whoever tells does, and whoever puts back what a stream lost."""
    asked = asyncio.Queue[str]()
    relay_over = outbox.Relay._relay_over

    async def ask_first(relay: outbox.Relay, connection: Any, stopping: asyncio.Event) -> None:
        asked.put_nowait(await connection.fetchval("show synchronous_commit"))
        await relay_over(relay, connection, stopping)

    async def put_back(_: outbox.Relay, connection: Any) -> int:
        asked.put_nowait(await connection.fetchval("show synchronous_commit"))
        return 0

    monkeypatch.setattr(outbox.Relay, "_relay_over", ask_first)
    monkeypatch.setattr(outbox.Relay, "_put_back", put_back)
    await house.teller.execute(outbox.FORGET_STREAMS)
    async with house.open():
        assert await asyncio.wait_for(asked.get(), HANG_S) == "off"
        assert await asyncio.wait_for(asked.get(), HANG_S) == "on", "what is put back is on disk"
        async with house.teller.transaction() as tx:
            assert await tx.fetchval("show synchronous_commit") != "off"


async def test_what_the_broker_refused_stays_untold_and_the_rest_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is too large for the broker is put back in the same transaction, and stops nobody."""
    facts = await house.tell(2)
    async with house.teller.transaction() as tx:
        sequences = {row["id"]: row["seq"] for row in await tx.fetch("select id, seq from facts")}
    refused = sequences[facts[0].id]
    publish_each = outbox.Relay._publish_each

    async def refusing(relay: outbox.Relay, rows: Sequence[Any]) -> list[outbox.Acknowledged | None]:
        answers = await publish_each(relay, [row for row in rows if row["seq"] != refused])
        return [None if row["seq"] == refused else answers.pop(0) for row in rows]

    monkeypatch.setattr(outbox.Relay, "_publish_each", refusing)
    async with house.open():
        await house.until_heard(facts[1:])
        async with asyncio.timeout(HANG_S):  # Heard is not yet committed.
            while [row["seq"] for row in await house.teller.fetch("select seq from untold")] != [refused]:
                await asyncio.sleep(0.01)
        monkeypatch.undo()
        await house.until_heard(facts)


async def test_a_wiped_broker_is_told_everything_again_and_nothing_acts_twice(house: House, broker: Broker) -> None:
    async with house.open():
        before = await house.tell(300)
        await house.until_heard(before)
        await broker.wipe()
        after = await house.tell(3)
        await house.until_heard(after)
        await until(lambda: _untold_is(house, 0))
        assert (await _stream(house))["state"]["messages"] >= 303, "the stream was made again and holds the horizon"
        assert len(house.heard) == len(set(house.heard))


async def test_a_deleted_durable_is_made_again_from_the_start(house: House) -> None:
    async with house.open():
        await house.until_heard(await house.tell())
        await house.bus.client.request(f"$JS.API.CONSUMER.DELETE.{STARTED.stream}.{STARTED.handler}", b"", 2)
        await house.until_heard(await house.tell())
        assert len(house.heard) == len(set(house.heard))


async def test_a_killed_broker_is_found_again(house: House, broker: Broker) -> None:
    async with house.open():
        await house.until_heard(await house.tell())
        broker.kill()
        await broker.child.wait()
        facts = await house.tell(5)
        await broker.restart()
        await house.until_heard(facts)
        assert len(house.heard) == len(set(house.heard))


async def test_a_stream_whose_sequence_went_back_is_told_again(house: House) -> None:
    """The broker's disk was replaced by an older copy: the same incarnation, fewer messages than it acknowledged."""
    async with house.open(listening=False):
        await house.tell(5)
        await until(lambda: _untold_is(house, 0))
        config, state = (await _stream(house))["config"], (await _stream(house))["state"]

        async def remembered() -> bool:
            known = await house.teller.fetchval("select sequence from streams where name = 'EVT_BOT'")
            return bool(known == state["last_seq"])

        await until(remembered)
        await _api(house, f"STREAM.DELETE.{STARTED.stream}")
        await _api(house, f"STREAM.CREATE.{STARTED.stream}", config)
        assert (await _stream(house))["config"]["metadata"] == config["metadata"], "the same incarnation"
    async with house.open(listening=False):
        facts = await house.teller.fetchval("select count(*) from facts")

        async def told_again() -> bool:
            return bool((await _stream(house))["state"]["messages"] == facts)

        await until(told_again)


async def test_a_stream_that_went_back_under_a_relay_at_its_work_is_told_again(house: House) -> None:
    """W-27: new facts lift an older copy of the stream above what its owner remembers, and hide what it lost."""
    async with house.open(listening=False):
        await house.tell(5)
        await until(lambda: _untold_is(house, 0))
        config = (await _stream(house))["config"]
        await _api(house, f"STREAM.DELETE.{STARTED.stream}")
        await _api(house, f"STREAM.CREATE.{STARTED.stream}", config)
        await house.tell(100)
        facts = await house.teller.fetchval("select count(*) from facts")

        async def told_again() -> bool:
            return bool((await _stream(house))["state"]["messages"] == facts)

        await until(told_again)


async def test_of_two_relays_one_tells_a_lost_stream_again_and_in_pages(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-27: what the old stream acknowledged to a relay says nothing of the new one, whoever noticed it first."""
    monkeypatch.setattr(outbox, "RETOLD_PER_STATEMENT", 3)
    bus = Bus(house.url, "relays")
    await bus.open()
    house.bus = bus
    first, second = (outbox.Relay(house.teller, bus.client, "bot") for _ in range(2))
    async with house.teller.held() as connection:
        for relay in (first, second):
            await relay.compare_stream(connection)
            await house.tell(50)
            while await relay.tell_some(connection):
                pass
        for relay in (first, second):
            relay._highest = relay._acknowledged = 1_000_000  # As of a stream that is older than what is told again.
        await _api(house, f"STREAM.DELETE.{STARTED.stream}")
        facts = await house.teller.fetchval("select count(*) from facts")
        before = telemetry.FACTS_RETOLD.labels("bot")._value.get()
        for relay in (second, first):
            await relay.compare_stream(connection)
        while await second.tell_some(connection):
            pass
        assert (await _stream(house))["state"]["messages"] == facts
        await house.tell(1)
        assert await first.tell_some(connection) == 1
        await first.compare_stream(connection)
    await bus.close()
    assert telemetry.FACTS_RETOLD.labels("bot")._value.get() == before + facts


async def _stream(house: House) -> dict[str, Any]:
    return await _api(house, f"STREAM.INFO.{STARTED.stream}")


async def _api(house: House, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps(request).encode() if request else b""
    answer: dict[str, Any] = json.loads((await house.bus.client.request(f"$JS.API.{call}", body, 5)).data)
    assert "error" not in answer, answer
    return answer


async def test_a_question_nobody_answers_says_so_in_time(house: House) -> None:
    async with house.open(listening=False):
        with pytest.raises(UnansweredError):
            await house.bus.ask(AskPlans(), timeout_s=0.3)


async def test_a_command_is_repeated_until_somebody_answers_and_obeyed_once(house: House) -> None:
    """R-12: the first answer is lost on its way; the repeat gets the stored one and nothing is done twice."""
    acted = 0

    async def act(command: PlaceOrder, _: Tx) -> Value:
        nonlocal acted
        acted += 1
        return Invoice(
            order=command.id,
            invoice=uuid4(),
            payload="p",
            plan="basic",
            months=1,
            price_minor=1,
            asked_minor=1,
            currency="XTR",
            expires_at=datetime.now(UTC),
            expires_in_s=1800,
        )

    lost = 0

    async def answer(command: PlaceOrder) -> Value:
        nonlocal lost
        done = await obey(house.teller, command, act)
        if lost == 0:
            lost += 1
            raise ConnectionError("the answer is lost")
        return done

    server = Bus(house.url, "payments")
    server.answers(PlaceOrder, answer)
    await server.open()
    try:
        async with house.open(listening=False):
            person = uuid4()
            deadline = datetime.now(UTC) + timedelta(seconds=HANG_S)
            wish = PlaceOrder(
                id=uuid4(), actor="person", deadline_at=deadline, person=person, plan="basic", months=1, way="stars"
            )
            first = await house.bus.do(wish)
            second = await house.bus.do(wish)
            assert first == second
            assert (acted, lost) == (1, 1)
    finally:
        await server.close()


async def test_questions_are_answered_with_typed_answers_and_refusals(house: House) -> None:
    async def answer(_: AskPlans) -> Value:
        return Plans(plans=(), ways=("stars",)) if not refuse else Refused(reason="closed")

    refuse = False
    server = Bus(house.url, "payments")
    server.answers(AskPlans, answer)
    await server.open()
    try:
        async with house.open(listening=False):
            assert await house.bus.ask(AskPlans()) == Plans(plans=(), ways=("stars",))
            refuse = True
            assert await house.bus.ask(AskPlans()) == Refused(reason="closed")
    finally:
        await server.close()
