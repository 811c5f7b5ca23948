"""Values of every kind of panel: wanted and held users, outcomes, and signs of life.

PanelError
├── PanelUnavailable   try again
└── PanelRefused       trying again will not help
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID


class PanelError(Exception):
    """A panel did not do what was asked. The message gives its reason and holds no key."""


class PanelUnavailable(PanelError):  # noqa: N818 - it is also the outcome of a wish.
    """No answer, a late one, or other content than was written. Nothing is known: ask again."""


class PanelRefused(PanelError):  # noqa: N818 - it is also the outcome of a wish.
    """The panel refused, or differs from our settings. An operator must act."""


Limit = Literal["until", "devices", "traffic_bytes"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The state that a panel is to hold for one person. It is absolute, so repeats are harmless.

    `until` has a time zone. `devices` and `traffic_bytes` are None where the plan has no limit.
    """

    person_id: UUID
    key: UUID = field(repr=False)
    until: datetime
    devices: int | None = None
    traffic_bytes: int | None = None

    def __post_init__(self) -> None:
        assert self.until.tzinfo is not None, "an end without a time zone"

    @property
    def label(self) -> str:
        """The user's name on the panel, its `email`: the person id, which identifies nobody."""
        return label_of(self.person_id)


@dataclass(frozen=True, slots=True)
class PanelUser:
    """A user of the panel, ours or not.

    `active` means that the panel is set to let the key in. A limit that the panel does not keep
    is None.
    """

    label: str
    key: UUID = field(repr=False)
    active: bool = True
    until: datetime | None = None
    devices: int | None = None
    traffic_bytes: int | None = None

    @property
    def person_id(self) -> UUID | None:
        """The person. None for a label of another form: we did not make it and do not remove it."""
        return person_of(self.label)


@dataclass(frozen=True, slots=True)
class Usage:
    """Traffic of one person's key in this incarnation of the panel: sent and received by them."""

    up_bytes: int
    down_bytes: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """A sign of life.

    `incarnation` stays the same as long as the panel keeps its users. After a change users may be
    lost, and all must be put back. `users` counts ours and others.
    """

    incarnation: str
    users: int


def label_of(person_id: UUID) -> str:
    """The user's name on any panel."""
    return str(person_id)


def person_of(label: str) -> UUID | None:
    """The reverse of `label_of`. None for any text that it would not have written."""
    try:
        person_id = UUID(label)
    except ValueError:
        return None
    return person_id if label_of(person_id) == label else None


def agrees(user: PanelUser | None, wanted: Wanted, enforces: frozenset[Limit]) -> bool:
    """Whether a panel that keeps these limits holds the wanted user. Ends compare by the second."""
    return (
        user is not None
        and user.active
        and user.label == wanted.label
        and user.key == wanted.key
        and all(
            _coarse(getattr(user, limit)) == _coarse(getattr(wanted, limit)) for limit in enforces
        )
    )


def _coarse(limit: datetime | int | None) -> datetime | int | None:
    """A limit as any panel can hold it: some keep ends in milliseconds, some in seconds."""
    return limit.replace(microsecond=0) if isinstance(limit, datetime) else limit
