"""What vpn-provisioner publishes, answers and executes."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.contracts.message import Event, Query, Value, Word, added
from shared.contracts.operators import Act

Effect = Literal["begins", "extends", "converts"]
"""A new period begins, the present one goes on, or another plan takes over paid time."""

# Events


class AccessGranted(Event):
    """The panel agrees that the person may use the VPN. The cause is the order or other source."""

    topic = "vpn.access.granted"

    order: UUID
    plan: Word
    devices: int
    ends_at: datetime
    effect: Effect = added("begins")
    """What the order made of the access before it. Events older than this field do not say."""
    plan_before: Word | None = added(None)
    """The plan of the access before it. None where the access begins."""
    converted_hours: int = added(0)
    """The rest of that plan in whole hours of the new one. 0 unless it converts."""
    new_link: bool = added(False)
    """The access went on at other nodes: the key needs another link there."""


class AccessEnded(Event):
    """The period is over and the panel confirmed the removal. The cause is the period's end."""

    topic = "vpn.access.ended"

    ended_at: datetime
    refunded: bool = added(False)
    """Whether a refund ended it: its own message says so."""


class AccessExpiring(Event):
    """The access ends soon. The cause is its end and the step: each step is published once."""

    topic = "vpn.access.expiring"

    ends_at: datetime
    hours: int
    """The step: the end is within so many hours. 72, 24 or 3."""


EVENTS: tuple[type[Event], ...] = (AccessGranted, AccessEnded, AccessExpiring)


# Queries of other services


class Access(Value):
    state: Literal["none", "issuing", "up", "ended"]
    plan: str | None = None
    devices: int | None = None
    ends_at: datetime | None = None
    ends_within_h: int | None = None
    """The shortest step of the reminders that the end is within: 3, 24 or 72 hours."""
    used_bytes: int | None = None


class AccessQuery(Query[Access]):
    """The access of a person and its end. It is `issuing` until the panel agrees."""

    topic = "vpn.access"
    answer = Access

    person: UUID


class Outlook(Value):
    """What a purchase would make of the present access of a person."""

    effect: Effect
    plan: str | None
    """The present plan. None without access."""
    converted_hours: int
    """The rest of the present plan in whole hours of the new plan. 0 unless it converts."""
    ends_at: datetime
    """When the access would end."""


class OutlookQuery(Query[Outlook]):
    """The outcome of buying a plan for this many months, if it were paid now."""

    topic = "vpn.outlook"
    answer = Outlook

    person: UUID
    plan: Word
    months: int
    list_month_minor: int
    """The one-month list price in kopecks, as an order freezes it. Paid time converts by it."""


class Key(Value):
    link: str
    ends_at: datetime


class KeyQuery(Query[Key]):
    """The key itself, asked for when it is shown or sent. Refused: `no_access`, `issuing`."""

    topic = "vpn.key"
    answer = Key

    person: UUID


# Commands


class Replayed(Value):
    replayed: int


class ReplayJobs(Act[Replayed]):
    """Run dead access jobs again, of one person or of everybody. Refused: `no_dead_jobs`."""

    topic = "vpn.replay_jobs"
    answer = Replayed

    person: UUID | None


# Queries of operators


class DeadJob(Value):
    person: UUID
    node: str
    present: bool
    """Whether the job was to add the person to the node (True) or to remove them."""
    tries: int
    error: str | None
    died_at: datetime
    trace: str | None


class DeadJobs(Value):
    jobs: tuple[DeadJob, ...]
    more: bool


class DeadJobsQuery(Query[DeadJobs]):
    """Dead access jobs, the oldest first, at most 200; of one person where one is named."""

    topic = "vpn.dead_jobs"
    answer = DeadJobs

    person: UUID | None = None


class AccessJob(Value):
    node: str
    present: bool
    state: Literal["waiting", "agreed", "dead"]
    tries: int
    run_at: datetime
    agreed_at: datetime | None
    error: str | None


class Grant(Value):
    """What an order gave, and how far the nodes are with it."""

    order: UUID
    person: UUID
    handled_at: datetime
    age_s: float
    announced_at: datetime | None
    withdrawn: bool = False
    """The order was refunded before it was granted."""
    event: UUID | None
    state: Literal["live", "ending", "ended"]
    ends_at: datetime
    jobs: tuple[AccessJob, ...]


class GrantQuery(Query[Grant]):
    """The access that an order bought. Refused: `order_unknown`."""

    topic = "vpn.grant"
    answer = Grant

    order: UUID
