"""How long payments waits before it asks a provider again."""

from shared.platform.backoff import backoff

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
LONGEST_JOB_PAUSE_S = 300.0
LONGEST_ASKED_S = 3_600.0
"""A provider may ask for more patience. It is asked again after an hour."""
DAY_S = 86_400.0
WATCHED_DAYS_AFTER_THE_END = 30

WHILE_PAYABLE_S = (5.0, 10.0, 30.0, 60.0, 300.0)
"""Between the questions about an invoice that may be paid. The last one is repeated."""
ON_THE_FIRST_DAY_S = 3_600.0


def pause_of_provider_s(failures: int, asked_s: float = 0.0) -> float:
    """After so many failures in a row of a provider before this one, or what it asked for."""
    own_s = backoff(failures, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
    return min(max(asked_s, own_s), LONGEST_ASKED_S)


def pause_of_job_s(tries: int, asked_s: float = 0.0) -> float:
    """After so many failed tries of one job before this one, or what the provider asked for."""
    own_s = backoff(tries, first_s=2.0, longest_s=LONGEST_JOB_PAUSE_S)
    return min(max(asked_s, own_s), LONGEST_ASKED_S)


def watch_after_s(reads: int, past_end_s: float) -> float | None:
    """When to ask again about an unpaid invoice after so many answers.

    `past_end_s` is negative while it may be paid. None: its money would now be found by
    reconciliation only.
    """
    if past_end_s < 0:
        return WHILE_PAYABLE_S[min(reads, len(WHILE_PAYABLE_S) - 1)]
    if past_end_s < DAY_S:
        return ON_THE_FIRST_DAY_S
    return DAY_S if past_end_s < WATCHED_DAYS_AFTER_THE_END * DAY_S else None
