"""Whether a node is worth asking. A missed sign of life opens the breaker, a new one closes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Breaker:
    """While it is open, no job of the node is claimed. Only the reconciler asks, at growing pauses.

    One missed sign of life opens it: the client's time-outs and reconnects came before that.
    """

    failures: int = 0

    @property
    def closed(self) -> bool:
        return self.failures == 0

    def failed(self) -> "Breaker":
        return Breaker(self.failures + 1)
