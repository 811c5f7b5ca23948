"""The SQL of e-mails that people gave for receipts of the tax office."""

from uuid import UUID

from shared.platform.db import Database, Tx

EMAIL = "select email from receipt_emails where person = $1"


async def answer_of(person: UUID, tx: Tx | Database) -> tuple[str | None] | None:
    """The e-mail, or None in its place where the person gave none. None: nobody asked yet."""
    row = await tx.fetchrow(EMAIL, person)
    return (row["email"],) if row else None


SET = """
insert into receipt_emails (person, email)
values ($1, $2)
on conflict (person) do update
set email = excluded.email, answered_at = shop_now()
"""


async def set_email(person: UUID, email: str | None, tx: Tx) -> None:
    await tx.execute(SET, person, email)
