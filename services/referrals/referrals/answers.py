"""What referrals answers when somebody looks at his invitations."""

from referrals import store
from referrals.rewards import terms_of
from shared.db import Database
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
