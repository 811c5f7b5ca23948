"""What is told once the nodes agree: which orders are granted, and whose access has ended."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from shared import telemetry
from shared.contract import Fact
from shared.db import Tx
from shared.facts import AccessEnded, AccessGranted
from shared.outbox import tell
from vpn_provisioner import metrics
from vpn_provisioner.store import subscriptions
from vpn_provisioner.store.subscriptions import Granted

_NO_EVENTS: Mapping[UUID, telemetry.Event] = MappingProxyType({})


async def conclude(people: Sequence[UUID], tx: Tx, events: Mapping[UUID, telemetry.Event] = _NO_EVENTS) -> None:
    """Tell what is true of these people now and was not told yet. Their subscriptions are locked.

    `events` are those in which the nodes were asked, by person: the story goes on from there.
    """
    granted = await subscriptions.grant(people, tx)
    ended = await subscriptions.end(people, tx)
    if not granted and not ended:
        return
    now = await tx.now()
    facts: list[Fact] = [
        AccessGranted.because(
            grant.order,
            about=grant.person,
            at=now,
            trace=_trace(grant, events.get(grant.person)),
            order=grant.order,
            plan=grant.plan,
            devices=grant.devices,
            ends_at=grant.ends_at,
        )
        for grant in granted
    ]
    facts += [
        AccessEnded.because(f"{end.person} {end.ends_at.isoformat()}", about=end.person, at=now, ended_at=end.ends_at)
        for end in ended
    ]
    await tell(tx, facts)
    tx.after_commit(lambda: metrics.GRANTED.inc(len(granted)))
    tx.after_commit(lambda: metrics.ENDED.inc(len(ended)))


def _trace(grant: Granted, asked: telemetry.Event | None) -> str | None:
    """The order's own story; from the span that asked the node where that is part of it."""
    here = asked.trace if asked is not None else None
    return here if telemetry.trace_id_of(here) == telemetry.trace_id_of(grant.trace) else grant.trace
