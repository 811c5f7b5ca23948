"""Whether a node is worth asking: open after a sign that it is away, closed by a sign of life."""

from dataclasses import dataclass

from vpn_provisioner.attempts import pause_s

LONGEST_PROBE_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """While it is open no job of the node is taken; the watch alone asks, and its probes grow rarer.

    One missed sign of life opens it: the window's time-outs and reconnects lie behind that sign already.
    """

    failures: int = 0

    @property
    def closed(self) -> bool:
        return self.failures == 0

    def failed(self) -> "Breaker":
        return Breaker(self.failures + 1)

    def probe_after_s(self, jitter: float) -> float:
        """Seconds until the watch asks again; `jitter` is drawn between 0 and 1."""
        return pause_s(max(self.failures - 1, 0), jitter, longest_s=LONGEST_PROBE_PAUSE_S)
