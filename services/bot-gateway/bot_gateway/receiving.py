"""Intake: updates are stored as rows before Telegram gets the confirmation."""

from collections.abc import Sequence
from typing import Any

import structlog

from bot_gateway.domain.updates import update_from
from bot_gateway.store import intake
from bot_gateway.workers.bells import Bells
from shared.platform.db import Tx

log = structlog.get_logger()


async def take_in(bot: int, raw: Sequence[dict[str, Any]], bells: Bells, tx: Tx) -> None:
    """Store updates in one statement; a repeat of a stored update changes nothing.

    The lanes wake after the commit.
    """
    updates = []
    for one in raw:
        try:
            updates.append(update_from(one))
        except ValueError as error:
            log.error("received JSON that is no update", error=str(error))
    lanes = await intake.insert_updates(bot, updates, tx)
    tx.after_commit(lambda: bells.ring(lanes))
