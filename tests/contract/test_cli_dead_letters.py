"""`turnpike dead-letters …` as a process, against services that hold dead letters."""

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from uuid import uuid4

import asyncpg
import pytest

from bot_gateway.queries import answer_operator
from shared.contracts.bot import OperatorQuery
from shared.contracts.owners import OWNERS
from shared.contracts.payments import PaymentConfirmed
from shared.contracts.vpn import DeadJobsQuery
from shared.platform.db import Tx
from tests.kit.commands import bare_services, living, turnpike
from tests.kit.referrals import confirmed, message_of
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker
from vpn_provisioner.queries import answer_dead_jobs

HANDLER = "referrals_rewards_confirmed"
EXECUTED = """
select actor, role, reason, outcome, request ->> 'dead_letter' as dead_letter
from commands
order by seq
"""
WHY = ("--reason", "fixed")
NONE = (0, "There are no dead letters.\n", "")


class Shop:
    """Five services that answer operators, and one handler that fails while its cause lasts."""

    def __init__(self, place: FreshDatabase, nats_url: str) -> None:
        self.nats_url = nats_url
        self.services = bare_services(place, nats_url)
        self.services["referrals"].subscribes(HANDLER, self.reward)
        self.services["vpn"].answers(DeadJobsQuery, answer_dead_jobs)
        operators = partial(answer_operator, owners=("olga",))
        self.services["bot"].answers(OperatorQuery, operators)
        self.broken = True
        self.rewarded: list[PaymentConfirmed] = []

    async def reward(self, events: Sequence[PaymentConfirmed], tx: Tx) -> None:
        if self.broken:
            raise asyncpg.NumericValueOutOfRangeError("too large\nby one")
        self.rewarded += events

    async def dead_letter(self) -> PaymentConfirmed:
        """An event that the handler dead-lettered."""
        event = confirmed(uuid4())
        handler = self.services["referrals"].handlers[HANDLER]
        assert (await handler.handle_batch([message_of(event)])).dead_lettered == 1
        return event

    async def turnpike(self, *arguments: str) -> tuple[int, str, str]:
        return await turnpike(*arguments, TURNPIKE_NATS_URL=self.nats_url, LOGNAME="olga")


@pytest.fixture
async def shop(fresh_database: MakeDatabase, broker: Broker) -> AsyncIterator[Shop]:
    await broker.wipe()
    subject = Shop(await fresh_database(*OWNERS), broker.url)
    async with living(list(subject.services.values())):
        yield subject


async def test_a_dead_letter_is_listed_shown_and_replayed(shop: Shop) -> None:
    """R-26, M-08: the operator sees why, and the replay handles it as if it had never failed."""
    assert await shop.turnpike("dead-letters", "list") == NONE
    event = await shop.dead_letter()

    status, out, err = await shop.turnpike("dead-letters", "list")
    assert (status, err) == (0, "")
    assert f"referrals  1   {HANDLER}" in out
    assert "evt.payments.payment.confirmed.v1: NumericValueOutOfRangeError: too large …" in out
    assert max(len(line) for line in out.splitlines()) <= 100

    status, out, err = await shop.turnpike("dead-letters", "show", "referrals", "1")
    assert (status, err) == (0, "")
    assert "by one" in out
    assert event.model_dump_json() in out

    replay = ("dead-letters", "replay", "referrals", "1", "--reason")
    status, out, err = await shop.turnpike(*replay, "not fixed")
    assert (status, out) == (
        1,
        "referrals 1: refused, still_failing: NumericValueOutOfRangeError: too large\\nby one\n",
    )
    shop.broken = False
    status, out, err = await shop.turnpike(*replay, "fixed")
    assert (status, out, err) == (0, "referrals 1: replayed\n", "")
    assert shop.rewarded == [event]
    executed = [tuple(row) for row in await shop.services["referrals"].database.fetch(EXECUTED)]
    assert executed == [
        ("operator:olga", "owner", "not fixed", "refused", "1"),
        ("operator:olga", "owner", "fixed", "done", "1"),
    ]
    assert await shop.turnpike("dead-letters", "list") == NONE
    status, out, err = await shop.turnpike("dead-letters", "list", "--all", "--json")
    [listed] = json.loads(out)["dead_letters"]
    assert listed["service"] == "referrals"
    assert listed["replayed_at"] is not None


async def test_one_option_replays_all_of_a_handler(shop: Shop) -> None:
    events = [await shop.dead_letter() for _ in range(3)]
    shop.broken = False
    replay = ("dead-letters", "replay", "referrals")
    status, out, err = await shop.turnpike(*replay, "--handler", HANDLER, *WHY)
    assert (status, err) == (0, "")
    assert out == "".join(f"referrals {number}: replayed\n" for number in (1, 2, 3))
    assert shop.rewarded == events


async def test_unknown_dead_letters_are_one_sentence(shop: Shop) -> None:
    for service in ("payments", "vpn-provisioner"):
        assert await shop.turnpike("dead-letters", "show", service, "7") == (
            1,
            "",
            f"{service} has no dead letter with the id 7.\n",
        )
    status, out, err = await shop.turnpike("dead-letters", "replay", "payments", "7", *WHY)
    assert (status, out, err) == (1, "payments 7: refused, dead_letter_unknown\n", "")
    status, _, err = await shop.turnpike("dead-letters", "replay", "payments", "seven", *WHY)
    assert status == 2
    assert "'seven' is not an id from `dead-letters list`" in err
    nowhere = "nats://127.0.0.1:1"
    status, out, err = await turnpike("dead-letters", "list", TURNPIKE_NATS_URL=nowhere)
    assert (status, out, err) == (2, "", "NATS does not answer at 127.0.0.1:1.\n")


async def test_unresponsive_services_are_named_beside_the_list(
    fresh_database: MakeDatabase, broker: Broker
) -> None:
    await broker.wipe()
    shop = Shop(await fresh_database(*OWNERS), broker.url)
    async with living([shop.services["referrals"], shop.services["notifier"]]):
        await shop.dead_letter()
        status, out, err = await shop.turnpike("dead-letters", "list")
    assert status == 2
    assert HANDLER in out
    assert err == "bot-gateway, payments and vpn-provisioner do not answer.\n"
