"""Answers to queries: access, outlook, key, grant and dead jobs."""

from shared.contracts.message import Refused, derived_id
from shared.contracts.payments import PlanTerms
from shared.contracts.vpn import (
    Access,
    AccessGranted,
    AccessJob,
    AccessQuery,
    DeadJob,
    DeadJobs,
    DeadJobsQuery,
    Grant,
    GrantQuery,
    Key,
    KeyQuery,
    Outlook,
    OutlookQuery,
)
from shared.platform.db import Database
from shared.platform.telemetry import trace_id_of
from vpn_provisioner.domain.access import HOUR, Period, prospect
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.reminders import ends_within_h
from vpn_provisioner.store import jobs, periods, subscriptions

MAX_LISTED = 200


async def answer_access(query: AccessQuery, database: Database) -> Access:
    row = await subscriptions.access_of(query.person, database)
    if row is None:
        return Access(state="none")
    agreed = "up" if row["agreed"] else "issuing"
    return Access(
        state=agreed if row["state"] == "live" else "ended",
        plan=row["plan"],
        devices=row["devices"],
        ends_at=row["ends_at"],
        ends_within_h=ends_within_h(row["ends_at"], row["now"]),
    )


async def answer_outlook(query: OutlookQuery, database: Database) -> Outlook:
    """Foresee a purchase by the fold that decides after the payment.

    Of the wanted terms only plan, length and price matter.
    """
    async with database.transaction() as tx:
        now = await tx.now()
        bought = (await periods.periods_of([query.person], tx))[query.person]
    terms = PlanTerms(
        plan=query.plan,
        months=query.months,
        devices=0,
        traffic_bytes=None,
        node_group="",
        list_month_minor=query.list_month_minor,
    )
    foreseen = prospect(bought, Period(query.person, now, terms))
    return Outlook(
        effect=foreseen.effect,
        plan=foreseen.plan,
        converted_hours=foreseen.converted // HOUR,
        ends_at=foreseen.ends_at,
    )


async def answer_key(query: KeyQuery, database: Database) -> Key | Refused:
    """The link of the first node that lets the person in.

    A renewal that waits for a node takes no key away.
    """
    row = await subscriptions.key_of(query.person, database)
    if row is None or row["state"] != "live":
        return Refused(reason="no_access")
    if row["link_template"] is None:
        return Refused(reason="issuing")
    return Key(link=LinkTemplate(row["link_template"]).link(row["key"]), ends_at=row["ends_at"])


async def answer_grant(query: GrantQuery, database: Database) -> Grant | Refused:
    row = await subscriptions.order_of(query.order, database)
    if row is None:
        return Refused(reason="order_unknown")
    event = (
        derived_id(row["order"], AccessGranted.topic, row["person"])
        if row["announced_at"]
        else None
    )
    of_person = [
        AccessJob(**dict(job)) for job in await subscriptions.jobs_of(row["person"], database)
    ]
    return Grant(**dict(row), event=event, jobs=tuple(of_person))


async def answer_dead_jobs(query: DeadJobsQuery, database: Database) -> DeadJobs:
    rows = await jobs.dead(query.person, MAX_LISTED + 1, database)
    listed = [DeadJob(**{**row, "trace": trace_id_of(row["trace"])}) for row in rows[:MAX_LISTED]]
    return DeadJobs(jobs=tuple(listed), more=len(rows) > MAX_LISTED)
