"""The wiring of referrals: its subscriptions, queries and ticks."""

from functools import partial

from referrals.audit import KINDS, answer_audit
from referrals.queries import answer_invitations, answer_rewards
from referrals.settings import Settings
from referrals.store.invitations import DROP_OLD_REFUSALS
from referrals.subscribers import (
    referrals_registers_started,
    referrals_reverses_refunded,
    referrals_rewards_confirmed,
)
from referrals.ticks import MEET_REFUNDS_EVERY_S, meet_refunds
from shared.contracts.referrals import InvitationsQuery, RewardsQuery
from shared.platform.settings import read_settings
from shared.service import Service


def build(settings: Settings | None = None) -> Service:
    service = Service("referrals", settings or read_settings(Settings))
    service.subscribes("referrals_registers_started", referrals_registers_started)
    service.subscribes("referrals_rewards_confirmed", referrals_rewards_confirmed)
    service.subscribes("referrals_reverses_refunded", referrals_reverses_refunded)
    service.answers(InvitationsQuery, answer_invitations)
    service.answers(RewardsQuery, answer_rewards)
    service.audits(answer_audit, KINDS)
    service.ticks("meet_refunds", MEET_REFUNDS_EVERY_S, partial(meet_refunds, service.database))
    service.prunes(DROP_OLD_REFUSALS)
    return service
