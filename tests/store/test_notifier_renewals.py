"""A purchase that extends or changes an access: its message has no key but for a new link."""

from uuid import uuid4

from notifier.subscribers import notifier_notifies_granted
from tests.kit.notifier import Shop, granted, key_of


async def test_a_renewal_needs_no_key(shop: Shop) -> None:
    """R-51: it says until when, by its event; vpn-provisioner is not asked."""
    person, chat = await shop.person()
    shop.peers.keyless.add(person)
    renewal = granted(person, uuid4(), effect="extends", plan_before="basic")
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, renewal)
        message = await chat.receives("Extended until 22 December 2026, 12:00 UTC")
        await shop.settled(person)
    assert message.code == []
    assert [button.data for button in message.buttons] == ["go:access"]


async def test_a_moved_access_comes_with_its_link(shop: Shop) -> None:
    """R-51: another plan at other nodes."""
    person, chat = await shop.person()
    moved = granted(
        person,
        uuid4(),
        effect="converts",
        plan="plus",
        plan_before="basic",
        converted_hours=50,
        new_link=True,
    )
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, moved)
        message = await chat.receives("Your plan is now Plus")
        await shop.settled(person)
    assert message.code == [key_of(person)]
    assert "2 days 2 hours" in message.text
