"""Wiring of vpn-provisioner: its subscriptions, answers, commands, loops and ticks."""

from functools import partial

from shared.contracts.vpn import (
    AccessQuery,
    DeadJobsQuery,
    GrantQuery,
    KeyQuery,
    OutlookQuery,
    ReplayJobs,
)
from shared.platform.settings import read_settings
from shared.service import Service
from vpn_provisioner import ticks
from vpn_provisioner.audit import KINDS, answer_audit
from vpn_provisioner.commands.replay_jobs import replay_jobs
from vpn_provisioner.queries import (
    answer_access,
    answer_dead_jobs,
    answer_grant,
    answer_key,
    answer_outlook,
)
from vpn_provisioner.settings import Settings
from vpn_provisioner.store.jobs import DROP_GONE_JOBS
from vpn_provisioner.store.waits import WAITS
from vpn_provisioner.subscribers import vpn_grants_confirmed, vpn_shortens_refunded
from vpn_provisioner.workers.fleet import Fleet, register_first


def build(settings: Settings | None = None) -> Service:
    """The whole service, not yet running; without `settings` those of the environment."""
    settings = settings or read_settings(Settings)
    service = Service("vpn", settings)
    fleet = Fleet(service.database)

    service.opens(partial(register_first, settings.first_node, service.database))

    service.subscribes("vpn_grants_confirmed", partial(vpn_grants_confirmed, wake=fleet.wake))
    service.subscribes("vpn_shortens_refunded", partial(vpn_shortens_refunded, wake=fleet.wake))

    service.answers(AccessQuery, answer_access)
    service.answers(OutlookQuery, answer_outlook)
    service.answers(KeyQuery, answer_key)
    service.answers(GrantQuery, answer_grant)
    service.answers(DeadJobsQuery, answer_dead_jobs)
    service.audits(answer_audit, KINDS)
    service.bounds(WAITS)
    service.prunes(DROP_GONE_JOBS)

    service.executes(ReplayJobs, partial(replay_jobs, wake=fleet.wake))

    service.loops("fleet", fleet.run)
    service.ticks(
        "expire_access", ticks.EXPIRE_EVERY_S, partial(ticks.expire, service.database, fleet.wake)
    )
    service.ticks(
        "revive_access", ticks.REVIVE_EVERY_S, partial(ticks.revive, service.database, fleet.wake)
    )
    service.ticks("remind", ticks.REMIND_EVERY_S, partial(ticks.remind, service.database))
    service.ticks(
        "meet_refunds",
        ticks.SHORTEN_EVERY_S,
        partial(ticks.meet_refunds, service.database, fleet.wake),
    )
    service.ticks("count_access", ticks.COUNT_EVERY_S, partial(ticks.count, service.database))
    return service
