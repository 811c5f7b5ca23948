"""Reconciling now: an operator begins a run over a window, for one provider or for each."""

from collections.abc import Collection

from payments.domain.reconciliation import window_of
from payments.store import reconciliations
from payments.store.reconciliation_leases import LONGEST_WINDOW, SETTLED_AFTER
from shared.contracts.message import Refused, derived_id
from shared.contracts.payments import Reconcile, StartedReconciliations
from shared.platform.db import Tx

MAX_UNFINISHED = 5
"""Runs of one provider: an hourly one, a daily one, and those that were asked for."""


async def reconcile(
    command: Reconcile, tx: Tx, *, providers: Collection[str]
) -> StartedReconciliations | Refused:
    """The worker walks them, each after those that were begun before."""
    if command.provider not in (None, *providers) or not providers:
        detail = ", ".join(sorted(providers)) or "none"
        return Refused(reason="provider_unknown", detail=detail)
    since, until = window_of(command.since, command.until, await tx.now() - SETTLED_AFTER)
    if since >= until:
        return Refused(reason="window_empty")
    if until - since > LONGEST_WINDOW:
        return Refused(reason="window_too_long", detail=f"{LONGEST_WINDOW.days} days")
    runs = []
    for acquirer in [command.provider] if command.provider else sorted(providers):
        if await reconciliations.unfinished(acquirer, tx) >= MAX_UNFINISHED:
            return Refused(reason="too_many_runs", detail=acquirer)
        run = derived_id("reconciliation", command.id, acquirer)
        runs.append(await reconciliations.ask(run, acquirer, since, until, tx))
    return StartedReconciliations(runs=tuple(runs))
