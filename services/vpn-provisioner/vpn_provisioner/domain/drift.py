"""The difference between the users that a node holds and those that it agreed to hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job as it was after the node was listed.

    `settled` means that the node agreed before the listing began.
    """

    person: UUID
    key: UUID = field(repr=False)
    present: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """People that a node lacks, and people that it holds although they were removed."""

    missing: frozenset[UUID]
    unwanted: frozenset[UUID]


def find_drift(held: Mapping[UUID, UUID], jobs: Iterable[ListedJob]) -> Drift:
    """Compare the keys that a node holds, by person, with some of its jobs.

    A job that is not settled shows no drift: its effect came after the listing, or is to come.
    """
    settled = [job for job in jobs if job.settled]
    return Drift(
        missing=frozenset(
            job.person for job in settled if job.present and held.get(job.person) != job.key
        ),
        unwanted=frozenset(job.person for job in settled if not job.present and job.person in held),
    )
