"""What referrals hears and answers."""

from referrals.answers import answer_invitations, answer_rewards
from referrals.audit import KINDS, answer_audit
from referrals.settings import Settings
from referrals.subscribers import referrals_registers_started, referrals_rewards_confirmed
from shared.inspection import AskRewards
from shared.questions import AskInvitations
from shared.service import Service
from shared.settings import read_settings


def build(settings: Settings | None = None) -> Service:
    service = Service("referrals", settings or read_settings(Settings))
    service.hears("referrals_registers_started", referrals_registers_started)
    service.hears("referrals_rewards_confirmed", referrals_rewards_confirmed)
    service.answers(AskInvitations, answer_invitations)
    service.answers(AskRewards, answer_rewards)
    service.audits(answer_audit, KINDS)
    return service
