"""What referrals hears and answers."""

from referrals.answers import answer_invitations, answer_rewards
from referrals.audit import KINDS, answer_audit
from referrals.settings import Settings
from referrals.subscribers import on_payment_confirmed, on_person_started
from shared.inspection import AskRewards
from shared.questions import AskInvitations
from shared.service import Service
from shared.settings import read_settings


def build(settings: Settings | None = None) -> Service:
    service = Service("referrals", settings or read_settings(Settings))
    service.hears("referrals_registers_started", on_person_started)
    service.hears("referrals_rewards_confirmed", on_payment_confirmed)
    service.answers(AskInvitations, answer_invitations)
    service.answers(AskRewards, answer_rewards)
    service.audits(answer_audit, KINDS)
    return service
