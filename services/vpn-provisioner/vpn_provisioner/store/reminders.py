"""The time of each subscription's next reminder."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from shared.platform.db import Tx, columns
from vpn_provisioner.domain.reminders import Expiring

CLAIM = """
select person, ends_at, end_moved_at
from subscriptions
where state = 'live' and remind_at <= shop_now()
order by remind_at
limit $1
for no key update skip locked
"""


async def claim(most: int, tx: Tx) -> dict[UUID, Expiring]:
    """Lock live subscriptions whose next step has begun, the longest due first."""
    return {
        row["person"]: Expiring(row["ends_at"], row["end_moved_at"])
        for row in await tx.fetch(CLAIM, most)
    }


SCHEDULE = """
update subscriptions s
set remind_at = n.remind_at
from unnest($1::uuid[], $2::timestamptz[]) as n (person, remind_at)
where s.person = n.person
"""


async def schedule(next_at: Mapping[UUID, datetime | None], tx: Tx) -> None:
    """Write the time of the next step into locked subscriptions; None after the last one."""
    await tx.execute(SCHEDULE, *columns(list(next_at.items()), 2))
