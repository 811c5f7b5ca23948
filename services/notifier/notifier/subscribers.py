"""Handlers of events: each message is written in the transaction that handles its event."""

from collections.abc import Iterable, Sequence

from notifier.domain import messages
from notifier.domain.messages import Message
from notifier.store import deliveries, recipients
from shared.contracts.bot import PersonChanged
from shared.contracts.payments import PaymentConfirmed, PaymentRefunded
from shared.contracts.referrals import InvitationRegistered, RewardEarned
from shared.contracts.vpn import AccessEnded, AccessExpiring, AccessGranted
from shared.platform.db import Tx


async def notifier_notifies_confirmed(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    """To the payer: the purchase with what is left over, or money in the wallet."""
    await _write((message for event in events for message in messages.of_payment(event)), tx)


async def notifier_notifies_refunded(events: Sequence[PaymentRefunded], tx: Tx) -> None:
    """To the payer: the returned money, and what it undid."""
    await _write((messages.of_refund(event) for event in events), tx)


async def notifier_notifies_granted(events: Sequence[AccessGranted], tx: Tx) -> None:
    """To the buyer: the key."""
    await _write((messages.of_access(event) for event in events), tx)


async def notifier_notifies_ended(events: Sequence[AccessEnded], tx: Tx) -> None:
    """To the person: the end of their access, unless a refund ended it."""
    await _write((messages.of_end(event) for event in events), tx)


async def notifier_notifies_expiring(events: Sequence[AccessExpiring], tx: Tx) -> None:
    """To the person: their access ends soon."""
    await _write((messages.of_expiring(event) for event in events), tx)


async def notifier_notifies_registered(events: Sequence[InvitationRegistered], tx: Tx) -> None:
    """To the partner: a friend joined."""
    await _write((messages.of_invitation(event) for event in events), tx)


async def notifier_notifies_rewards(events: Sequence[RewardEarned], tx: Tx) -> None:
    """To the partner: a share of a friend's payment."""
    await _write((messages.of_reward(event) for event in events), tx)


async def notifier_follows_people(events: Sequence[PersonChanged], tx: Tx) -> None:
    """Keep the language and the reachability of people.

    A person who unblocked the bot gets the keys and receipts of the last 7 days.
    """
    reachable = await recipients.follow(events, tx)
    if reachable:
        await deliveries.reopen(reachable, tx)
    tx.after_commit(deliveries.DUE.ring)


async def _write(given: Iterable[Message | None], tx: Tx) -> None:
    written = [message for message in given if message is not None]
    await deliveries.write(written, tx)
    # A message that is due later is found when it is due.
    if any(message.after_s == 0 for message in written):
        tx.after_commit(deliveries.DUE.ring)
