"""The one protocol for every kind of VPN panel: absolute wishes, acts that may be repeated, outcomes as values."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

# PanelError
# ├── PanelUnavailable   try again
# └── PanelRefused       trying again will not help


class PanelError(Exception):
    """A panel did not do what it was asked; the message says why, in the panel's words, and holds no key."""


class PanelUnavailable(PanelError):  # noqa: N818 - it is also an outcome, and says what came of a wish.
    """The panel did not answer, not in time, or not with what was written: nothing is known, ask the same again."""


class PanelRefused(PanelError):  # noqa: N818 - an outcome, too.
    """The panel understood and said no, or is not what our settings say it is: somebody must look."""


Limit = Literal["until", "devices", "traffic_bytes"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a panel is to hold for one person: absolute, so that asking twice is the same as asking once.

    `until` has a time zone; `devices` and `traffic_bytes` are None where the plan sets no limit.
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
        """The user's name on the panel, its `email`: the person id and nothing that would tell who it is."""
        return label_of(self.person_id)


@dataclass(frozen=True, slots=True)
class PanelUser:
    """What a panel holds under one label, ours or not.

    `active` says that the panel is set to let the key in. A limit that the panel does not keep is None.
    """

    label: str
    key: UUID = field(repr=False)
    active: bool = True
    until: datetime | None = None
    devices: int | None = None
    traffic_bytes: int | None = None

    @property
    def person_id(self) -> UUID | None:
        """Whose it is; None where the label is not of our form: not made by us, not ours to remove."""
        return person_of(self.label)


@dataclass(frozen=True, slots=True)
class Usage:
    """What went through one person's key, from them (`up`) and to them (`down`), since the panel's incarnation."""

    up_bytes: int
    down_bytes: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """A sign of life.

    `incarnation` stays the same for as long as the panel keeps what it was given. Another one means that users may be
    lost: all must be put back. `users` counts ours and others. `uptime_s` is None where the panel does not tell.
    """

    incarnation: str
    users: int
    uptime_s: int | None


class Panel(Protocol):
    """A VPN panel or node. Every call ends within the window's own time-outs.

    `ensure` and `remove` never raise a `PanelError`: each wish of a batch has its own outcome, in the order asked, so
    one refusal stops no other. An outcome is good only after it was read back from the panel. The other calls raise.
    """

    @property
    def enforces(self) -> frozenset[Limit]:
        """The limits that the panel itself keeps; the others are ours to keep, by `remove` and at the link."""

    async def ensure(self, wanted: Sequence[Wanted]) -> Sequence[PanelUser | PanelError]:
        """Make the panel hold exactly this for each person, whatever it held before under that label.

        People and keys are distinct within a batch.
        """

    async def remove(self, person_ids: Sequence[UUID]) -> Sequence[PanelError | None]:
        """Shut these people out; None for each whom the panel then no longer lets in, also when it never did."""

    async def read(self, person_id: UUID) -> PanelUser | None:
        """What the panel holds for this person."""

    def users(self) -> AsyncIterator[PanelUser]:
        """Everybody whom the panel holds, ours and others, in no order."""

    async def usage(self) -> Mapping[UUID, Usage]:
        """Traffic of our people; who never used the key may be absent. Reading resets nothing."""

    async def vitals(self) -> Vitals:
        """Whether the panel lives and still is the one that was given its users."""

    async def close(self) -> None:
        """Let go of the connection; no call follows."""


def label_of(person_id: UUID) -> str:
    """The user's name on any panel."""
    return str(person_id)


def person_of(label: str) -> UUID | None:
    """The reverse of `label_of`, None for anything that it would not have written."""
    try:
        person_id = UUID(label)
    except ValueError:
        return None
    return person_id if label_of(person_id) == label else None


def agrees(user: PanelUser | None, wanted: Wanted, enforces: frozenset[Limit]) -> bool:
    """Whether a panel that keeps these limits holds what is wanted; ends are compared by the second."""
    return (
        user is not None
        and user.active
        and user.label == wanted.label
        and user.key == wanted.key
        and all(_coarse(getattr(user, limit)) == _coarse(getattr(wanted, limit)) for limit in enforces)
    )


def _coarse(limit: datetime | int | None) -> datetime | int | None:
    """A limit as any panel can hold it: some keep ends in milliseconds, some in seconds."""
    return limit.replace(microsecond=0) if isinstance(limit, datetime) else limit
