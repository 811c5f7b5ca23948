"""Reminders before the end of access: sent while they hold, and never repeated."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from notifier.domain.deliveries import Unclear
from notifier.store.claims import LEASE_S
from notifier.subscribers import (
    notifier_follows_people,
    notifier_notifies_confirmed,
    notifier_notifies_expiring,
)
from notifier.telegram import Telegram
from shared.contracts.vpn import Access, AccessExpiring
from tests.kit.notifier import (
    ENDS_AT,
    NOW,
    TOKEN,
    LostAnswer,
    Shop,
    changed,
    confirmed,
    received,
)

STATES = """
select details ->> 'hours' as hours, state, reason
from deliveries
where person = $1 and kind = 'access_expiring'
"""

LOST = """
select body ->> 'kind'
from events
where topic = 'notifier.delivery.failed' and body ->> 'about' = $1
"""


def expiring(person: UUID, hours: int = 72, **changes: Any) -> AccessExpiring:
    fields: dict[str, Any] = {"ends_at": ENDS_AT} | changes
    return AccessExpiring.caused_by(
        f"{person} {fields['ends_at'].isoformat()} {hours}",
        about=person,
        at=NOW,
        hours=hours,
        **fields,
    )


def access(within_h: int | None = 72, **changes: Any) -> Access:
    fields: dict[str, Any] = {"state": "up", "ends_at": ENDS_AT} | changes
    return Access(ends_within_h=within_h, **fields)


async def outcome(shop: Shop, person: UUID) -> dict[int, tuple[str, str | None]]:
    rows = await shop.database.fetch(STATES, person)
    return {int(row["hours"]): (row["state"], row["reason"]) for row in rows}


async def test_a_reminder_names_the_end(shop: Shop) -> None:
    """N-05: once, however often it is published; the button leads to buying."""
    person, chat = await shop.person()
    shop.peers.accesses[person] = access()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_expiring, expiring(person), expiring(person))
        await shop.handle(notifier_notifies_expiring, expiring(person))
        message = await chat.receives("ends on 22 December 2026, 12:00 UTC")
        await shop.settled(person)
    assert "Less than 3 days left" in message.text
    assert [button.data for button in message.buttons] == ["below:buy", "go:access"]
    assert len(await received(chat)) == 1


async def test_a_reminder_of_another_end_is_dropped(shop: Shop) -> None:
    """N-07: renewed, refunded or ended since; and a nearer step holds after an outage."""
    later = access(None, ends_at=ENDS_AT + timedelta(days=30))
    answers = {
        "the end has moved": later,
        "the access has ended": access(None, state="ended"),
        "a nearer reminder holds": access(24),
    }
    for reason, answer in answers.items():
        person, chat = await shop.person()
        shop.peers.accesses[person] = answer
        async with shop.dispatcher():
            await shop.handle(notifier_notifies_expiring, expiring(person))
            await shop.settled(person)
        assert await outcome(shop, person) == {72: ("superseded", reason)}
        assert await received(chat) == []


async def test_only_the_nearest_of_late_reminders_is_sent(shop: Shop) -> None:
    """N-06: notifier was away over two steps."""
    person, chat = await shop.person()
    shop.peers.accesses[person] = access(24)
    await shop.handle(notifier_notifies_expiring, expiring(person), expiring(person, 24))
    async with shop.dispatcher():
        await chat.receives("Less than 1 day left")
        await shop.settled(person)
    assert {hours: state for hours, (state, _) in (await outcome(shop, person)).items()} == {
        72: "superseded",
        24: "sent",
    }


async def test_a_receipt_goes_before_a_reminder(shop: Shop) -> None:
    """N-44: the person paid at this moment; the reminder was written first."""
    person, chat = await shop.person()
    shop.peers.accesses[person] = access()
    await shop.handle(notifier_notifies_expiring, expiring(person))
    await shop.handle(notifier_notifies_confirmed, confirmed(person, at=NOW + timedelta(hours=1)))
    async with shop.dispatcher():
        await chat.receives("which now holds")
        assert len(await received(chat)) == 1
        await shop.time_passes(1)
        await chat.receives("Your access ends")


class NoAnswer(Telegram):
    """Telegram's answer is cut off: the message may have arrived."""

    async def _post(self, method: str, body: dict[str, Any]) -> Any:
        await super()._post(method, body)
        return Unclear("TimeoutError")


async def test_an_unclear_reminder_is_not_repeated(shop: Shop) -> None:
    """N-01: it may have arrived; two of them would be worse than none."""
    person, chat = await shop.person()
    shop.peers.accesses[person] = access()
    async with shop.dispatcher(telegram=NoAnswer(TOKEN, shop.sandbox.url)):
        await shop.handle(notifier_notifies_expiring, expiring(person))
        await shop.settled(person)
    assert await outcome(shop, person) == {72: ("unknown", "TimeoutError")}
    assert len(await received(chat)) == 1


async def test_a_dead_sender_repeats_no_reminder(shop: Shop) -> None:
    """N-01: the process died between sending and its record."""
    person, chat = await shop.person()
    shop.peers.accesses[person] = access()
    telegram = LostAnswer(shop.sandbox.url)
    async with shop.dispatcher(telegram=telegram, dies=True):
        await shop.handle(notifier_notifies_expiring, expiring(person))
        await telegram.sent.wait()
    await shop.time_passes(LEASE_S)
    async with shop.dispatcher():
        await shop.settled(person)
    assert await outcome(shop, person) == {72: ("unknown", "the sender died")}
    assert len(await received(chat)) == 1
    failed = await shop.database.fetchval(LOST, str(person))
    assert failed == "access_expiring"


async def test_a_return_sends_only_true_reminders(shop: Shop) -> None:
    """N-15, N-07: the bot was blocked over two steps; the one that holds is sent then."""
    person, chat = await shop.person()
    shop.peers.accesses[person] = access()
    await chat.block()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_expiring, expiring(person), expiring(person, 24))
        await shop.settled(person)
        assert {state for state, _ in (await outcome(shop, person)).values()} == {"unreachable"}
        await chat.unblock()
        shop.peers.accesses[person] = access(24)
        await shop.handle(notifier_follows_people, changed(person, reachable=True))
        await chat.receives("Less than 1 day left")
        await shop.settled(person)
    assert len(await received(chat)) == 1
    assert (await outcome(shop, person))[72] == ("superseded", "a nearer reminder holds")
