"""The waits of bot-gateway that a clock which steps back would lengthen."""

from datetime import timedelta

from shared.platform.waits import SKEW, Wait

# Leases, and pauses that Telegram asks for: after this time it is asked again.
LONGEST_PAUSE = timedelta(minutes=10)
# The longest back-off of a report, and more than the lease of a pre-checkout.
LONGEST_HOLD = timedelta(minutes=5)
# A pause that Telegram asks for, of the listing of Stars; and the time between two walks.
LONGEST_STAR_PAUSE = timedelta(minutes=15)
BETWEEN_STAR_WALKS = timedelta(hours=1)

PULL_BACK_CHATS = """
update chat_leases
set held_until = shop_now()
where chat in (
  select chat from chat_leases where held_until > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_UPDATES = """
update updates
set held_until = shop_now()
where seq in (
  select seq
  from updates
  where state = 'waiting'
    and lane in ('money', 'checkout')
    and held_until > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

PULL_BACK_BUCKETS = """
update buckets
set filled_at = shop_now()
where name in (
  select name from buckets where filled_at > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_PAUSES = """
update buckets
set refused_until = least(refused_until, shop_now()), paused_until = least(paused_until, shop_now())
where name in (
  select name
  from buckets
  where refused_until > shop_now() + $1::interval or paused_until > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

PULL_BACK_CHECKOUTS = """
update checkout_holds
set approved_at = shop_now()
where payload in (
  select payload from checkout_holds where approved_at > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_STAR_WALKS = """
update star_walks
set held_until = shop_now()
where bot in (
  select bot from star_walks where held_until > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_DUE_WALKS = """
update star_walks
set due_at = shop_now()
where bot in (
  select bot from star_walks where due_at > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_STAR_REFUNDS = """
update star_refunds
set held_until = shop_now()
where id in (
  select id from star_refunds where state = 'waiting' and held_until > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

WAITS = (
    Wait(("chat_leases.held_until",), LONGEST_PAUSE, PULL_BACK_CHATS),
    Wait(("updates.held_until",), LONGEST_HOLD, PULL_BACK_UPDATES),
    Wait(("buckets.filled_at",), SKEW, PULL_BACK_BUCKETS),
    Wait(("buckets.refused_until", "buckets.paused_until"), LONGEST_PAUSE, PULL_BACK_PAUSES),
    Wait(("checkout_holds.approved_at",), SKEW, PULL_BACK_CHECKOUTS),
    Wait(("star_refunds.held_until",), LONGEST_STAR_PAUSE, PULL_BACK_STAR_REFUNDS),
    Wait(("star_walks.held_until",), LONGEST_STAR_PAUSE, PULL_BACK_STAR_WALKS),
    Wait(("star_walks.due_at",), BETWEEN_STAR_WALKS, PULL_BACK_DUE_WALKS),
)
