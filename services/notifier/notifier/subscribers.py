"""Doors for facts: what a person is told of, written down in the transaction that hears it."""

from collections.abc import Iterable, Sequence

from notifier import messages, store
from notifier.courier import Courier
from notifier.messages import Message
from shared.db import Tx
from shared.facts import (
    AccessEnded,
    AccessGranted,
    InvitationRegistered,
    PaymentConfirmed,
    PersonChanged,
    RewardEarned,
)


async def notifier_tells_confirmed(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    """Somebody paid."""
    await _write((message for event in events for message in messages.of_payment(event)), tx)


async def notifier_tells_granted(events: Sequence[AccessGranted], tx: Tx) -> None:
    """Somebody may use the VPN now."""
    await _write((messages.of_access(event) for event in events), tx)


async def notifier_tells_ended(events: Sequence[AccessEnded], tx: Tx) -> None:
    """Somebody's time is over."""
    await _write((messages.of_end(event) for event in events), tx)


async def notifier_tells_registered(events: Sequence[InvitationRegistered], tx: Tx) -> None:
    """A friend of somebody's is here."""
    await _write((messages.of_invitation(event) for event in events), tx)


async def notifier_tells_rewards(events: Sequence[RewardEarned], tx: Tx) -> None:
    """Somebody earned a share of a friend's payment."""
    await _write((messages.of_reward(event) for event in events), tx)


async def notifier_follows_people(events: Sequence[PersonChanged], tx: Tx) -> None:
    """Somebody speaks another language, shut the door or opened it again."""
    await store.follow(events, tx)
    tx.after_commit(Courier.wake_all)


async def _write(told: Iterable[Message | None], tx: Tx) -> None:
    written = [message for message in told if message is not None]
    await store.write(written, tx)
    if any(message.after_s == 0 for message in written):  # What is due later is found when it is due.
        tx.after_commit(Courier.wake_all)
