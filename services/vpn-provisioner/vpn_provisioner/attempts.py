"""What comes of one attempt to make a node agree: agreed, tried again later, given back, or dead."""

from dataclasses import dataclass
from typing import Literal

from vpn_provisioner.panels.protocol import PanelError, PanelUnavailable

MOST_TRIES = 10  # With the pauses between them some ten minutes: long enough for a node that is being mended.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0

Verdict = Literal["agreed", "again", "given_back", "dead"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The verdict; how long to wait, in seconds, where it is tried again; the node's words where it did not agree."""

    verdict: Verdict
    after_s: float = 0.0
    error: str | None = None


def judge(failure: PanelError | None, *, tries: int, node_lives: bool, jitter: float) -> Attempt:
    """Judge an attempt of a job that failed `tries` times before; `jitter` is drawn between 0 and 1.

    A node that is away is not the job's fault: the job goes back as it was, however long that lasts, and waits behind
    the node's breaker. A job that fails on a living node has a bounded number of tries.
    """
    if failure is None:
        return Attempt("agreed")
    if isinstance(failure, PanelUnavailable) and not node_lives:
        return Attempt("given_back")
    error = f"{type(failure).__name__}: {failure}"[:500]
    if tries + 1 >= MOST_TRIES:
        return Attempt("dead", error=error)
    return Attempt("again", pause_s(tries, jitter), error)


def pause_s(failures: int, jitter: float, *, longest_s: float = LONGEST_PAUSE_S) -> float:
    """Seconds before the next try after so many failures and one: doubling to a bound, then half of it by lot."""
    whole = min(FIRST_PAUSE_S * 2.0 ** min(failures, 32), longest_s)
    return whole * (0.5 + jitter / 2)
