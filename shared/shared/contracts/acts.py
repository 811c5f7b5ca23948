"""The audit log: what operators did at an owner, and what was refused to them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.message import Query, Value
from shared.contracts.operations import PerOwner, per_owner


class ActRecord(Value):
    """An act of an operator, as the transaction of its effect wrote it."""

    number: int
    """The owner's acts in their order; others than acts leave gaps."""
    act: UUID
    topic: str
    actor: str
    role: str
    reason: str
    executed_at: datetime
    outcome: Literal["done", "refused"]
    refusal: str | None
    """The reason of a refusal."""
    wanted: dict[str, Any]
    """The act's own fields."""
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    """The changed thing. None where the act changes no value that can be compared."""


class ActRecords(Value):
    acts: tuple[ActRecord, ...]
    more: bool


@per_owner("acts")
class ActsQuery(PerOwner, Query[ActRecords]):
    """The acts of operators at the owner, the newest first, a page at a time."""

    answer = ActRecords

    person: UUID | None = None
    """Only the acts that concern this person."""
    before: int | None = Field(default=None, ge=0, lt=2**63)
    """The number of the last act of the page before."""
