"""Commands happen once: the row that stores the answer is written in the transaction of the effect."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from shared import crash, telemetry
from shared.contract import Command, Refused, Value
from shared.db import Database, Tx

log = structlog.get_logger()

Act = Callable[[Any, Tx], Awaitable[Value]]

CLAIM = """
insert into commands (id, topic, actor, reason, digest, wanted, outcome)
values ($1, $2, $3, $4, $5, $6::json, 'done')
on conflict (id) where outcome = 'done' do nothing
returning seq, now() > $7 as late
"""

STORED = "select topic, digest, answer::text as answer from commands where id = $1 and outcome = 'done'"

SETTLE = "update commands set outcome = $2, answer = $3::json where seq = $1"


class _RefusedError(Exception):
    """Takes back what the act wrote before it refused."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


async def obey(database: Database, command: Command[Any], act: Act) -> Value:
    """Act once per command id. A repeat gets the stored answer, even after the deadline.

    A refusal is a row too, but does not use the id up. The same id with another wish is refused as `id_reused`.
    """
    async with database.transaction() as tx:
        claimed = await tx.fetchrow(
            CLAIM,
            command.id,
            command.topic,
            command.actor,
            command.reason,
            command.digest(),
            command.model_dump_json(),
            command.deadline_at,
        )
        if claimed is None:
            return await _repeated(command, tx)
        answer = await _act(command, act, tx, late=claimed["late"])
        outcome = "refused" if isinstance(answer, Refused) else "done"
        await tx.execute(SETTLE, claimed["seq"], outcome, answer.model_dump_json())
        crash.passing("command_done", command.topic)
    crash.passing("command_committed", command.topic)
    return answer


async def _act(command: Command[Any], act: Act, tx: Tx, *, late: bool) -> Value:
    if late:
        return _refusal(command, Refused(reason="too_late"))
    try:
        async with tx.connection.transaction():
            answer = await act(command, tx)
            if isinstance(answer, Refused):
                raise _RefusedError(answer)
            return answer
    except _RefusedError as error:
        return _refusal(command, error.refusal)


def _refusal(command: Command[Any], refusal: Refused) -> Refused:
    telemetry.COMMANDS_REFUSED.labels(command.topic, refusal.reason).inc()
    log.info("command refused", topic=command.topic, actor=command.actor, reason=refusal.reason)
    return refusal


async def _repeated(command: Command[Any], tx: Tx) -> Value:
    stored = await tx.fetchrow(STORED, command.id)
    assert stored is not None, "a claimed id has a row"
    if stored["topic"] != command.topic or stored["digest"] != command.digest():
        return _refusal(command, Refused(reason="id_reused"))
    return type(command).answer.model_validate_json(stored["answer"])
