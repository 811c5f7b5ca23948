"""Payments asks for Stars to be returned: a row here, and a worker asks Telegram then."""

from collections.abc import Callable

from bot_gateway.store import star_refunds
from shared.contracts.bot import RefundStars, StarRefund
from shared.contracts.message import Refused
from shared.platform.db import Tx


async def refund_stars(
    command: RefundStars, tx: Tx, *, ring: Callable[[], None]
) -> StarRefund | Refused:
    if await star_refunds.telegram_id_of(command.payer, command.charge, tx) is None:
        return Refused(reason="payer_unknown")
    await star_refunds.insert(command.id, command.charge, command.payer, tx)
    tx.after_commit(ring)
    return StarRefund(refund=command.id, state="waiting", reason=None)
