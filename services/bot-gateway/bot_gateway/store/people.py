"""Who everybody is: people, what was refused to them, and the facts that tell of both."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from bot_gateway.people import Arrival, Language, Person, code_of
from shared.db import Database, Row, Tx
from shared.facts import PersonChanged, PersonStarted
from shared.outbox import tell

PERSON_BY_TELEGRAM = """
select person, telegram_id, language, code, offer_version, reachable, screen_id, screen_order
from people
where telegram_id = $1
"""


async def person_by_telegram(telegram_id: int, database: Database) -> Person | None:
    row = await database.fetchrow(PERSON_BY_TELEGRAM, telegram_id)
    return person_from(row) if row else None


def person_from(row: Row) -> Person:
    return Person(**{name: row[name] for name in Person.__dataclass_fields__})


PERSON_BY_ID = "select telegram_id, language, reachable from people where person = $1"


async def person_by_id(person: UUID, database: Database) -> Row | None:
    return await database.fetchrow(PERSON_BY_ID, person)


PERSONS_BY_TELEGRAM = "select telegram_id, person from people where telegram_id = any($1::bigint[])"


async def persons_by_telegram(telegram_ids: Sequence[int], tx: Tx) -> dict[int, UUID]:
    rows = await tx.fetch(PERSONS_BY_TELEGRAM, telegram_ids)
    return {row["telegram_id"]: row["person"] for row in rows}


INVITER = "select person from people where code = $1"

START_PERSON = """
insert into people (person, telegram_id, first_name, username, language, code, invited_by, started_fact)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict on constraint somebody_is_one_person do nothing
returning person, telegram_id, language, code, offer_version, reachable, screen_id, screen_order
"""


async def start_person(arrival: Arrival, invitation: str | None, tx: Tx) -> Person | None:
    """The first /start of a life, with its fact; None for somebody who started before.

    A code that was drawn for somebody else already fails the transaction; the next try draws another person (D-13).
    """
    person = uuid4()
    invited_by = await tx.fetchval(INVITER, invitation) if invitation else None
    started = PersonStarted.because(
        person, about=person, at=await tx.now(), code=arrival.payload, invited_by=invited_by
    )
    row = await tx.fetchrow(
        START_PERSON,
        person,
        arrival.telegram_id,
        arrival.first_name,
        arrival.username,
        arrival.language,
        code_of(person),
        invited_by,
        started.id,
    )
    if row is None:
        return None
    await tell(tx, [started])
    return person_from(row)


KNOW_AGAIN = "update people set first_name = $2, username = $3 where telegram_id = $1"


async def know_again(arrival: Arrival, tx: Tx) -> None:
    """Names change; the newest is the one that operators search by."""
    await tx.execute(KNOW_AGAIN, arrival.telegram_id, arrival.first_name, arrival.username)


SPEAK = """
update people
set language = $2
where telegram_id = $1 and language <> $2
returning person, language, reachable
"""


async def speak(telegram_id: int, language: Language, cause: str, tx: Tx) -> None:
    """Another language from now on; told when it is another one."""
    await _tell_changed(await tx.fetchrow(SPEAK, telegram_id, language), cause, tx)


REACH = """
update people
set reachable = $2
where telegram_id = $1 and reachable <> $2
returning person, language, reachable
"""


async def reach(telegram_id: int, cause: str, tx: Tx, *, reachable: bool) -> None:
    """The person blocked us or let us in again; told when that is news."""
    await _tell_changed(await tx.fetchrow(REACH, telegram_id, reachable), cause, tx)


async def _tell_changed(row: Row | None, cause: str, tx: Tx) -> None:
    if row is None:
        return
    changed = PersonChanged.because(
        cause, about=row["person"], at=await tx.now(), language=row["language"], reachable=row["reachable"]
    )
    await tell(tx, [changed])


ACCEPT_OFFER = """
update people
set offer_version = $2, offer_accepted_at = now()
where telegram_id = $1 and offer_version is distinct from $2
"""


async def accept_offer(telegram_id: int, version: int, tx: Tx) -> None:
    """Keeps the moment of the first acceptance of a version."""
    await tx.execute(ACCEPT_OFFER, telegram_id, version)


KEEP_SCREEN = "update people set screen_id = $2, screen_order = $3 where telegram_id = $1"


async def keep_screen(telegram_id: int, screen_id: int, order: UUID | None, tx: Tx) -> None:
    """Where the screen is, and which order it offers to pay."""
    await tx.execute(KEEP_SCREEN, telegram_id, screen_id, order)


REFUSE = "insert into refusals (person, what, reason) values ($1, $2, $3)"


async def refuse(person: UUID | None, what: str, reason: str, tx: Tx) -> None:
    await tx.execute(REFUSE, person, what, reason)


DROP_OLD_REFUSALS = "delete from refusals where at < now() - interval '90 days'"


async def drop_old_refusals(database: Database) -> None:
    await database.execute(DROP_OLD_REFUSALS)
