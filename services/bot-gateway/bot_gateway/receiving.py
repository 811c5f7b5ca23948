"""Updates are a row in our own database before Telegram is told that they were received."""

from collections.abc import Sequence
from typing import Any

import structlog

from bot_gateway.lanes import Bells
from bot_gateway.store import intake
from bot_gateway.updates import update_from
from shared.db import Tx

log = structlog.get_logger()


async def take_in(bot: int, raw: Sequence[dict[str, Any]], bells: Bells, tx: Tx) -> None:
    """One statement for all; an update that is there already is the same update. After the commit the lanes wake."""
    updates = []
    for one in raw:
        try:
            updates.append(update_from(one))
        except ValueError as error:
            log.error("telegram sent what is no update", error=str(error))
    lanes = await intake.insert_updates(bot, updates, tx)
    tx.after_commit(lambda: bells.ring(lanes))
