"""Refunds of operators in tests: the act, its row, and the sums that are held for it."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from payments.commands.refund_payment import WaysOut, refund_payment, resolve_refund
from payments.domain.outgoing import TELEGRAM
from payments.domain.provider import Returning
from shared.contracts.message import Refused, Value
from shared.contracts.payments_refunds import OutgoingRefund, RefundPayment, ResolveRefund
from shared.messaging.idempotency import execute
from shared.platform.db import Database, Row
from tests.kit.operators import by_operator

WAYS_OUT: WaysOut = {**TELEGRAM, "yookassa": Returning(in_parts=True, keyed=True)}
ROW = "select * from outgoing_refunds where id = $1"
HELD = """
select coalesce(sum(e.amount_minor), 0)::bigint
from entries e
join accounts a on a.id = e.account
where a.kind like 'outgoing:%'
"""


def act_of(ring: Callable[[], None] = lambda: None) -> Any:
    """The action of the command, as the service wires it."""
    return partial(refund_payment, ways_out=WAYS_OUT, ring=ring)


def refunding(receipt: UUID, currency: str = "RUB", **fields: Any) -> RefundPayment:
    return RefundPayment(**by_operator("admin"), receipt=receipt, currency=currency, **fields)


async def ask_refund(
    receipt: UUID, database: Database, currency: str = "RUB", **fields: Any
) -> Value:
    return await execute(database, refunding(receipt, currency, **fields), act_of())


async def asked(
    receipt: UUID, database: Database, currency: str = "RUB", **fields: Any
) -> OutgoingRefund:
    answer = await ask_refund(receipt, database, currency, **fields)
    assert isinstance(answer, OutgoingRefund), answer
    return answer


async def resolve(
    refund: UUID,
    outcome: Any,
    database: Database,
    reference: str | None = None,
) -> OutgoingRefund | Refused:
    fields = by_operator("admin") | {"refund": refund, "outcome": outcome, "reference": reference}
    answer = await execute(database, ResolveRefund(**fields), resolve_refund)
    assert isinstance(answer, OutgoingRefund | Refused)
    return answer


async def row_of(refund: OutgoingRefund, database: Database) -> Row:
    row = await database.fetchrow(ROW, refund.refund)
    assert row is not None
    return row


async def held_in_all(database: Database) -> int:
    """Kopecks that are held for all refunds under way."""
    held_minor: int = await database.fetchval(HELD)
    return held_minor
