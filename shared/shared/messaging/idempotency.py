"""Commands act once: the row with the answer is written in the transaction of the effect.

The row of an operator's act is the audit log: it also holds the role, and the changed thing before
and after.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from shared.contracts.message import Command, Refused, Value
from shared.contracts.operators import Act, may_execute
from shared.platform import telemetry
from shared.platform.db import Database, Tx
from shared.platform.failpoints import failpoint

log = structlog.get_logger()


@dataclass(frozen=True)
class Changed:
    """The answer of an act, and the state of the changed thing before and after it, as JSON.

    With a refusal as the answer, `after` is ignored: nothing was changed.
    """

    answer: Value
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


Action = Callable[[Any, Tx], Awaitable[Value | Changed]]
"""What a command does in its transaction. An act that changes something returns `Changed`."""

CLAIM = """
insert into commands (id, topic, actor, reason, digest, request, outcome, role)
values ($1, $2, $3, $4, $5, $6::json, 'done', $8)
on conflict (topic, id) where outcome = 'done' do nothing
returning seq, shop_now() > $7 as late
"""

STORED = """
select digest, answer::text as answer
from commands
where topic = $1 and id = $2 and outcome = 'done'
"""

SETTLE = """
update commands
set outcome = $2, answer = $3::json, before = $4::json, after = $5::json
where seq = $1
"""


# A command that comes again after its deadline is refused, with or without its row. Acts stay.
DROP_OLD = """
delete from commands
where seq in (
  select seq
  from commands
  where role is null and executed_at < shop_now() - interval '90 days'
  order by executed_at
  limit $1
)
"""


class _RefusedError(Exception):
    """Rolls back what the command wrote before it was refused."""

    def __init__(self, refusal: Refused, seen: Mapping[str, Any] | None) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.seen = seen


async def execute(database: Database, command: Command[Any], action: Action) -> Value:
    """Act once per topic and id. A repeat gets the stored answer, also after the deadline.

    A refusal is a row too, but does not use the id up. The same id of the same topic with another
    request is refused as `id_reused`, and an act that its role may not execute as `not_allowed`.
    """
    async with database.transaction() as tx:
        claimed = await tx.fetchrow(
            CLAIM,
            command.id,
            command.topic,
            command.actor,
            command.reason,
            command.digest(),
            command.model_dump_json(exclude=set(command.unstored)),
            command.deadline_at,
            command.role if isinstance(command, Act) else None,
        )
        if claimed is None:
            return await _repeated(command, tx)
        changed = await _act(command, action, tx, late=claimed["late"])
        answer = changed.answer
        outcome = "refused" if isinstance(answer, Refused) else "done"
        states = _json(changed.before), _json(changed.after)
        await tx.execute(SETTLE, claimed["seq"], outcome, answer.model_dump_json(), *states)
        failpoint("command_done", command.topic)
    failpoint("command_committed", command.topic)
    return answer


async def _act(command: Command[Any], action: Action, tx: Tx, *, late: bool) -> Changed:
    if isinstance(command, Act) and not may_execute(command.role, command.topic):
        return Changed(_refusal(command, Refused(reason="not_allowed")), None, None)
    if late:
        return Changed(_refusal(command, Refused(reason="too_late")), None, None)
    try:
        async with tx.connection.transaction():
            done = await action(command, tx)
            changed = done if isinstance(done, Changed) else Changed(done, None, None)
            if isinstance(changed.answer, Refused):
                raise _RefusedError(changed.answer, changed.before)
            return changed
    except _RefusedError as error:
        return Changed(_refusal(command, error.refusal), error.seen, error.seen)


def _json(state: Mapping[str, Any] | None) -> str | None:
    return None if state is None else json.dumps(state, ensure_ascii=False, default=str)


def _refusal(command: Command[Any], refusal: Refused) -> Refused:
    telemetry.COMMANDS_REFUSED.labels(command.topic, refusal.reason).inc()
    fields = {"topic": command.topic, "actor": command.actor, "reason": refusal.reason}
    log.info("command refused", **fields)
    return refusal


async def _repeated(command: Command[Any], tx: Tx) -> Value:
    stored = await tx.fetchrow(STORED, command.topic, command.id)
    assert stored is not None, "a claimed id has a row"
    if stored["digest"] != command.digest():
        return _refusal(command, Refused(reason="id_reused"))
    return type(command).answer.model_validate_json(stored["answer"])
