"""The door for questions and commands: what a person may use, the key, what an order gave, dead jobs, their replay."""

from collections.abc import Callable
from datetime import timedelta

from shared.commands import Replayed, ReplayJobs
from shared.contract import Refused, derived_id
from shared.db import Database, Tx
from shared.facts import AccessGranted, Terms
from shared.inspection import AccessJob, AskDeadJobs, AskGrant, DeadJob, DeadJobs, Grant
from shared.questions import Access, AskAccess, AskKey, AskOutlook, Key, Outlook
from shared.telemetry import trace_id_of
from vpn_provisioner.access import Period, prospect
from vpn_provisioner.panels.xray import LinkTemplate
from vpn_provisioner.store import jobs, subscriptions

MOST_REPLAYED = 10_000
MOST_LISTED = 200
HOUR = timedelta(hours=1)


async def answer_access(question: AskAccess, database: Database) -> Access:
    row = await subscriptions.access_of(question.person, database)
    if row is None:
        return Access(state="none")
    agreed = "up" if row["agreed"] else "issuing"
    return Access(
        state=agreed if row["state"] == "live" else "ended",
        plan=row["plan"],
        devices=row["devices"],
        ends_at=row["ends_at"],
    )


async def answer_outlook(question: AskOutlook, database: Database) -> Outlook:
    """By the same fold that decides after the payment; of what is wanted only its plan, length and price matter."""
    async with database.transaction() as tx:
        now = await tx.now()
        periods = (await subscriptions.periods_of([question.person], tx))[question.person]
    terms = Terms(
        plan=question.plan,
        months=question.months,
        devices=0,
        traffic_bytes=None,
        node_group="",
        list_month_minor=question.list_month_minor,
    )
    foreseen = prospect(periods, Period(question.person, now, terms))
    return Outlook(
        effect=foreseen.effect,
        plan=foreseen.plan,
        converted_hours=foreseen.converted // HOUR,
        ends_at=foreseen.ends_at,
    )


async def answer_key(question: AskKey, database: Database) -> Key | Refused:
    """The link of the first node that lets the person in; a renewal that waits for a node takes no key away."""
    row = await subscriptions.key_of(question.person, database)
    if row is None or row["state"] != "live":
        return Refused(reason="no_access")
    if row["link_template"] is None:
        return Refused(reason="issuing")
    return Key(link=LinkTemplate(row["link_template"]).link(row["key"]), ends_at=row["ends_at"])


async def answer_grant(question: AskGrant, database: Database) -> Grant | Refused:
    row = await subscriptions.order_of(question.order, database)
    if row is None:
        return Refused(reason="order_unknown")
    fact = derived_id(row["order"], AccessGranted.topic, row["person"]) if row["told_at"] else None
    of_person = [AccessJob(**dict(job)) for job in await subscriptions.jobs_of(row["person"], database)]
    return Grant(**dict(row), fact=fact, jobs=tuple(of_person))


async def answer_dead_jobs(question: AskDeadJobs, database: Database) -> DeadJobs:
    rows = await jobs.dead(question.person, MOST_LISTED + 1, database)
    listed = [DeadJob(**{**row, "trace": trace_id_of(row["trace"])}) for row in rows[:MOST_LISTED]]
    return DeadJobs(jobs=tuple(listed), more=len(rows) > MOST_LISTED)


async def replay_jobs(command: ReplayJobs, tx: Tx, *, wake: Callable[[], None]) -> Replayed | Refused:
    """Let dead jobs run again, at most `MOST_REPLAYED` of them."""
    revived = await jobs.revive(command.person, MOST_REPLAYED, tx)
    if not revived:
        return Refused(reason="no_dead_jobs")
    tx.after_commit(wake)
    return Replayed(replayed=revived)
