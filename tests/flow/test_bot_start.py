"""/start, the offer, the language, reachability and floods, with all of bot-gateway running."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from bot_gateway.domain.people import OFFER_VERSION
from bot_gateway.subscribers import bot_follows_refusals
from shared.contracts.bot import RecipientQuery
from shared.contracts.message import Refused
from shared.contracts.notifier import RecipientRefused
from shared.contracts.operations import AuditQuery
from shared.messaging.rpc import Bus
from tests.kit.bot import running
from tests.kit.bot_shop import Shop, opened_shop
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox.client import PersonClient


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop, running(shop.settings):
        yield shop


async def test_only_the_first_start_is_published(shop: Shop) -> None:
    """D-04, S-11: with the payload as typed, and the inviter whose code it names."""
    ann = await shop.newcomer("Ann")
    await ann.press("Invite")
    link = (await ann.receives("You get 10% of what they pay")).code[0]
    payload = link.partition("start=")[2]
    bob = await shop.people.new_person("Bob")
    for _ in range(3):
        await bob.say(f"/start {payload}")
    await until(lambda: shop.has_events("bot.person.started", 2))
    eve = await shop.people.new_person("Eve")
    await eve.say("/start r_nobodyscode")
    await until(lambda: shop.has_events("bot.person.started", 3))
    first, second, third = await shop.events("bot.person.started")
    assert (first["code"], first["invited_by"]) == (None, None)
    assert (second["code"], second["invited_by"]) == (payload, first["about"])
    assert (third["code"], third["invited_by"]) == ("r_nobodyscode", None)
    assert second["cause"] == second["about"]


async def test_start_works_without_the_other_services(shop: Shop) -> None:
    await shop.owners.close()
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")


async def test_nothing_is_sold_before_the_offer_is_accepted(shop: Shop) -> None:
    """The acceptance is stored with the version of the offer and the time."""
    ann = await shop.people.new_person("Ann")
    await ann.say("/start")
    welcome = await ann.receives("Welcome to Turnpike")
    await ann.press_data(welcome.id, "go:buy")
    await ann.wait_for(
        lambda chat: any("accept the terms" in toast["text"] for toast in chat.toasts)
    )
    assert shop.owners.received == []
    await ann.press("accept")
    await ann.receives("What would you like to do?")
    row = await shop.database.fetchrow("select offer_version, offer_accepted_at from people")
    assert row is not None
    assert row["offer_version"] == OFFER_VERSION
    assert row["offer_accepted_at"] is not None


async def test_the_language_follows_telegram_and_then_the_button(shop: Shop) -> None:
    anna = await shop.newcomer("Анна", language="ru")
    await anna.receives("Что будем делать?")
    await anna.press("Язык")
    await anna.press("English")
    await anna.receives("What would you like to do?")
    [changed] = await shop.events("bot.person.changed")
    assert (changed["language"], changed["reachable"]) == ("en", True)


async def test_the_terms_lead_back_to_the_previous_screen(shop: Shop) -> None:
    """N-19: before the offer is accepted and after; both texts are read in place."""
    ann = await shop.people.new_person("Ann")
    await ann.say("/start")
    await ann.press("Terms")
    await ann.receives("It is for you alone")
    await ann.press("Privacy")
    await ann.receives("The VPN servers know you")
    await ann.press("Back")
    await ann.receives("Welcome to Turnpike")
    await ann.press("Terms")
    await ann.press("accept")
    await ann.receives("What would you like to do?")
    await ann.say("/terms")
    await ann.press("Back")
    await until(shop.is_quiescent)
    await ann.receives("What would you like to do?")
    assert len((await ann.chat()).from_bot) == 1


async def test_markup_in_a_name_breaks_nothing(shop: Shop) -> None:
    """N-10: people may call themselves anything."""
    odd = await shop.newcomer("<b>&lt;Ann</i> \u202e{ $x }")
    await odd.press("Invite")
    await odd.receives("You get 10% of what they pay")


async def test_a_visit_after_a_refusal_is_published(shop: Shop) -> None:
    """N-15: Telegram refused a message of notifier, and no block was ever reported."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    await until(shop.is_quiescent)
    person = await shop.database.fetchval("select person from people")
    await refuse(shop, person, datetime.now(UTC) + timedelta(minutes=1))
    assert await shop.events("bot.person.changed") == []
    await ann.say("/start")
    await until(lambda: shop.has_events("bot.person.changed", 1))
    # This one is handled late: the person was here since.
    await refuse(shop, person, datetime.now(UTC) - timedelta(minutes=1))
    await until(lambda: shop.has_events("bot.person.changed", 2))
    changes = await shop.events("bot.person.changed")
    assert [event["reachable"] for event in changes] == [True, True]
    assert await shop.database.fetchval("select reachable from people")


async def refuse(shop: Shop, person: UUID, at: datetime) -> None:
    """Handle the event of a refusal at this time, twice in one batch."""
    refusals = [
        RecipientRefused.caused_by(uuid4(), about=person, at=at, reason="blocked") for _ in "ab"
    ]
    async with shop.database.transaction() as tx:
        await bot_follows_refusals(refusals, tx)


async def test_blocking_and_unblocking_are_each_published_once(shop: Shop) -> None:
    """N-15: a person who blocked the bot is unreachable until they unblock it."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    await ann.block()
    await until(lambda: shop.has_events("bot.person.changed", 1))
    await ann.unblock()
    await until(lambda: shop.has_events("bot.person.changed", 2))
    changes = await shop.events("bot.person.changed")
    assert [event["reachable"] for event in changes] == [False, True]


async def test_a_tap_makes_a_person_reachable_again(shop: Shop) -> None:
    """N-15: the update about the unblocking may be lost; a tap proves the same."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    await shop.database.execute("update people set reachable = false")
    await ann.press("Balance")
    await ann.receives("Balance:")
    [changed] = await shop.events("bot.person.changed")
    assert changed["reachable"] is True


async def test_one_tap_may_change_two_things(shop: Shop) -> None:
    """N-15, N-07: both changes are published, though one update caused them."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    await ann.press("Language")
    await ann.button("Русский")
    await shop.database.execute("update people set reachable = false")
    await ann.press("Русский")
    await until(lambda: shop.has_events("bot.person.changed", 2))
    changes = await shop.events("bot.person.changed")
    assert [(event["language"], event["reachable"]) for event in changes] == [
        ("en", True),
        ("ru", True),
    ]
    assert await shop.database.fetchval("select count(*) from conflicts") == 0


async def test_a_flood_of_one_person_delays_nobody_else(shop: Shop) -> None:
    """S-09, W-22: the bucket is shared by replicas."""
    eve, ann = await shop.newcomer("Eve"), await shop.newcomer("Ann")
    menu = await eve.receives("What would you like to do?")
    await until(shop.is_quiescent)
    await empty_bucket(shop, eve)
    await asyncio.gather(*(eve.press_data(menu.id, "go:language") for _ in range(40)))
    await eve.wait_for(lambda chat: any("Not so fast" in toast["text"] for toast in chat.toasts))
    await ann.press("Balance")
    await ann.receives("Balance:")


async def empty_bucket(shop: Shop, person: PersonClient) -> None:
    """For a thousand seconds nothing of this person is served, however slow the machine is."""
    emptied = "update buckets set tokens = -1000 where name = $1"
    await shop.database.execute(emptied, f"from {person.id}")


async def test_flooded_messages_get_one_answer(shop: Shop) -> None:
    """R-49, S-09: silence looks like a broken bot, and an answer to each would be a flood too."""
    eve = await shop.newcomer("Eve")
    await eve.receives("What would you like to do?")
    await until(shop.is_quiescent)
    await empty_bucket(shop, eve)  # A served message would replace the answer.
    await asyncio.gather(*(eve.say(f"hello {number}") for number in range(40)))
    await eve.receives("Not so fast")
    await until(shop.is_quiescent)
    refused = [one for one in (await eve.chat()).from_bot if "Not so fast" in one.text]
    assert len(refused) == 1


async def test_other_services_query_the_chat_of_a_person(shop: Shop) -> None:
    ann = await shop.newcomer("Anna", language="ru")
    [started] = await shop.events("bot.person.started")
    asker = Bus(shop.settings.nats_url.get_secret_value(), name="asker")
    await asker.open()
    recipient = await asker.query(RecipientQuery(person=started["about"]))
    assert not isinstance(recipient, Refused)
    assert (recipient.chat_id, recipient.language, recipient.reachable) == (ann.id, "ru", True)
    nobody = await asker.query(RecipientQuery(person=started["id"]))
    assert nobody == Refused(reason="person_unknown")
    audit = await asker.query(AuditQuery.of("bot")())
    await asker.close()
    assert not isinstance(audit, Refused)
    assert {finding.truth: finding.violations for finding in audit.findings} == {
        finding.truth: 0 for finding in audit.findings
    }
    assert audit.counts["people"] == 1
