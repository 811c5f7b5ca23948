"""The waits of notifier that a clock which steps back would lengthen."""

from datetime import timedelta

from shared.platform.waits import SKEW, Wait

# Longer than any pause that is written; the function `soon` has the same bound.
LONGEST_PAUSE = timedelta(minutes=30)

# A chat is due with its next message, so the messages are pulled back with their chat.
PULL_BACK_CHATS = """
with late as (
  select person
  from recipients
  where due_at > shop_now() + $1::interval
  for update skip locked
  limit $2
), messages as (
  update deliveries d
  set not_before = shop_now()
  from late l
  where d.person = l.person and d.state = 'waiting' and d.not_before > shop_now() + $1::interval
)
update recipients r
set due_at = shop_now(), called_at = least(called_at, shop_now())
from late l
where r.person = l.person
"""

PULL_BACK_BUCKET = """
update buckets
set filled_at = shop_now()
where name in (
  select name from buckets where filled_at > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_PAUSED_CHATS = """
update recipients
set paused_until = shop_now()
where person in (
  select person from recipients where paused_until > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_PAUSE = """
update buckets
set paused_until = least(paused_until, shop_now()), refused_until = least(refused_until, shop_now())
where name in (
  select name from buckets where greatest(paused_until, refused_until) > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

WAITS = (
    Wait(("recipients.due_at", "deliveries.not_before"), LONGEST_PAUSE, PULL_BACK_CHATS),
    Wait(("buckets.filled_at",), SKEW, PULL_BACK_BUCKET),
    Wait(("recipients.paused_until",), LONGEST_PAUSE, PULL_BACK_PAUSED_CHATS),
    Wait(("buckets.paused_until", "buckets.refused_until"), LONGEST_PAUSE, PULL_BACK_PAUSE),
)
