"""Pauses before another try: doubling, with a random half."""

from shared.platform.backoff import backoff

FIRST_PAUSE_S = 1.0
LONGEST_JOB_PAUSE_S = 300.0
LONGEST_PROBE_PAUSE_S = 5.0


def pause_s(failures: int, jitter: float, *, longest_s: float) -> float:
    """Seconds before the next try after so many failures before this one.

    The pause doubles up to `longest_s`. `jitter`, drawn between 0 and 1, decides half of it, so
    that tries that failed together do not come back together.
    """
    return backoff(failures, first_s=FIRST_PAUSE_S, longest_s=longest_s) * (0.5 + jitter / 2)
