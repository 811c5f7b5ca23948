"""People, their refused requests, and the events about their start and their changes."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from bot_gateway.domain.people import Arrival, Language, Person, Shown, code_of
from shared.contracts.bot import PersonChanged, PersonStarted
from shared.contracts.notifier import RecipientRefused
from shared.messaging.outbox import publish
from shared.platform.db import Database, Row, Tx, columns

PERSON_BY_TELEGRAM = """
select person, telegram_id, language, code, offer_version, reachable, screen_id, screen_order,
  screen_awaits
from people
where telegram_id = $1
"""


async def person_by_telegram(telegram_id: int, database: Database) -> Person | None:
    row = await database.fetchrow(PERSON_BY_TELEGRAM, telegram_id)
    return person_from(row) if row else None


PEOPLE_BY_TELEGRAM = """
select person, telegram_id, language, code, offer_version, reachable, screen_id, screen_order,
  screen_awaits
from people
where telegram_id = any($1::bigint[])
"""


async def people_by_telegram(telegram_ids: Sequence[int], database: Database) -> dict[int, Person]:
    rows = await database.fetch(PEOPLE_BY_TELEGRAM, telegram_ids)
    return {row["telegram_id"]: person_from(row) for row in rows}


def person_from(row: Row) -> Person:
    return Person(**{name: row[name] for name in Person.__dataclass_fields__})


PERSON_OF_SCREEN = """
select person, telegram_id, language, code, offer_version, reachable, screen_id, screen_order,
  screen_awaits
from people
where person = $1 and screen_order = $2
"""


async def person_of_screen(person: UUID, order: UUID, database: Database) -> Person | None:
    """None where the person's screen does not offer that order to pay, or does no more."""
    row = await database.fetchrow(PERSON_OF_SCREEN, person, order)
    return person_from(row) if row else None


PERSON_BY_ID = "select telegram_id, language, reachable from people where person = $1"


async def person_by_id(person: UUID, database: Database) -> Row | None:
    return await database.fetchrow(PERSON_BY_ID, person)


PERSONS_BY_TELEGRAM = "select telegram_id, person from people where telegram_id = any($1::bigint[])"


async def persons_by_telegram(telegram_ids: Sequence[int], tx: Tx) -> dict[int, UUID]:
    rows = await tx.fetch(PERSONS_BY_TELEGRAM, telegram_ids)
    return {row["telegram_id"]: row["person"] for row in rows}


INVITER = "select person from people where code = $1"

START_PERSON = """
insert into people
  (person, telegram_id, first_name, username, language, code, invited_by, started_event)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict on constraint a_telegram_id_belongs_to_one_person do nothing
returning person, telegram_id, language, code, offer_version, reachable, screen_id, screen_order,
  screen_awaits
"""


async def start_person(arrival: Arrival, invitation: str | None, tx: Tx) -> Person | None:
    """Store the first /start of a person and publish its event. None when they started before.

    A code that belongs to another person fails the transaction; the next try draws another
    person id and so another code (D-13).
    """
    person = uuid4()
    invited_by = await tx.fetchval(INVITER, invitation) if invitation else None
    started = PersonStarted.caused_by(
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
    await publish(tx, [started])
    return person_from(row)


SET_NAMES = "update people set first_name = $2, username = $3 where telegram_id = $1"


async def set_names(arrival: Arrival, tx: Tx) -> None:
    """Names change; operators search by the newest."""
    await tx.execute(SET_NAMES, arrival.telegram_id, arrival.first_name, arrival.username)


SET_LANGUAGE = """
update people
set language = $2
where telegram_id = $1 and language <> $2
returning person, language, reachable
"""


async def set_language(telegram_id: int, language: Language, cause: str, tx: Tx) -> None:
    """Set the language; a change is published."""
    row = await tx.fetchrow(SET_LANGUAGE, telegram_id, language)
    await _publish_change(row, f"{cause}:language", tx)


SET_REACHABLE = """
update people
set reachable = $2
where telegram_id = $1 and reachable <> $2
returning person, language, reachable
"""


async def set_reachable(telegram_id: int, cause: str, tx: Tx, *, reachable: bool) -> None:
    """The person blocked or unblocked the bot; a change is published."""
    row = await tx.fetchrow(SET_REACHABLE, telegram_id, reachable)
    await _publish_change(row, f"{cause}:reachable", tx)


LOCK_PEOPLE = """
select from people where person = any($1::uuid[]) order by person for no key update
"""

# A person's bucket is filled at each of their visits.
LOSE_PEOPLE = """
update people p
set reachable = exists (
  select from buckets b where b.name = 'from ' || p.telegram_id and b.filled_at > l.refused_at
)
from unnest($1::uuid[], $2::timestamptz[]) as l (person, refused_at)
where p.person = l.person and p.reachable
returning p.person, p.language, p.reachable
"""


async def lose_people(refused: Sequence[RecipientRefused], tx: Tx) -> None:
    """These people are unreachable until their next visit, which is published then.

    A visit after the refusal, by the clocks of two databases, is published at once. `refused` has
    one event per person.
    """
    await tx.execute(LOCK_PEOPLE, [one.about for one in refused])
    causes = {one.about: str(one.id) for one in refused}
    rows = [(one.about, one.at) for one in refused]
    for row in await tx.fetch(LOSE_PEOPLE, *columns(rows, 2)):
        if row["reachable"]:
            await _publish_change(row, causes[row["person"]], tx)


async def _publish_change(row: Row | None, cause: str, tx: Tx) -> None:
    """One update may change both, so the cause names the change too."""
    if row is None:
        return
    changed = PersonChanged.caused_by(
        cause,
        about=row["person"],
        at=await tx.now(),
        language=row["language"],
        reachable=row["reachable"],
    )
    await publish(tx, [changed])


ACCEPT_OFFER = """
update people
set offer_version = $2, offer_accepted_at = shop_now()
where telegram_id = $1 and offer_version is distinct from $2
"""


async def accept_offer(telegram_id: int, version: int, tx: Tx) -> None:
    """Record the acceptance; the time of the first acceptance of a version is kept."""
    await tx.execute(ACCEPT_OFFER, telegram_id, version)


SET_SCREEN = """
update people
set screen_id = $2, screen_order = $3, screen_awaits = $4
where telegram_id = $1
"""


async def set_screen(telegram_id: int, shown: Shown, tx: Tx) -> None:
    await tx.execute(SET_SCREEN, telegram_id, shown.screen_id, shown.order, shown.awaits)


RECORD_REFUSAL = "insert into refusals (person, what, reason) values ($1, $2, $3)"


async def record_refusal(person: UUID | None, what: str, reason: str, tx: Tx) -> None:
    await tx.execute(RECORD_REFUSAL, person, what, reason)


RECORD_REFUSALS = """
insert into refusals (person, what, reason)
select person, what, reason
from unnest($1::uuid[], $2::text[], $3::text[]) as r (person, what, reason)
"""


async def record_refusals(refusals: Sequence[tuple[UUID | None, str, str]], tx: Tx) -> None:
    """Each with the person, what was refused, and the reason."""
    await tx.execute(RECORD_REFUSALS, *columns(refusals, 3))


DROP_OLD_REFUSALS = """
delete from refusals
where id in (
  select id from refusals where at < shop_now() - interval '90 days' order by at limit $1
)
"""
