"""The SQL of the pace at which all replicas together ask a provider, and of its pauses.

A statement that claims work takes the pace of its lane in the same statement: it claims nothing
before `next_at`, and moves it by as many calls as it claimed.
"""

from datetime import timedelta
from typing import Literal

from shared.platform.db import Database

Lane = Literal["open", "notice", "watch", "refund"]

MAX_FAILURES = 10
"""A constraint of `provider_pace` holds the same."""

SET_PACE = """
update provider_pace
set failures = $3,
  next_at = greatest(next_at, shop_now() + $4::interval)
where acquirer = $1 and lane = $2
"""


async def set_pace(
    acquirer: str, lane: Lane, failures: int, pause_s: float, database: Database
) -> None:
    """Record so many failures in a row of the provider, and ask it nothing for so long."""
    pause = timedelta(seconds=pause_s)
    await database.execute(SET_PACE, acquirer, lane, min(failures, MAX_FAILURES), pause)
