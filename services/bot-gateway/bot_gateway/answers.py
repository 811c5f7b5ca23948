"""Doors for questions: where a person is written to."""

from bot_gateway.store import people
from shared.contract import Refused
from shared.db import Database
from shared.questions import AskRecipient, Recipient


async def answer_recipient(question: AskRecipient, database: Database) -> Recipient | Refused:
    """A private chat has the id of its person."""
    row = await people.person_by_id(question.person, database)
    if row is None:
        return Refused(reason="person_unknown")
    return Recipient(chat_id=row["telegram_id"], language=row["language"], reachable=row["reachable"])
