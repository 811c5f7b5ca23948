"""One sentence about a payment: where it is stuck, or what became of the money."""

from collections.abc import Iterator, Sequence

from shared.contracts.notifier import DeliveryRecord
from shared.contracts.referrals import RewardRecord, Rewards
from turnpike_cli.formatting import moment, money
from turnpike_cli.payment_history import PaymentHistory
from turnpike_cli.problems import problems


def verdict(history: PaymentHistory) -> str:
    """The earliest step that is stuck, else the earliest on its way, else the outcome."""
    found = problems(history)
    first = next((one for one in found if not one.transient), found[0] if found else None)
    return f"{first}." if first else f"{', '.join(_outcomes(history))}."


def _outcomes(history: PaymentHistory) -> Iterator[str]:
    if not history.receipts:
        yield _unpaid(history)
        return
    yield _paid(history)
    yield from _returned(history)
    if history.rewards is not None:
        yield _rewarded(history.rewards)
    if grant := history.grant:
        yield f"access {'until' if grant.state == 'live' else 'ended'} {moment(grant.ends_at)[:16]}"
    yield from _messages(history.deliveries.deliveries if history.deliveries else ())


def _unpaid(history: PaymentHistory) -> str:
    order = history.order
    if order is None:
        return "not booked"
    if order.state == "closed":
        return "not paid, and closed: a newer order was paid"
    until = moment(order.honoured_until)[:16]
    if not order.honoured:
        return f"not paid: since {until} the order is too old to buy"
    if order.state == "superseded":
        return f"not paid: a newer order replaced it, but money that arrives until {until} buys"
    return f"not paid: the order is open, and money that arrives until {until} buys"


def _paid(history: PaymentHistory) -> str:
    order = history.order
    sums = ", ".join(money(receipt.amount_minor, receipt.currency) for receipt in history.receipts)
    if history.bought is not None:
        return f"paid with {sums}"
    last = history.receipts[-1]
    value = money(last.value_minor or 0, "RUB")
    missing = (
        f", {money(order.price_minor - order.received_minor, 'RUB')} missing"
        if last.because == "too_little" and order
        else ""
    )
    return f"{sums} arrived and {value} went to the wallet ({last.because}{missing})"


def _returned(history: PaymentHistory) -> Iterator[str]:
    """The refunds of this payment; another payment's refund may have undone its order."""
    own = {receipt.receipt for receipt in history.receipts}
    for refund in history.refunds:
        amount = money(refund.booked_minor or 0, refund.currency)
        if refund.receipt not in own:
            yield "undone by the refund of another payment"
        elif refund.state == "booked":
            owed = f" ({money(refund.owed_minor, 'RUB')} owed)" if refund.owed_minor else ""
            yield f"{amount} returned{owed}"
        else:
            yield "a refund waits to be booked"


def _rewarded(rewards: Rewards) -> str:
    if rewards.waits_since is not None:
        return "the reward waits for the payer's /start"
    earned: list[RewardRecord] = [one for one in rewards.rewards if one.outcome == "rewarded"]
    if not earned:
        reasons = {one.outcome for one in rewards.rewards}
        return f"no reward ({', '.join(sorted(reasons)) or 'not decided'})"
    total = money(sum(one.reward_minor - one.reversed_minor for one in earned), "RUB")
    return f"rewarded {total} ({earned[-1].percent} %)"


def _messages(deliveries: Sequence[DeliveryRecord]) -> Iterator[str]:
    states = {one.kind: one.state for one in deliveries}
    if "sent" in (states.get("access_ready"), states.get("left_over")):
        yield "message sent"
    if "unreachable" in states.values():
        yield "the person is unreachable (blocked the bot)"
