"""Operators: their roles, their acts, and the one table of which role may execute which act."""

from collections.abc import Mapping
from typing import Annotated, Generic, Literal

from pydantic import Field, StringConstraints

from shared.contracts.message import MAX_REASON_CHARACTERS, Answer, Command
from shared.contracts.owners import OWNERS

Role = Literal["owner", "admin", "support"]

ROLES: tuple[Role, ...] = ("owner", "admin", "support")

OPERATOR_PATTERN = r"^[A-Za-z0-9._@+-]{1,64}$"

OperatorName = Annotated[str, Field(max_length=64, pattern=OPERATOR_PATTERN)]
"""The name of an operator, or the Telegram id: a name of digits only."""

Why = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    Field(min_length=1, max_length=MAX_REASON_CHARACTERS, pattern=r"^[^\x00]+$"),
]
"""The reason of an act, in the words of its operator. PostgreSQL stores no NUL."""


class Act(Command[Answer], Generic[Answer]):
    """A command of an operator. Its row is the audit log: who, as what, why, before and after.

    `role` is the role that bot-gateway answered for the operator (`OperatorQuery`). A role that
    may not execute the act is refused as `not_allowed`.
    """

    role: Role
    reason: Why


EVERYBODY = frozenset[Role](ROLES)
NOT_SUPPORT = frozenset[Role]({"owner", "admin"})
ONLY_OWNERS = frozenset[Role]({"owner"})

ALLOWED: Mapping[str, frozenset[Role]] = {
    **{f"{owner}.replay_dead_letter": EVERYBODY for owner in OWNERS},
    "vpn.replay_jobs": EVERYBODY,
    "bot.set_operator": ONLY_OWNERS,
    "payments.reconcile": EVERYBODY,
    "payments.adjust_balance": NOT_SUPPORT,
    "payments.record_withdrawal": ONLY_OWNERS,
    "payments.set_price": NOT_SUPPORT,
    "payments.set_plan": NOT_SUPPORT,
    "payments.set_rate": NOT_SUPPORT,
    "payments.set_way": NOT_SUPPORT,
    "payments.resolve_parked": NOT_SUPPORT,
    "payments.refund": NOT_SUPPORT,
    "payments.resolve_refund": NOT_SUPPORT,
}
"""By topic: the roles that may execute an act. Nobody may execute an act that is not here.

Support neither gives nor takes money and changes no price; admins do all but change operators
and book what the owner withdrew.
"""


def may_execute(role: Role, topic: str) -> bool:
    return role in ALLOWED.get(topic, frozenset())
