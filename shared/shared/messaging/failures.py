"""A message that failed alone: it waits as a row for its next try, or it is dead-lettered."""

from typing import Literal

from shared.platform.db import data_is_to_blame, database_is_to_blame

RETRY_S = (1.0, 30.0, 300.0, 3600.0)
"""The pauses before the next tries. Where all are used up and it waits on, the last one repeats."""

Blame = Literal["data", "database", "us"]


def blame_for(error: BaseException) -> Blame:
    if data_is_to_blame(error):
        return "data"
    return "database" if database_is_to_blame(error) else "us"


def is_given_up(blame: Blame, tries: int, *, others_passed: bool) -> bool:
    """Whether the message is dead-lettered after so many failed tries.

    The database may refuse everything for hours, so it is no proof against this message unless
    the handler was done with others meanwhile.
    """
    if blame == "data":
        return True
    return tries > len(RETRY_S) and (blame == "us" or others_passed)


# Where another replica has handled the message there is no row. After the last try the row stays
# until a dead letter takes its place.
WAIT = """
with known as (
  insert into inbox (handler, event_id, digest, hour, outcome)
  values ($1, $2, $3, $4, 'waiting')
  on conflict (handler, event_id) do update
  set outcome = 'waiting'
  where inbox.outcome = 'waiting'
  returning event_id
)
insert into failed_attempts (handler, event_id, subject, headers, body, reason, tries, run_at)
select $1, event_id, $5::text, $6::json, $7::bytea, $8::text, 1,
  shop_now() + interval '1 second' * ($9::float8[])[1]
from known
on conflict (handler, event_id) do update
set
  tries = failed_attempts.tries + 1,
  reason = excluded.reason,
  run_at = shop_now() + interval '1 second'
    * ($9::float8[])[least(failed_attempts.tries + 1, cardinality($9::float8[]))]
returning tries
"""

# Events of that hour or later: an event is not handled long before it is recorded. The time of the
# failure is looked up first, so that the index on the hours is searched from there.
OTHERS_PASSED = """
select exists (
  select from inbox
  where handler = $1
    and outcome = 'done'
    and hour >= (
      select date_trunc('hour', failed_at, 'UTC') - interval '1 hour'
      from failed_attempts
      where handler = $1 and event_id = $2
    )
    and handled_at > (
      select failed_at from failed_attempts where handler = $1 and event_id = $2
    )
)
"""
