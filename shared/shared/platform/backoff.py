"""The one back-off. It is pure, so that a domain may use it."""


def backoff(failures: int, *, first_s: float, longest_s: float) -> float:
    """Seconds to wait after so many failures before this one: doubling, up to `longest_s`."""
    return min(first_s * 2.0 ** min(failures, 32), longest_s)
