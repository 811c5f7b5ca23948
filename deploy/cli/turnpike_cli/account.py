"""What became of one payment, put together from what each owner says of it, and where it is stuck."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.inspection import (
    Deliveries,
    DeliverySeen,
    FactsSeen,
    FactTold,
    Grant,
    Payment,
    ReceiptSeen,
    Reports,
    Rewards,
    RewardSeen,
)
from shared.streams import LISTENING, Listening
from turnpike_cli.asking import SERVICES
from turnpike_cli.writing import first_line, moment, money

ON_ITS_WAY_S = 5.0
"""A fact that is younger may still be on its way, by its owner's clock."""

MENDED = "mend the cause, then"


@dataclass(frozen=True)
class Account:
    """None is an owner who has not heard of it, or who was not worth asking; `silent` are those who did not answer."""

    named: str
    payment: Payment | None = None
    reports: Reports | None = None
    rewards: Rewards | None = None
    grant: Grant | None = None
    deliveries: Deliveries | None = None
    facts: dict[str, FactsSeen] = field(default_factory=dict)
    """By the owner who answered."""
    silent: tuple[str, ...] = ()

    @property
    def receipts(self) -> Sequence[ReceiptSeen]:
        return self.payment.receipts if self.payment else ()

    @property
    def bought(self) -> ReceiptSeen | None:
        return next((receipt for receipt in self.receipts if receipt.outcome == "bought"), None)

    @property
    def trace(self) -> str | None:
        """The trace id of the story, from the order's own context."""
        order = self.payment.order if self.payment else None
        return order.trace.split("-")[1] if order and order.trace else None

    @property
    def told(self) -> list[FactTold]:
        return sorted((fact for seen in self.facts.values() for fact in seen.told), key=lambda fact: fact.told_at)


@dataclass(frozen=True)
class Stuck:
    """Where it stands still, and what there is to do; `passing` is what a moment may change by itself."""

    where: str
    why: str
    do: str
    passing: bool = False

    def __str__(self) -> str:
        return f"{'on its way' if self.passing else 'stuck'} at {self.where}: {self.why}; do: {self.do}"


def verdict(account: Account) -> str:
    """One sentence: where it is stuck, the earliest step first, or what is true now."""
    found = stuck(account)
    first = next((one for one in found if not one.passing), found[0] if found else None)
    return f"{first}." if first else f"{', '.join(truths(account))}."


def stuck(account: Account) -> list[Stuck]:
    """Every place where it stands still, in the order in which a payment passes them."""
    return [
        *_unreported(account),
        *_parked(account),
        *_untold_or_unheard(account),
        *_without_access(account),
        *_without_messages(account),
        *_silent(account),
    ]


def _unreported(account: Account) -> Iterator[Stuck]:
    for report in account.reports.reports if account.reports else ():
        for update in report.updates:
            if update.state == "waiting":
                why = f"the report waits since {moment(update.received_at)}" + _because(update.tries, update.reason)
                yield Stuck(
                    "bot-gateway", why, "look at bot-gateway's log; it is tried again by itself", not update.tries
                )
            elif update.state == "failed" and report.fact is None:
                why = f"nobody can read the report in update {update.seq} ({first_line(update.reason)})"
                yield Stuck("bot-gateway", why, "see in Telegram what was paid")


def _parked(account: Account) -> Iterator[Stuck]:
    for receipt in account.receipts:
        if receipt.outcome == "suspense":
            why = f"{money(receipt.amount_minor, receipt.currency)} rest in suspense ({receipt.because})"
            yield Stuck("payments", why, "find out whose they are")


def _untold_or_unheard(account: Account) -> Iterator[Stuck]:
    for fact in account.told:
        owner = fact.topic.split(".")[0]
        young = fact.age_s < ON_ITS_WAY_S
        if fact.waits:
            why = f"{fact.topic} waits for the broker since {moment(fact.told_at)}"
            yield Stuck(SERVICES[owner], why, "see that NATS runs and has room", young)
        for listening in listeners_of(fact.topic):
            if listening.service in account.facts:
                yield from _unheard(account.facts[listening.service], fact, listening, young=young or fact.waits)


def _unheard(seen: FactsSeen, fact: FactTold, listening: Listening, *, young: bool) -> Iterator[Stuck]:
    where, handler = SERVICES[listening.service], listening.handler
    letter = next((one for one in seen.buried if (one.fact, one.handler) == (fact.fact, handler)), None)
    failing = next((one for one in seen.failing if (one.fact, one.handler) == (fact.fact, handler)), None)
    if letter is not None and letter.replayed_at is None:
        do = f"{MENDED} turnpike dead replay {listening.service} {letter.letter}"
        yield Stuck(where, f"{handler} buried {fact.topic} ({first_line(letter.reason)})", do)
    elif failing is not None:
        why = f"{handler} fails on {fact.topic}" + _because(failing.tries, failing.reason)
        yield Stuck(where, why, "mend the cause; it is tried again by itself")
    elif not any((one.fact, one.handler) == (fact.fact, handler) for one in seen.heard):
        why = f"{handler} has not heard of {fact.topic}"
        yield Stuck(where, why, f"see that {where} runs and hears" if not young else "ask again in a moment", young)


def _without_access(account: Account) -> Iterator[Stuck]:
    if account.grant is None:
        return
    person = account.grant.person
    for job in account.grant.jobs:
        if job.state == "dead":
            why = f"node {job.node} did not take the access after {job.tries} tries ({first_line(job.error)})"
            yield Stuck("vpn-provisioner", why, f"{MENDED} turnpike dead replay vpn {person}")
        elif job.state == "waiting":
            why = f"the access waits for node {job.node}" + _because(job.tries, job.error)
            do = f"see that node {job.node} answers; it is tried again by itself"
            yield Stuck("vpn-provisioner", why, do, account.grant.age_s < ON_ITS_WAY_S and not job.error)
    if account.grant.told_at is None and not account.grant.jobs and account.grant.state == "live":
        yield Stuck("vpn-provisioner", "no node serves the plan's group", "place a node")


def _without_messages(account: Account) -> Iterator[Stuck]:
    for one in account.deliveries.deliveries if account.deliveries else ():
        if one.state in ("waiting", "claimed"):
            why = f"the message {one.kind} waits until {moment(one.not_before)}" + _because(one.tries, one.reason)
            yield Stuck("notifier", why, "see that Telegram answers; it is tried again by itself", not one.reason)
        elif one.state in ("failed", "unknown"):
            why = f"the message {one.kind} was not delivered ({first_line(one.reason)})"
            yield Stuck("notifier", why, "write to the person")


def _silent(account: Account) -> Iterator[Stuck]:
    for owner in account.silent:
        yield Stuck(SERVICES[owner], "it does not answer", f"see that {SERVICES[owner]} runs")


def _because(tries: int, reason: str | None) -> str:
    if not tries:
        return f" ({first_line(reason)})" if reason else ""
    return f" after {tries} {'try' if tries == 1 else 'tries'} ({first_line(reason) or 'no reason is known'})"


def listeners_of(topic: str) -> list[Listening]:
    return [listening for listening in LISTENING if listening.fact.topic == topic]


def truths(account: Account) -> Iterator[str]:
    """What is true where nothing stands still."""
    if not account.receipts:
        yield unpaid(account)
        return
    yield paid(account)
    if account.rewards is not None:
        yield rewarded(account.rewards)
    if account.grant is not None:
        yield f"access {'until' if account.grant.state == 'live' else 'ended'} {moment(account.grant.ends_at)[:16]}"
    yield from messages(account.deliveries.deliveries if account.deliveries else ())


def unpaid(account: Account) -> str:
    order = account.payment.order if account.payment else None
    if order is None:
        return "nobody booked it"
    if order.state == "closed":
        return "not paid, and closed: a newer order was paid"
    if not order.honoured:
        return f"not paid, and too old to buy since {moment(order.honoured_until)[:16]}"
    return f"not paid: the order is open, money that comes until {moment(order.honoured_until)[:16]} buys"


def paid(account: Account) -> str:
    order = account.payment.order if account.payment else None
    sums = ", ".join(money(receipt.amount_minor, receipt.currency) for receipt in account.receipts)
    if account.bought is not None:
        return f"paid with {sums}"
    last = account.receipts[-1]
    value = money(last.value_minor or 0, "RUB")
    missing = (
        f", {money(order.price_minor - order.received_minor, 'RUB')} are missing"
        if last.because == "too_little" and order
        else ""
    )
    return f"{sums} came and {value} are in the wallet ({last.because}{missing})"


def rewarded(rewards: Rewards) -> str:
    if rewards.waits_since is not None:
        return "the reward waits for the payer's start"
    earned: list[RewardSeen] = [one for one in rewards.rewards if one.outcome == "rewarded"]
    if not earned:
        reasons = {one.outcome for one in rewards.rewards}
        return f"no reward ({', '.join(sorted(reasons)) or 'not decided'})"
    return f"rewarded {money(sum(one.reward_minor for one in earned), 'RUB')} ({earned[-1].percent} %)"


def messages(deliveries: Sequence[DeliverySeen]) -> Iterator[str]:
    states = {one.kind: one.state for one in deliveries}
    if states.get("access_ready") == "sent":
        yield "key sent"
    if "unreachable" in states.values():
        yield "the person cannot be written to (blocked the bot)"


def fact_ids(account: Account) -> list[UUID]:
    """Every fact that some owner told of it."""
    ids: list[UUID | None] = [report.fact for report in (account.reports.reports if account.reports else ())]
    ids += [receipt.fact for receipt in account.receipts]
    ids += [reward.fact for reward in (account.rewards.rewards if account.rewards else ())]
    ids += [account.grant.fact if account.grant else None]
    ids += [one.fact for one in (account.deliveries.deliveries if account.deliveries else ())]
    return sorted({id_ for id_ in ids if id_ is not None})
