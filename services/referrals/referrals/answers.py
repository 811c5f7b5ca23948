"""What referrals answers: how somebody's invitations stand, and what became of a payment here."""

from referrals import store
from referrals.rewards import terms_of
from shared.contract import derived_id
from shared.db import Database
from shared.facts import PersonStarted
from shared.inspection import AskRewards, Rewards, RewardSeen
from shared.questions import AskInvitations, Invitations


async def answer_invitations(question: AskInvitations, database: Database) -> Invitations:
    row = await store.standing_of(question.person, database)
    terms = terms_of(store.partner_from(row), await store.scale_of_today(database))
    return Invitations(
        invited=row["invited"],
        paying=row["paying"],
        earned_minor=row["earned_minor"],
        percent=terms.percent,
        next_level_at=terms.next_level.paying_from if terms.next_level else None,
        next_percent=terms.next_level.percent if terms.next_level else None,
    )


async def answer_rewards(question: AskRewards, database: Database) -> Rewards:
    rows = await store.rewards_of(question.receipts, database)
    started_as = derived_id(question.payer, PersonStarted.topic, question.payer)
    bound = await store.bound(question.payer, started_as, database)
    return Rewards(rewards=tuple(RewardSeen(**dict(row)) for row in rows), **bound)
