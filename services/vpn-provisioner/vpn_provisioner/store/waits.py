"""The waits of vpn-provisioner that a clock which steps back would lengthen."""

from datetime import timedelta

from shared.platform.waits import Wait
from vpn_provisioner.domain.pauses import LONGEST_JOB_PAUSE_S

PULL_BACK_JOBS = """
update access_jobs
set run_at = shop_now()
where (person, node) in (
  select person, node
  from access_jobs
  where state = 'waiting' and run_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

WAITS = (Wait(("access_jobs.run_at",), timedelta(seconds=LONGEST_JOB_PAUSE_S), PULL_BACK_JOBS),)
