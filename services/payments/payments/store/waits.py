"""The waits of payments that a clock which steps back would lengthen."""

from datetime import timedelta

from payments.domain.pauses import DAY_S, LONGEST_ASKED_S
from shared.platform.waits import Wait

PULL_BACK_JOBS = """
update invoice_jobs
set due_at = shop_now()
where invoice in (
  select invoice
  from invoice_jobs
  where due_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

PULL_BACK_NOTICES = """
update notices
set due_at = shop_now()
where id in (
  select id
  from notices
  where state in ('waiting', 'asking') and due_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

PULL_BACK_PACE = """
update provider_pace
set next_at = shop_now()
where (acquirer, lane) in (
  select acquirer, lane
  from provider_pace
  where next_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

PULL_BACK_REFUNDS = """
update outgoing_refunds
set due_at = shop_now()
where id in (
  select id
  from outgoing_refunds
  where state in ('held', 'calling', 'pending') and due_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

PULL_BACK_FISCAL_RECEIPTS = """
update fiscal_receipts
set due_at = shop_now()
where id in (
  select id
  from fiscal_receipts
  where state in ('waiting', 'registering') and due_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

WAITS = (
    Wait(("invoice_jobs.due_at",), timedelta(seconds=DAY_S), PULL_BACK_JOBS),
    Wait(("notices.due_at",), timedelta(seconds=LONGEST_ASKED_S), PULL_BACK_NOTICES),
    Wait(("outgoing_refunds.due_at",), timedelta(seconds=LONGEST_ASKED_S), PULL_BACK_REFUNDS),
    Wait(("provider_pace.next_at",), timedelta(seconds=LONGEST_ASKED_S), PULL_BACK_PACE),
    Wait(
        ("fiscal_receipts.due_at",), timedelta(seconds=LONGEST_ASKED_S), PULL_BACK_FISCAL_RECEIPTS
    ),
)
