"""Handlers of events: unreachable people, and invoices of outside providers."""

from collections.abc import Callable, Sequence
from functools import partial

from bot_gateway.store import people
from shared.contracts.notifier import RecipientRefused
from shared.contracts.payments import InvoiceOpened, InvoiceRefused
from shared.platform.db import Tx

Note = Callable[[Sequence[InvoiceOpened | InvoiceRefused]], None]
"""Notes that the screens of these invoices are edited. Telegram is called afterwards."""


async def bot_follows_refusals(events: Sequence[RecipientRefused], tx: Tx) -> None:
    """Telegram refused a chat, perhaps without a block: the next visit is a return."""
    newest = {event.about: event for event in sorted(events, key=lambda event: event.at)}
    await people.lose_people(list(newest.values()), tx)


async def bot_shows_opened(events: Sequence[InvoiceOpened], tx: Tx, *, note: Note) -> None:
    """An invoice can be paid now: the screen that waits for it gets its page to pay on."""
    tx.after_commit(partial(note, events))


async def bot_shows_refused(events: Sequence[InvoiceRefused], tx: Tx, *, note: Note) -> None:
    """An invoice cannot be paid: the screen that waits for it gets the other ways to pay."""
    tx.after_commit(partial(note, events))
