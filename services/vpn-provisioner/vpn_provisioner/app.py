"""The fuse box of vpn-provisioner: what it hears, answers, obeys and does by time."""

from functools import partial

from shared.commands import ReplayJobs
from shared.inspection import AskDeadJobs, AskGrant
from shared.questions import AskAccess, AskKey, AskOutlook
from shared.service import Service
from shared.settings import read_settings
from vpn_provisioner import ticks
from vpn_provisioner.answers import (
    answer_access,
    answer_dead_jobs,
    answer_grant,
    answer_key,
    answer_outlook,
    replay_jobs,
)
from vpn_provisioner.audit import KINDS, answer_audit
from vpn_provisioner.fleet import Fleet, place_first
from vpn_provisioner.settings import Settings
from vpn_provisioner.subscribers import vpn_grants_confirmed


def build(settings: Settings | None = None) -> Service:
    """The whole service, not yet running; without `settings` those of the environment."""
    settings = settings or read_settings(Settings)
    service = Service("vpn", settings)
    fleet = Fleet(service.database)

    service.opens(partial(place_first, settings.first_node, service.database))

    service.hears("vpn_grants_confirmed", partial(vpn_grants_confirmed, wake=fleet.wake))

    service.answers(AskAccess, answer_access)
    service.answers(AskOutlook, answer_outlook)
    service.answers(AskKey, answer_key)
    service.answers(AskGrant, answer_grant)
    service.answers(AskDeadJobs, answer_dead_jobs)
    service.audits(answer_audit, KINDS)

    service.obeys(ReplayJobs, partial(replay_jobs, wake=fleet.wake))

    service.loops("fleet", fleet.run)
    service.ticks("expire_access", ticks.EXPIRE_EVERY_S, partial(ticks.expire, service.database, fleet.wake))
    service.ticks("count_access", ticks.COUNT_EVERY_S, partial(ticks.count, service.database))
    return service
