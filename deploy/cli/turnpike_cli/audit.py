"""Asks every owner for its invariants, and holds against each other what two owners must agree on."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.bus import Bus, UnansweredError
from shared.contract import Refused
from shared.owners import OWNERS
from shared.questions import AskAudit, Finding

AUDIT_TIMEOUT_S = 30.0

# What one owner counts and another must have answered with exactly as many rows: no effect lost, doubled or invented.
AGREEMENTS = (
    (
        "I5",
        "every payment that Telegram reported lately is a receipt",
        "bot.reported_lately",
        "payments.reported_lately",
    ),
    ("I6", "every received payment has one reward decision", "payments.received", "referrals.receipts_decided"),
    ("I6", "every bought subscription has one access row", "payments.bought", "vpn.periods"),
    ("I6", "every bought subscription has one message", "payments.bought", "notifier.orders_told"),
    ("I6", "every access that was granted was told with its key", "vpn.orders_granted", "notifier.keys_told"),
    ("I6", "every reward was told", "payments.rewards", "notifier.rewards_told"),
    ("I7", "every reward earned is booked once", "payments.rewards", "referrals.rewards"),
    ("I7", "rewards booked are rewards earned, to the kopeck", "payments.reward_minor", "referrals.reward_minor"),
)


@dataclass(frozen=True)
class Found:
    """One invariant, who answered for it, and how often it is broken."""

    owner: str
    finding: Finding


async def audit(bus: Bus, *, timeout_s: float = AUDIT_TIMEOUT_S) -> list[Found]:
    """Every invariant with its violations; an owner who does not answer within `timeout_s` is one."""
    found: list[Found] = []
    counts: dict[str, int] = {}
    for owner in OWNERS:
        try:
            answer = await bus.ask(AskAudit.of(owner)(), timeout_s=timeout_s)
        except UnansweredError:
            found.append(Found(owner, silence(owner)))
            continue
        assert not isinstance(answer, Refused), f"{owner} refuses to be audited: {answer.reason}"
        found += [Found(owner, finding) for finding in answer.findings]
        counts |= {f"{owner}.{name}": count for name, count in answer.counts.items()}
    agreements = [agreement for agreement in AGREEMENTS if counts.keys() >= set(agreement[2:])]
    found += [Found("all", disagreement(*agreement, counts)) for agreement in agreements]
    found.append(Found("bus", at_rest(await bus.unsettled())))
    return sorted(found, key=lambda entry: (int(entry.finding.invariant[1:]), entry.owner))


def silence(owner: str) -> Finding:
    """I13: who does not answer has something left to do."""
    return Finding(
        invariant="I13",
        truth="every owner answers for its invariants",
        violations=1,
        examples=(f"{owner} does not answer",),
    )


def disagreement(invariant: str, truth: str, left: str, right: str, counts: Mapping[str, int]) -> Finding:
    """The distance between what two owners count."""
    difference = abs(counts[left] - counts[right])
    examples = (f"{left} = {counts[left]}, {right} = {counts[right]}",) if difference else ()
    return Finding(invariant=invariant, truth=truth, violations=difference, examples=examples)


def at_rest(unsettled: Mapping[str, int]) -> Finding:
    """I13 as the broker sees it: every handler has acknowledged everything."""
    busy = [f"{handler}: {count}" for handler, count in unsettled.items() if count]
    return Finding(
        invariant="I13",
        truth="every handler has acknowledged all it was told",
        violations=len(busy),
        examples=tuple(busy),
    )
