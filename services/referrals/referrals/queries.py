"""The queries that referrals answers: counts of invitations, and the rewards of a payment."""

from referrals.domain.rewards import terms_of
from referrals.store import invitations
from referrals.store import rewards as rewards_store
from shared.contracts.bot import PersonStarted
from shared.contracts.message import derived_id
from shared.contracts.referrals import (
    Invitations,
    InvitationsQuery,
    RewardRecord,
    Rewards,
    RewardsQuery,
)
from shared.platform.db import Database


async def answer_invitations(query: InvitationsQuery, database: Database) -> Invitations:
    row = await invitations.invitation_counts(query.person, database)
    scale = await rewards_store.current_scale(database)
    terms = terms_of(rewards_store.partner_from(row), scale)
    return Invitations(
        invited=row["invited"],
        paying=row["paying"],
        earned_minor=row["earned_minor"],
        percent=terms.percent,
        next_level_at=terms.next_level.paying_from if terms.next_level else None,
        next_percent=terms.next_level.percent if terms.next_level else None,
    )


async def answer_rewards(query: RewardsQuery, database: Database) -> Rewards:
    rows = await rewards_store.rewards_of(query.receipts, database)
    event = derived_id(query.payer, PersonStarted.topic, query.payer)
    start = await invitations.start_of(query.payer, event, database)
    return Rewards(rewards=tuple(RewardRecord(**dict(row)) for row in rows), **start)
