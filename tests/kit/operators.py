"""Operators in tests: the fields that every act has."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from shared.contracts.operators import Role


def by_operator(role: Role = "owner", reason: str = "a mistake of ours") -> dict[str, Any]:
    """Of an act that olga executes now."""
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    actor = "operator:olga"
    return {
        "id": uuid4(),
        "actor": actor,
        "role": role,
        "reason": reason,
        "deadline_at": deadline,
    }
