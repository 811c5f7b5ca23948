"""A payment of too much: its one message says what is left over, for any order of events."""

from uuid import UUID, uuid4

from notifier.subscribers import notifier_notifies_confirmed, notifier_notifies_granted
from shared.contracts.payments import PaymentConfirmed
from tests.kit.notifier import ISSUING_AFTER_S, HeldCall, Shop, confirmed, granted, key_of, received
from turnpike_local.sandbox.client import PersonClient

REST = "50\u00a0₽ is left over"


def paid_too_much(person: UUID, order: UUID) -> PaymentConfirmed:
    return confirmed(person, order, over_minor=5000, wallet_minor=7000)


async def is_complete(shop: Shop, person: UUID, chat: PersonClient) -> None:
    """The chat has one message: it has the key and says what is left over, once."""
    await shop.settled(person)
    await shop.time_passes(60)
    await shop.settled(person)
    [message] = await received(chat)
    assert message.code == [key_of(person)]
    assert message.text.count(REST) == 1
    assert "70\u00a0₽" in message.text


async def test_the_receipt_and_its_edit_name_the_rest(shop: Shop) -> None:
    """R-50."""
    person, chat = await shop.person()
    order = uuid4()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_confirmed, paid_too_much(person, order))
        await shop.time_passes(ISSUING_AFTER_S)
        first = await chat.receives(REST)
        assert first.code == []
        await shop.settled(person)
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await shop.time_passes(1)
        await is_complete(shop, person, chat)
    assert await shop.states(person) == {"paid_issuing": "sent", "access_ready": "sent"}


async def test_a_grant_soon_after_names_the_rest(shop: Shop) -> None:
    """R-50."""
    person, chat = await shop.person()
    order = uuid4()
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_confirmed, paid_too_much(person, order))
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await is_complete(shop, person, chat)
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_a_payment_after_its_key_adds_the_rest(shop: Shop) -> None:
    """R-50: the message with the key is sent already, so it is edited once more."""
    person, chat = await shop.person()
    order, payment = uuid4(), None
    async with shop.dispatcher():
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await chat.receives("Your access is ready")
        await shop.settled(person)
        payment = paid_too_much(person, order)
        await shop.handle(notifier_notifies_confirmed, payment, payment)
        await shop.handle(notifier_notifies_confirmed, payment)
        await shop.time_passes(1)
        await is_complete(shop, person, chat)
    assert await shop.states(person) == {
        "paid_issuing": "superseded",
        "access_ready": "sent",
        "left_over": "sent",
    }


async def test_a_key_that_waits_gets_the_rest(shop: Shop) -> None:
    """R-50: both events came before anything was sent."""
    person, chat = await shop.person()
    order = uuid4()
    await shop.handle(notifier_notifies_granted, granted(person, order))
    await shop.handle(notifier_notifies_confirmed, paid_too_much(person, order))
    async with shop.dispatcher():
        await is_complete(shop, person, chat)
    assert await shop.states(person) == {"paid_issuing": "superseded", "access_ready": "sent"}


async def test_a_key_in_flight_gets_the_rest(shop: Shop) -> None:
    """R-50: its words are written already, so it is edited when it is sent."""
    person, chat = await shop.person()
    order, held = uuid4(), HeldCall(shop.sandbox.url)
    async with shop.dispatcher(telegram=held):
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await held.began.wait()
        await shop.handle(notifier_notifies_confirmed, paid_too_much(person, order))
        held.may_go.set()
        await is_complete(shop, person, chat)


async def test_a_key_that_failed_comes_with_the_rest(shop: Shop) -> None:
    """R-50: it was in flight, and waits again: the later message of the thread has its key."""
    person, chat = await shop.person()
    order, held = uuid4(), HeldCall(shop.sandbox.url)
    await shop.client.plan_fault("429", method="sendMessage", retry_after_s=1)
    async with shop.dispatcher(telegram=held):
        await shop.handle(notifier_notifies_granted, granted(person, order))
        await held.began.wait()
        await shop.handle(notifier_notifies_confirmed, paid_too_much(person, order))
        held.may_go.set()
        await is_complete(shop, person, chat)
    assert (await shop.states(person))["left_over"] == "sent"
