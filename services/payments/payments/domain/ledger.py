"""Double entry as values: balanced transfers, and their effect on a person's accounts.

An entry is positive in the account that receives money and negative in the account that gives it,
so a transfer sums to zero per currency. A person's `wallet` and `earned` are never below zero;
`owed` is never above it. The shop's accounts (clearing, exchange, revenue …) carry no balance:
clearing is negative by the amount that the acquirer holds for the shop.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple
from uuid import UUID

from shared.contracts.message import derived_id

Reason = Literal[
    "receipt",
    "fee",
    "purchase",
    "reward",
    "owed_settled",
    "adjustment",
    "resolution",
    "purchase_undone",
    "refund",
    "reward_reversed",
    "withdrawn",
    "hold",
    "hold_returned",
]

Source = Literal["adjustments", "promotions", "opening"]
"""The other side of an operator's credit or debit."""


@dataclass(frozen=True)
class Account:
    kind: str
    owner: UUID | None = None
    currency: str = "RUB"

    @cached_property
    def id(self) -> UUID:
        """Derived, so that an entry is written without a look-up of its account."""
        return derived_id("account", self.owner, self.kind, self.currency)


REVENUE = Account("revenue")
REWARDS = Account("rewards")
SOURCES: dict[Source, Account] = {
    "adjustments": Account("adjustments"),
    "promotions": Account("promotions"),
    "opening": Account("opening"),
}
"""`opening` is the source of balances that people had in another shop."""

ACCOUNTS_REMEMBERED = 4_096


@lru_cache(ACCOUNTS_REMEMBERED)
def of_person(kind: Literal["wallet", "earned", "owed"], person: UUID) -> Account:
    """The same object each time: a batch uses an account a dozen times and derives its id once."""
    return Account(kind, person)


@lru_cache(ACCOUNTS_REMEMBERED)
def clearing(acquirer: str, currency: str) -> Account:
    return Account(f"clearing:{acquirer}", None, currency)


@lru_cache(ACCOUNTS_REMEMBERED)
def exchange(currency: str) -> Account:
    return Account("exchange", None, currency)


@lru_cache(ACCOUNTS_REMEMBERED)
def suspense(currency: str) -> Account:
    return Account("suspense", None, currency)


@lru_cache(ACCOUNTS_REMEMBERED)
def outgoing(acquirer: str) -> Account:
    """Kopecks of wallets that are held for refunds which have not ended."""
    return Account(f"outgoing:{acquirer}")


@lru_cache(ACCOUNTS_REMEMBERED)
def fees(currency: str) -> Account:
    return Account("fees", None, currency)


class Entry(NamedTuple):
    account: Account
    amount_minor: int


@dataclass(frozen=True)
class Transfer:
    """Entries that sum to zero per currency. Raises AssertionError where they do not."""

    cause: str
    reason: Reason
    person: UUID | None
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        sums: dict[str, int] = {}
        for account, amount_minor in self.entries:
            assert amount_minor != 0, "an entry has an amount"
            sums[account.currency] = sums.get(account.currency, 0) + amount_minor
        assert not any(sums.values()), f"{self.reason} of {self.cause} does not balance: {sums}"

    @cached_property
    def id(self) -> UUID:
        return transfer_id(self.cause, self.reason)


def transfer_id(cause: str, reason: Reason) -> UUID:
    return derived_id("transfer", cause, reason)


def transfer_of(
    cause: str, reason: Reason, person: UUID | None, *flows: tuple[Account, Account, int]
) -> Transfer:
    """A transfer from flows `(from, to, amount)`.

    Flows of 0 are left out. Several amounts of one account become one entry.
    """
    sums: dict[Account, int] = {}
    for source, target, amount in flows:
        assert amount >= 0, "a flow is never negative"
        sums[source] = sums.get(source, 0) - amount
        sums[target] = sums.get(target, 0) + amount
    return Transfer(
        cause,
        reason,
        person,
        tuple(Entry(account, amount) for account, amount in sums.items() if amount),
    )


@dataclass(frozen=True)
class Holdings:
    """The balances of a person, in kopecks.

    `owed_minor` is money that was taken back after the person had spent it.
    """

    person: UUID
    wallet_minor: int = 0
    earned_minor: int = 0
    owed_minor: int = 0
    reserved: tuple[tuple[UUID, int], ...] = field(default=())
    """The part that each open order has received. This money settles no debt."""

    @property
    def wallet(self) -> Account:
        return of_person("wallet", self.person)

    @property
    def earned(self) -> Account:
        return of_person("earned", self.person)

    @property
    def owed(self) -> Account:
        return of_person("owed", self.person)

    @property
    def free_minor(self) -> int:
        """The part of the wallet that no open order has received."""
        return max(0, self.wallet_minor - sum(minor for _, minor in self.reserved))

    @property
    def accounts(self) -> tuple[Account, Account, Account]:
        return self.wallet, self.earned, self.owed

    def after(self, transfer: Transfer) -> "Holdings":
        """The holdings once this transfer is written."""
        moved_minor = {"wallet": 0, "earned": 0, "owed": 0}
        for account, amount_minor in transfer.entries:
            if account.owner == self.person:
                moved_minor[account.kind] += amount_minor
        return Holdings(
            self.person,
            self.wallet_minor + moved_minor["wallet"],
            self.earned_minor + moved_minor["earned"],
            self.owed_minor - moved_minor["owed"],
            self.reserved,
        )

    def reserving(self, order: UUID, received_minor: int) -> "Holdings":
        """The holdings with this part reserved for the order. 0 ends the reservation."""
        others = tuple(entry for entry in self.reserved if entry[0] != order)
        reserved = (*others, (order, received_minor)) if received_minor else others
        return self if reserved == self.reserved else replace(self, reserved=reserved)


def changes(transfers: Iterable[Transfer]) -> Iterator[tuple[Account, int]]:
    """The change of each balance of a person, each account once, in the order of locking.

    An account whose entries cancel out is included with 0: its entries need its row.
    """
    sums: dict[Account, int] = {}
    for transfer in transfers:
        for entry in transfer.entries:
            if entry.account.owner is not None:
                sums[entry.account] = sums.get(entry.account, 0) + entry.amount_minor
    yield from sorted(sums.items(), key=lambda change: change[0].id)


def receipt(
    holdings: Holdings,
    cause: str,
    acquirer: str,
    currency: str,
    amount_minor: int,
    value_minor: int,
) -> Transfer:
    """Money from outside into the wallet: so much of `currency` came, worth `value_minor`.

    Another currency becomes two balanced pairs through the exchange account.
    """
    source = clearing(acquirer, currency)
    if currency == "RUB" and amount_minor == value_minor:
        flow = (source, holdings.wallet, value_minor)
        return transfer_of(cause, "receipt", holdings.person, flow)
    return transfer_of(
        cause,
        "receipt",
        holdings.person,
        (source, exchange(currency), amount_minor),
        (exchange("RUB"), holdings.wallet, value_minor),
    )


def parked(cause: str, acquirer: str, currency: str, amount_minor: int) -> Transfer:
    """Money from outside whose payer or value is unknown."""
    flow = (clearing(acquirer, currency), suspense(currency), amount_minor)
    return transfer_of(cause, "receipt", None, flow)


def fee(cause: str, acquirer: str, currency: str, fee_minor: int) -> Transfer:
    """The acquirer kept this of the money of the cause: it holds so much less for the shop."""
    flow = (fees(currency), clearing(acquirer, currency), fee_minor)
    return transfer_of(cause, "fee", None, flow)


def withdrawn(cause: str, acquirer: str, currency: str, amount_minor: int) -> Transfer:
    """Money that the shop took from its account at an acquirer; below zero it was put there."""
    outside, held = Account("withdrawn", None, currency), clearing(acquirer, currency)
    flow = (outside, held, amount_minor)
    if amount_minor < 0:
        flow = (held, outside, -amount_minor)
    return transfer_of(cause, "withdrawn", None, flow)


def arrived_otherwise(
    cause: str,
    acquirer: str,
    paid: tuple[str, int],
    arrived: tuple[str, int],
    fee_minor: int,
) -> Transfer:
    """Money that was booked as it was paid came in another asset, less a fee.

    `paid` and `arrived` are currencies with amounts. The clearing account holds afterwards what it
    would hold if that had been known at once.
    """
    (currency, paid_minor), (asset, arrived_minor) = paid, arrived
    return transfer_of(
        cause,
        "fee",
        None,
        (exchange(currency), clearing(acquirer, currency), paid_minor),
        (clearing(acquirer, asset), exchange(asset), arrived_minor + fee_minor),
        (fees(asset), clearing(acquirer, asset), fee_minor),
    )


def resolved(
    holdings: Holdings, cause: str, currency: str, amount_minor: int, value_minor: int
) -> Transfer:
    """Money from suspense into the wallet. Its cause is that of the receipt: it moves once."""
    if currency == "RUB":
        flow = (suspense(currency), holdings.wallet, value_minor)
        return transfer_of(cause, "resolution", holdings.person, flow)
    return transfer_of(
        cause,
        "resolution",
        holdings.person,
        (suspense(currency), exchange(currency), amount_minor),
        (exchange("RUB"), holdings.wallet, value_minor),
    )


def adjustment(
    holdings: Holdings, cause: str, amount_minor: int, source: Source = "adjustments"
) -> Transfer:
    """An operator's credit, or a debit where the amount is below zero."""
    other = SOURCES[source]
    flow = (other, holdings.wallet, amount_minor)
    if amount_minor < 0:
        assert -amount_minor <= holdings.wallet_minor, "a debit takes at most the wallet"
        flow = (holdings.wallet, other, -amount_minor)
    return transfer_of(cause, "adjustment", holdings.person, flow)


def purchase(holdings: Holdings, cause: str, price_minor: int) -> Transfer:
    """Spend the wallet, then `earned`. The caller has checked that there is enough."""
    from_wallet = min(price_minor, holdings.wallet_minor)
    from_earned = price_minor - from_wallet
    assert from_earned <= holdings.earned_minor, "a purchase spends at most the balances"
    return transfer_of(
        cause,
        "purchase",
        holdings.person,
        (holdings.wallet, REVENUE, from_wallet),
        (holdings.earned, REVENUE, from_earned),
    )


def reward(holdings: Holdings, receipt: UUID, reward_minor: int) -> Transfer:
    flow = (REWARDS, holdings.earned, reward_minor)
    return transfer_of(reward_cause(receipt), "reward", holdings.person, flow)


def reward_cause(receipt: UUID) -> str:
    """Without the partner: a receipt is rewarded once, whichever partner is named."""
    return f"reward:{receipt}"


def reward_id(receipt: UUID) -> UUID:
    return transfer_id(reward_cause(receipt), "reward")


def owed_settled(holdings: Holdings, cause: str) -> Transfer | None:
    """Settle the debt from money that is not reserved for an open order, then from `earned`.

    None when nothing is owed or nothing is available.
    """
    from_wallet = min(holdings.owed_minor, holdings.free_minor)
    from_earned = min(holdings.owed_minor - from_wallet, holdings.earned_minor)
    if from_wallet + from_earned == 0:
        return None
    return transfer_of(
        cause,
        "owed_settled",
        holdings.person,
        (holdings.wallet, holdings.owed, from_wallet),
        (holdings.earned, holdings.owed, from_earned),
    )


class Taken(NamedTuple):
    """Parts of an amount that is taken back. The lack becomes `owed`."""

    wallet_minor: int
    earned_minor: int
    owed_minor: int


def purchase_undone(
    holdings: Holdings, cause: str, wallet_minor: int, earned_minor: int
) -> Transfer:
    """Return a part of a purchase to the accounts that it came from."""
    return transfer_of(
        cause,
        "purchase_undone",
        holdings.person,
        (REVENUE, holdings.wallet, wallet_minor),
        (REVENUE, holdings.earned, earned_minor),
    )


def taken_by_refund(holdings: Holdings, value_minor: int) -> Taken:
    """A receipt's take-back takes the wallet, then `earned`."""
    wallet_minor = min(value_minor, holdings.wallet_minor)
    earned_minor = min(value_minor - wallet_minor, holdings.earned_minor)
    return Taken(wallet_minor, earned_minor, value_minor - wallet_minor - earned_minor)


def taken_by_reversal(holdings: Holdings, reversed_minor: int) -> Taken:
    """A reward's take-back takes `earned`, then the wallet."""
    earned_minor = min(reversed_minor, holdings.earned_minor)
    wallet_minor = min(reversed_minor - earned_minor, holdings.wallet_minor)
    return Taken(wallet_minor, earned_minor, reversed_minor - earned_minor - wallet_minor)


def refund(
    holdings: Holdings, cause: str, acquirer: str, currency: str, amount_minor: int, taken: Taken
) -> Transfer:
    """Money that went back outside: the entries of a receipt, the other way round."""
    target = clearing(acquirer, currency)
    direct = currency == "RUB" and amount_minor == sum(taken)
    rubles = target if direct else exchange("RUB")
    flows = [
        (holdings.wallet, rubles, taken.wallet_minor),
        (holdings.earned, rubles, taken.earned_minor),
        (holdings.owed, rubles, taken.owed_minor),
    ]
    if not direct:
        flows.append((exchange(currency), target, amount_minor))
    return transfer_of(cause, "refund", holdings.person, *flows)


def parked_refunded(cause: str, acquirer: str, currency: str, amount_minor: int) -> Transfer:
    """Money that was returned while it was in suspense."""
    flow = (suspense(currency), clearing(acquirer, currency), amount_minor)
    return transfer_of(cause, "refund", None, flow)


def hold(holdings: Holdings, cause: str, acquirer: str, held_minor: int) -> Transfer:
    """Money of the wallet that nobody spends until its refund has ended."""
    assert held_minor <= holdings.wallet_minor, "a hold takes at most the wallet"
    flow = (holdings.wallet, outgoing(acquirer), held_minor)
    return transfer_of(cause, "hold", holdings.person, flow)


def hold_returned(holdings: Holdings, cause: str, acquirer: str, held_minor: int) -> Transfer:
    """The refund has ended, so that the money is where it came from."""
    flow = (outgoing(acquirer), holdings.wallet, held_minor)
    return transfer_of(cause, "hold_returned", holdings.person, flow)


def reward_reversed(holdings: Holdings, refund: UUID, taken: Taken) -> Transfer:
    return transfer_of(
        reversal_cause(refund),
        "reward_reversed",
        holdings.person,
        (holdings.earned, REWARDS, taken.earned_minor),
        (holdings.wallet, REWARDS, taken.wallet_minor),
        (holdings.owed, REWARDS, taken.owed_minor),
    )


def reversal_cause(refund: UUID) -> str:
    """Without the partner: a refund takes back once, whichever partner is named."""
    return f"reversal:{refund}"


def reversal_id(refund: UUID) -> UUID:
    return transfer_id(reversal_cause(refund), "reward_reversed")
