"""Rows 1-6: every named step, in every service, handler, relay and command that passes it: dead there, and resumed.

W-24: nothing is left half done. N-01: what was said and not marked is said again, never lost. R-12: the command that a
process died of is repeated until it is answered, by what was stored where it had been obeyed, and no order is doubled.

The points are made from the lists that the services themselves are made from, so a new handler, owner or command has
its rows by itself, and a new step without a place here fails.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from shared import crash
from shared.bus import UnansweredError
from shared.commands import COMMANDS, PlaceOrder, ReplayDead, ReplayJobs, TellAgain
from shared.contract import Command, Refused, Value
from shared.db import Tx
from shared.facts import DeliveryFailed, Terms
from shared.outbox import tell
from shared.owners import OWNERS
from shared.streams import LISTENING
from shared.waiting import happens
from tests.chaos.load import Paid, Wanted
from tests.chaos.trial import Trial, first_few
from turnpike_local.processes import ending
from vpn_provisioner.access import Period, fold

DIES_WITHIN_S = 180.0
KNOCK_EVERY_S = 0.5
ANSWERED_WITHIN_S = 60.0
PER_S = 4.0
YEARS_PASS = timedelta(days=400)
TELLERS, LISTENERS = ("bot", "payments"), ("referrals", "vpn", "notifier")

STEPS_OF_ROW = {
    "1": ("update_written", "handler_done", "command_done", "access_recorded"),
    "2": ("update_committed", "command_committed"),
    "3": ("relay_published",),
    "4": ("handler_remembered", "report_told"),
    "5": ("handler_committed",),
    "6": ("panel_written", "message_sent", "screen_shown", "checkout_answered"),
}


@dataclass(frozen=True)
class Point:
    """Where one service dies."""

    step: str
    who: str
    service: str

    def __str__(self) -> str:
        return self.step if self.who == "-" else f"{self.step} of {self.who}"


def points_of(step: str) -> Iterator[Point]:
    """Everywhere that this step is passed."""
    match step.split("_")[0]:
        case "handler":
            yield from (Point(step, listening.handler, listening.service) for listening in LISTENING)
        case "relay":
            yield from (Point(step, owner, owner) for owner in OWNERS)
        case "command":
            yield from (Point(step, command.topic, command.topic.split(".")[0]) for command in COMMANDS)
        case "update":
            yield from (Point(step, way, "bot") for way in ("polling", "webhook"))
        case "report" | "screen" | "checkout":
            yield Point(step, "-", "bot")
        case "panel" | "access":
            yield Point(step, "-", "vpn")
        case "message":
            yield Point(step, "-", "notifier")
        case _:
            raise KeyError(f"where is {step} passed?")


async def die_at_each_step(trial: Trial, rows: str) -> None:
    """One service after the other, with strict figures; in the short form those who tell beside those who listen."""
    points = [point for row in rows for step in STEPS_OF_ROW[row] for point in points_of(step)]
    if trial.short:
        points = sampled(points)
    over = asyncio.Event()
    paying = asyncio.create_task(_pay_until(trial, over))
    knocking = Knocks(trial)
    async with trial.town.life():
        try:
            sides = (TELLERS, LISTENERS) if trial.short else (TELLERS + LISTENERS,)
            took_s = await asyncio.gather(*(_die_one_by_one(trial, points, side, knocking) for side in sides))
        finally:
            over.set()
            await paying
            await knocking.stop()
    doubled = await trial.shop.asked_one(NOT_ONCE)
    trial.expect(f"each order is of one command and has one invoice: {doubled} are not so", doubled == 0)
    trial.faults.append(f"os._exit at {len(points)} points ({first_few(trial.killed)})")
    trial.took("each resumed", max(took_s), 2.0)


def sampled(points: list[Point]) -> list[Point]:
    """For the short form: every step, every service, and every handler at one of its steps; one command at all."""
    steps = sorted({point.step for point in points if point.step.startswith("handler")})
    turn = {listening.handler: place for place, listening in enumerate(LISTENING)}
    return [
        point
        for point in points
        if (point.who not in turn or point.step == steps[turn[point.who] % len(steps)])
        and (not point.step.startswith("command") or point.who == PlaceOrder.topic)
    ]


async def _pay_until(trial: Trial, over: asyncio.Event) -> None:
    while not over.is_set():
        wanted = await trial.town.orders(min(len(trial.town.members), 300))
        while wanted and not over.is_set():
            some, wanted = wanted[:4], wanted[4:]
            await trial.pay(some, PER_S)


async def _die_one_by_one(trial: Trial, points: list[Point], services: tuple[str, ...], knocking: "Knocks") -> float:
    """Each service dies at its points one after the other; answers the longest time that one took to resume.

    In the short form it begins again where it is to die next, and resumes after the last of its points only.
    """
    longest_s = 0.0
    for service in services:
        own = [point for point in points if point.service == service]
        for place, point in enumerate(own):
            await _die(trial, point, knocking)
            if not trial.short or place == len(own) - 1:
                took_s = await trial.shop.resumed_s(service, partial(trial.shop.start, service), 60)
                trial.tell(f"{service} resumed in {took_s:.1f} s")
                longest_s = max(longest_s, took_s)
    return longest_s


async def _die(trial: Trial, point: Point, knocking: "Knocks") -> None:
    mode = {"TURNPIKE_TELEGRAM_MODE": "webhook"} if point.who == "webhook" else {}
    nth = trial.random.randint(1, 2)
    child = await trial.shop.spawn(point.service, TURNPIKE_CRASH_AT=f"{point.step} {point.who} {nth}", **mode)
    knocking.at(point)
    try:
        code = await asyncio.wait_for(child.wait(), DIES_WITHIN_S)
    except TimeoutError:
        trial.off.append(f"{point} was not passed within {DIES_WITHIN_S:g} s")
        return
    finally:
        await knocking.over(point)
    trial.expect(f"the process died at {point}, not with {ending(code)}", code == crash.STATUS)
    trial.killed.append(f"{point.service} {child.pid}")
    trial.tell(f"{point.service} {child.pid} died at {point}")
    if point.service == "notifier":
        trial.notifier_interrupted()


class Knocks:
    """What the load does not do by itself: everything that makes a service pass a point."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.shop = trial.shop
        self._at: dict[Point, asyncio.Task[None]] = {}
        self._dead: dict[Point, asyncio.Event] = {}
        self._under_way: dict[Point, UUID] = {}
        self._to_be_awaited: list[asyncio.Task[None]] = []

    def at(self, point: Point) -> None:
        if point.step.startswith("command"):
            self._dead[point] = asyncio.Event()
            self._to_be_awaited.append(asyncio.create_task(self._commands_until_it_dies(point, self._dead[point])))
        elif (knock := self._knock_of(point)) is not None:
            self._at[point] = asyncio.create_task(self._now_and_then(knock))

    async def over(self, point: Point) -> None:
        """The process is dead, and not begun again."""
        if (dead := self._dead.pop(point, None)) is not None:
            await self._look_at_its_command(point)
            dead.set()
        if (task := self._at.pop(point, None)) is not None and not task.cancel():
            self.trial.off.append(f"the knock for {point} ended with {task.exception()!r}")

    async def stop(self) -> None:
        """Everybody lives again: what was asked for is answered."""
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            await asyncio.gather(*self._to_be_awaited)

    async def _now_and_then(self, knock: Callable[[], Awaitable[None]]) -> None:
        while True:
            await knock()
            await asyncio.sleep(KNOCK_EVERY_S)

    async def _commands_until_it_dies(self, point: Point, dead: asyncio.Event) -> None:
        """One after the other; the one that the process dies of is repeated, under its id, until it is answered."""
        kind = next(command for command in COMMANDS if command.topic == point.who)
        while not dead.is_set():
            order = self._under_way[point] = uuid4()
            answer = await self._answer_to(kind, order)
            if not dead.is_set():
                del self._under_way[point]
                await happens(dead, KNOCK_EVERY_S)
        if point in self._under_way:
            stored = [row["answer"] for row in await self.shop.asked(ANSWERS.format(owner=point.service), order)]
            self.trial.expect(
                f"the command that died at {point} is answered: {answer}, and stored is {stored}",
                answer.reason in NOTHING_THERE if isinstance(answer, Refused) else stored == [answer.model_dump_json()],
            )

    async def _answer_to(self, kind: type[Command[Any]], order: UUID) -> Value:
        if kind is PlaceOrder:
            return await self.trial.town.place_order(self.trial.town.next_members(1)[0], order)
        command = order_of_an_operator(kind, order)
        while True:
            with suppress(UnansweredError):
                answer: Value = await self.shop.bus.do(command)
                return answer

    async def _look_at_its_command(self, point: Point) -> None:
        """Whether it was obeyed is as the step says. An order may as well have been one of the load's."""
        if point.who != PlaceOrder.topic:
            order = self._under_way.get(point)
            if order is None:  # The point was not passed, which is said already.
                return
            rows = await self.shop.asked_one(OBEYED.format(owner=point.service), order)
            obeyed = int(point.step == "command_committed")
            self.trial.expect(f"{obeyed} commands {order} are kept at {point}: {rows}", rows == obeyed)

    def _knock_of(self, point: Point) -> Callable[[], Awaitable[None]] | None:
        if point.who == "notifier_tells_ended":
            return self._years_pass
        if point.step == "relay_published" and point.who == "notifier":
            return self._a_delivery_fails
        if point.step == "checkout_answered":
            return self._somebody_checks_out
        return None

    async def _years_pass(self) -> None:
        """The access of somebody who paid ends: everything he bought was bought long ago."""
        member = self.trial.random.choice(self.trial.town.members)
        connection = await asyncpg.connect(self.shop.postgres.dsn())
        try:
            async with connection.transaction():
                live = await connection.fetchrow(LIVE, member.person)
                if live is None:
                    return
                await connection.execute(AGE, member.person, YEARS_PASS)
                periods = [_period(row) for row in await connection.fetch(PERIODS, member.person)]
                await connection.execute(ENDS, member.person, fold(periods).ends_at)
        finally:
            await connection.close()

    async def _a_delivery_fails(self) -> None:
        """Telegram refuses nothing here, so the fact is told in notifier's name."""
        connection = await asyncpg.connect(
            self.shop.postgres.dsn("notifier_app"), server_settings={"search_path": "notifier"}
        )
        try:
            async with connection.transaction():
                fact = DeliveryFailed.because(
                    uuid4(), about=uuid4(), at=datetime.now(UTC), kind="topped_up", reason="refused"
                )
                await tell(Tx(connection), [fact])
        finally:
            await connection.close()

    async def _somebody_checks_out(self) -> None:
        """A person pays through the pay sheet, with its question before the charge."""
        member = self.trial.town.next_members(1)[0]
        wanted = Wanted(member, await self.trial.town.place_order(member), "right")
        self._to_be_awaited.append(asyncio.create_task(self._check_out(wanted)))

    async def _check_out(self, wanted: Wanted) -> None:
        charge = await self.shop.crowd.check_out(wanted.charge)
        if charge is not None:
            self.trial.paid.append(Paid(charge, wanted))


def order_of_an_operator(kind: type[Command[Any]], order: UUID | None = None) -> Command[Any]:
    """One that changes nothing: of a letter, jobs or facts that are not there."""
    wanted: dict[str, object] = {}
    if issubclass(kind, ReplayDead):
        wanted = {"letter": 0}
    elif issubclass(kind, TellAgain):
        wanted = {"facts": (uuid4(),)}
    elif kind is ReplayJobs:
        wanted = {"person": None}
    later = datetime.now(UTC) + timedelta(hours=1)
    return kind(id=order or uuid4(), actor="operator:chaos", reason="a knock", deadline_at=later, **wanted)


OBEYED = "select count(*) from {owner}.commands where id = $1"
ANSWERS = "select answer::text as answer from {owner}.commands where id = $1 and outcome = 'done'"
NOTHING_THERE = ("letter_unknown", "no_dead_jobs")

NOT_ONCE = """
select count(*)
from payments.orders o
where (select count(*) from payments.commands c where c.id = o.id and c.outcome = 'done') <> 1
  or (select count(*) from payments.invoices i where i.order_id = o.id) <> 1
"""

# Somebody who has the key of everything that he bought: else there would be no key to send any more.
LIVE = """
select person
from vpn.subscriptions s
where person = $1 and state = 'live'
  and (select count(*) from vpn.periods p where p.person = s.person) = (
    select count(*)
    from notifier.deliveries d
    where d.person = s.person and d.kind = 'access_ready' and d.state = 'sent'
  )
for update
"""
AGE = "update vpn.periods set booked_at = booked_at - $2::interval where person = $1"
PERIODS = "select * from vpn.periods where person = $1"
ENDS = "update vpn.subscriptions set ends_at = $2 where person = $1"


def _period(row: asyncpg.Record) -> Period:
    terms = Terms(
        plan=row["plan"],
        months=row["months"],
        devices=row["devices"],
        traffic_bytes=row["traffic_bytes"],
        node_group=row["node_group"],
        list_month_minor=row["list_month_minor"],
    )
    return Period(row["order_id"], row["booked_at"], terms)
