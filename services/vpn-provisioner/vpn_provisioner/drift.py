"""What a node holds against what it agreed to hold: who is missing there, and who is there though shut out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Listed:
    """A job as it stood when the node had been listed; `settled` says that it was agreed before the listing began."""

    person: UUID
    key: UUID = field(repr=False)
    present: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class Drift:
    missing: frozenset[UUID]
    unwanted: frozenset[UUID]


def compare(held: Mapping[UUID, UUID], jobs: Iterable[Listed]) -> Drift:
    """Compare the keys that a node holds, by person, with some of its jobs.

    A job that is not settled is nobody's drift: it has yet to do what the listing did not show.
    """
    settled = [job for job in jobs if job.settled]
    return Drift(
        missing=frozenset(job.person for job in settled if job.present and held.get(job.person) != job.key),
        unwanted=frozenset(job.person for job in settled if not job.present and job.person in held),
    )
