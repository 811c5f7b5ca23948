"""Adding, changing and removing an operator."""

from collections.abc import Sequence

from bot_gateway.store import operators
from shared.contracts.bot import MAX_OPERATORS, OperatorChanged, SetOperator
from shared.contracts.message import Refused
from shared.messaging.idempotency import Changed
from shared.platform.db import Tx


async def set_operator(command: SetOperator, tx: Tx, *, owners: Sequence[str]) -> Changed | Refused:
    """`owners` are those of TURNPIKE_OWNERS: no command changes or removes them."""
    name, role = command.operator, command.new_role
    if name in owners:
        return Refused(reason="owner_by_setting")
    await operators.lock(tx)
    before = await operators.role_of(name, tx)
    if role is None and before is None:
        return Refused(reason="operator_unknown")
    if role is None:
        await operators.remove(name, tx)
    elif before is None and await operators.count(tx) >= MAX_OPERATORS:
        return Refused(reason="too_many_operators")
    elif before != role:
        await operators.give(name, role, command.actor, tx)
    answer = OperatorChanged(operator=name, role=role)
    return Changed(answer, before={"role": before}, after={"role": role})
