"""The verdict on one attempt to make a node agree: agreed, retry, given back, or dead."""

from dataclasses import dataclass
from typing import Literal

from vpn_provisioner.domain.panel import PanelError, PanelUnavailable

MAX_TRIES = 10  # About ten minutes with the pauses in between: enough to repair a node.

Verdict = Literal["agreed", "retry", "given_back", "dead"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A verdict.

    `after_s` is the pause before a retry, in seconds. `error` is the panel's text where the node
    did not agree.
    """

    verdict: Verdict
    after_s: float = 0.0
    error: str | None = None


def judge(failure: PanelError | None, *, tries: int, node_lives: bool, pause_s: float) -> Attempt:
    """Judge an attempt of a job that failed `tries` times before; a retry comes after `pause_s`.

    An absent node is not the job's fault: the job goes back unchanged, however long that lasts,
    and waits until the node's breaker closes. A job that fails on a living node has a bounded
    number of tries.
    """
    if failure is None:
        return Attempt("agreed")
    if isinstance(failure, PanelUnavailable) and not node_lives:
        return Attempt("given_back")
    error = f"{type(failure).__name__}: {failure}"[:500]
    if tries + 1 >= MAX_TRIES:
        return Attempt("dead", error=error)
    return Attempt("retry", pause_s, error)
