"""`turnpike dead …` as a process, against services that hold something dead."""

import json
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import asyncpg
import pytest

from shared.db import Tx
from shared.facts import PaymentConfirmed
from shared.inspection import AskDeadJobs
from shared.owners import OWNERS
from tests.kit.commands import bare_services, living, turnpike
from tests.kit.referrals import confirmed, letter
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker
from vpn_provisioner.answers import answer_dead_jobs

HANDLER = "referrals_rewards_confirmed"
OBEYED = "select actor, reason, outcome, wanted ->> 'letter' as letter from commands order by seq"


class Shop:
    """Five services that answer operators, and one handler that fails as long as its cause lasts."""

    def __init__(self, place: FreshDatabase, nats_url: str) -> None:
        self.nats_url = nats_url
        self.services = bare_services(place, nats_url)
        self.services["referrals"].hears(HANDLER, self.reward)
        self.services["vpn"].answers(AskDeadJobs, answer_dead_jobs)
        self.broken = True
        self.rewarded: list[PaymentConfirmed] = []

    async def reward(self, events: Sequence[PaymentConfirmed], tx: Tx) -> None:
        if self.broken:
            raise asyncpg.NumericValueOutOfRangeError("too large\nby one")
        self.rewarded += events

    async def bury(self) -> PaymentConfirmed:
        fact = confirmed(uuid4())
        outcome = await self.services["referrals"].handlers[HANDLER].absorb([letter(fact)])
        assert outcome.buried == 1
        return fact

    async def turnpike(self, *arguments: str) -> tuple[int, str, str]:
        return await turnpike(*arguments, TURNPIKE_NATS_URL=self.nats_url, LOGNAME="olga")


@pytest.fixture
async def shop(fresh_database: MakeDatabase, broker: Broker) -> AsyncIterator[Shop]:
    await broker.wipe()
    subject = Shop(await fresh_database(*OWNERS), broker.url)
    async with living(list(subject.services.values())):
        yield subject


async def test_a_letter_is_listed_shown_and_replayed_once_its_cause_is_gone(shop: Shop) -> None:
    """R-26, M-08: the operator sees why, and what was set aside is done as if it had never failed."""
    assert await shop.turnpike("dead", "list") == (0, "Nothing is dead.\n", "")
    fact = await shop.bury()

    status, out, err = await shop.turnpike("dead", "list")
    assert (status, err) == (0, "")
    assert f"referrals  1   {HANDLER}" in out
    assert "evt.payments.payment.confirmed.v1: NumericValueOutOfRangeError: too large …" in out
    assert max(len(line) for line in out.splitlines()) <= 100

    status, out, err = await shop.turnpike("dead", "show", "referrals", "1")
    assert (status, err) == (0, "")
    assert "by one" in out
    assert fact.model_dump_json() in out

    status, out, err = await shop.turnpike("dead", "replay", "referrals", "1", "--reason", "not mended")
    assert (status, out) == (
        1,
        "referrals 1: refused, still_failing: NumericValueOutOfRangeError: too large\\nby one\n",
    )
    shop.broken = False
    status, out, err = await shop.turnpike("dead", "replay", "referrals", "1", "--reason", "mended")
    assert (status, out, err) == (0, "referrals 1: replayed\n", "")
    assert shop.rewarded == [fact]
    obeyed = [tuple(row) for row in await shop.services["referrals"].database.fetch(OBEYED)]
    assert obeyed == [
        ("operator:olga", "not mended", "refused", "1"),
        ("operator:olga", "mended", "done", "1"),
    ]
    assert await shop.turnpike("dead", "list") == (0, "Nothing is dead.\n", "")
    status, out, err = await shop.turnpike("dead", "list", "--all", "--json")
    assert [one["replayed_at"] is None for one in json.loads(out)["dead"]] == [False]


async def test_all_of_a_handler_are_replayed_with_one_word(shop: Shop) -> None:
    facts = [await shop.bury() for _ in range(3)]
    shop.broken = False
    status, out, err = await shop.turnpike("dead", "replay", "referrals", "--handler", HANDLER)
    assert (status, err) == (0, "")
    assert out == "".join(f"referrals {number}: replayed\n" for number in (1, 2, 3))
    assert shop.rewarded == facts


async def test_what_is_not_there_is_one_sentence(shop: Shop) -> None:
    assert await shop.turnpike("dead", "show", "payments", "7") == (
        1,
        "",
        "payments has nothing dead with the id 7.\n",
    )
    status, out, err = await shop.turnpike("dead", "replay", "payments", "7")
    assert (status, out, err) == (1, "payments 7: refused, letter_unknown\n", "")
    status, _, err = await shop.turnpike("dead", "replay", "payments", "seven")
    assert status == 2
    assert "'seven' is no id of `dead list`" in err
    status, out, err = await turnpike("dead", "list", TURNPIKE_NATS_URL="nats://127.0.0.1:1")
    assert (status, out, err) == (2, "", "NATS does not answer at 127.0.0.1:1.\n")


async def test_who_does_not_answer_is_named_and_the_others_are_listed(
    fresh_database: MakeDatabase, broker: Broker
) -> None:
    await broker.wipe()
    shop = Shop(await fresh_database(*OWNERS), broker.url)
    async with living([shop.services["referrals"], shop.services["notifier"]]):
        await shop.bury()
        status, out, err = await shop.turnpike("dead", "list")
    assert status == 2
    assert HANDLER in out
    assert err == "bot-gateway, payments and vpn-provisioner do not answer.\n"
