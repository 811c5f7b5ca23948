"""What two services must agree on: keys of a cause at one owner and of its effect at another."""

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.contracts.message import Refused
from shared.contracts.operations import Finding, Keys, KeysQuery, MissingKeys, MissingKeysQuery
from shared.contracts.owners import SERVICE_NAMES
from shared.messaging.rpc import Bus
from shared.operations.audit import EXAMPLES

PAGE_TIMEOUT_S = 60.0
EVER_DAYS = 40_000.0
MESSAGES_KEPT_DAYS = 360.0


@dataclass(frozen=True)
class Agreement:
    """Two kinds of keys that must be the same: a cause of one owner and its effect at another."""

    invariant: str
    truth: str
    cause: tuple[str, str]
    effect: tuple[str, str]
    days: float = EVER_DAYS
    """How long the effect is kept."""


AGREEMENTS = (
    Agreement(
        "I5",
        "every payment that Telegram reported has its receipt, and vice versa",
        ("bot", "reported"),
        ("payments", "reported"),
    ),
    Agreement(
        "I6",
        "every received payment has its reward decision, and vice versa",
        ("payments", "received"),
        ("referrals", "decided"),
    ),
    Agreement(
        "I6",
        "every bought subscription has its access row, and vice versa",
        ("payments", "bought"),
        ("vpn", "periods"),
    ),
    Agreement(
        "I6",
        "every bought subscription has its message, and vice versa",
        ("payments", "bought"),
        ("notifier", "orders"),
        days=MESSAGES_KEPT_DAYS,
    ),
    Agreement(
        "I6",
        "every granted access has its message with the key, and vice versa",
        ("vpn", "granted"),
        ("notifier", "keys"),
        days=MESSAGES_KEPT_DAYS,
    ),
    Agreement(
        "I6",
        "every reward has its message, and vice versa",
        ("referrals", "rewards"),
        ("notifier", "rewards"),
        days=MESSAGES_KEPT_DAYS,
    ),
    Agreement(
        "I7",
        "every reward is booked once, to the kopeck, and no other is booked",
        ("referrals", "rewards"),
        ("payments", "rewards"),
    ),
    Agreement(
        "I6",
        "every refund has its decision about the reward, and vice versa",
        ("payments", "refunded"),
        ("referrals", "refunded"),
    ),
    Agreement(
        "I6",
        "every refund has its message, and vice versa",
        ("payments", "refunded"),
        ("notifier", "refunds"),
        days=MESSAGES_KEPT_DAYS,
    ),
    Agreement(
        "I6",
        "every undone order is shortened by its share, and vice versa",
        ("payments", "undone"),
        ("vpn", "undone"),
    ),
    Agreement(
        "I7",
        "every reversed reward is taken back, to the kopeck, and no other is",
        ("referrals", "reversed"),
        ("payments", "reversed"),
    ),
)


async def compare(bus: Bus, agreement: Agreement, hours: float | None, in_time_s: float) -> Finding:
    """Compare the keys of both owners, page by page.

    A cause must have its effect after `in_time_s`. An effect without a cause is always wrong.
    """
    (first, causes), (second, effects) = agreement.cause, agreement.effect
    difference = Difference()
    hours = min(hours or agreement.days * 24, agreement.days * 24)
    page = Keys(keys=(), after="")
    while page.after is not None:
        page = await _page(bus, first, causes, page.after or None, hours, in_time_s)
        missing = await _missing(bus, second, effects, page.keys)
        difference.add(
            missing,
            lambda key: f"{SERVICE_NAMES[second]} lacks {SERVICE_NAMES[first]}'s {causes} {key}",
        )
    page = Keys(keys=(), after="")
    while page.after is not None:
        page = await _page(bus, second, effects, page.after or None, hours, 0.0)
        missing = await _missing(bus, first, causes, page.keys)
        difference.add(
            missing,
            lambda key: (
                f"{SERVICE_NAMES[first]} does not know {SERVICE_NAMES[second]}'s {effects} {key}"
            ),
        )
    return Finding(
        invariant=agreement.invariant,
        truth=agreement.truth,
        violations=difference.violations,
        examples=tuple(difference.examples),
    )


@dataclass
class Difference:
    violations: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, keys: tuple[str, ...], example: Callable[[str], str]) -> None:
        self.violations += len(keys)
        self.examples += [example(key) for key in keys[: EXAMPLES - len(self.examples)]]


async def _page(
    bus: Bus, owner: str, kind: str, after: str | None, hours: float | None, settled_s: float
) -> Keys:
    query = KeysQuery.of(owner)(kind=kind, after=after, hours=hours, settled_s=settled_s)
    answer = await bus.query(query, timeout_s=PAGE_TIMEOUT_S)
    assert not isinstance(answer, Refused), f"{owner} has no {kind}: {answer}"
    return answer


async def _missing(bus: Bus, owner: str, kind: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        return ()
    query = MissingKeysQuery.of(owner)(kind=kind, keys=keys)
    answer = await bus.query(query, timeout_s=PAGE_TIMEOUT_S)
    assert isinstance(answer, MissingKeys), f"{owner} has no {kind}: {answer}"
    return answer.keys
