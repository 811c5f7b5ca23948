"""Publishes what became true once the nodes agreed: granted orders and ended access."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from shared.contracts.message import Event
from shared.contracts.vpn import AccessEnded, AccessGranted
from shared.messaging.outbox import publish
from shared.platform import telemetry
from shared.platform.db import Tx
from vpn_provisioner import metrics
from vpn_provisioner.domain.access import HOUR, Period, effect_of
from vpn_provisioner.store import periods, subscriptions
from vpn_provisioner.store.subscriptions import Granted

_NO_ITEMS: Mapping[UUID, telemetry.BatchItem] = MappingProxyType({})


async def announce(
    people: Sequence[UUID], tx: Tx, items: Mapping[UUID, telemetry.BatchItem] = _NO_ITEMS
) -> None:
    """Publish the grants and ends of these people that are due. Their subscriptions are locked.

    `items` are the batch items in which the nodes were asked, by person: the trace continues
    there.
    """
    granted = await subscriptions.grant(people, tx)
    ended = await subscriptions.end(people, tx)
    if not granted and not ended:
        return
    bought = await periods.periods_of(sorted({grant.person for grant in granted}), tx)
    now = await tx.now()
    events: list[Event] = [
        _access_granted(grant, bought[grant.person], now, items.get(grant.person))
        for grant in granted
    ]
    events += [
        AccessEnded.caused_by(
            f"{end.person} {end.ends_at.isoformat()}",
            about=end.person,
            at=now,
            ended_at=end.ends_at,
            refunded=end.refunded,
        )
        for end in ended
    ]
    await publish(tx, events)
    tx.after_commit(lambda: metrics.GRANTED.inc(len(granted)))
    tx.after_commit(lambda: metrics.ENDED.inc(len(ended)))


def _access_granted(
    grant: Granted, bought: Sequence[Period], now: datetime, asked: telemetry.BatchItem | None
) -> AccessGranted:
    """The plan and the end are those of the subscription; the effect is that of this order."""
    made = effect_of(grant.order, bought)
    return AccessGranted.caused_by(
        grant.order,
        about=grant.person,
        at=now,
        trace=_trace(grant, asked),
        order=grant.order,
        plan=grant.plan,
        devices=grant.devices,
        ends_at=grant.ends_at,
        effect=made.effect,
        plan_before=made.plan_before,
        converted_hours=made.converted // HOUR,
        new_link=made.new_link,
    )


def _trace(grant: Granted, asked: telemetry.BatchItem | None) -> str | None:
    """The trace of the order, from the span that asked the node where that belongs to it."""
    here = asked.trace if asked is not None else None
    same = telemetry.trace_id_of(here) == telemetry.trace_id_of(grant.trace)
    return here if same else grant.trace
