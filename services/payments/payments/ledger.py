"""Double entry as values: transfers that balance, and what they do to a person's accounts.

Money flows: an entry is positive where it arrives and negative where it leaves, so every transfer sums to zero per
currency. A person's `wallet` and `earned` are never below zero; `owed` is never above it. The shop's own accounts
(clearing, exchange, revenue …) carry no balance: clearing is negative by what the acquirer holds for us.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple
from uuid import UUID

from shared.contract import derived_id

Reason = Literal["receipt", "purchase", "reward", "owed_settled"]


@dataclass(frozen=True)
class Account:
    kind: str
    owner: UUID | None = None
    currency: str = "RUB"

    @cached_property
    def id(self) -> UUID:
        """Derived, so that an entry can be written without looking its account up."""
        return derived_id("account", self.owner, self.kind, self.currency)


REVENUE = Account("revenue")
REWARDS = Account("rewards")

ACCOUNTS_REMEMBERED = 4_096


@lru_cache(ACCOUNTS_REMEMBERED)
def of_person(kind: Literal["wallet", "earned", "owed"], person: UUID) -> Account:
    """The same value for the same person: a batch names it a dozen times, and its id is derived once."""
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


class Entry(NamedTuple):
    account: Account
    amount_minor: int


@dataclass(frozen=True)
class Transfer:
    cause: str
    reason: Reason
    person: UUID | None
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        sums: dict[str, int] = {}
        for account, amount_minor in self.entries:
            assert amount_minor != 0, "an entry moves something"
            sums[account.currency] = sums.get(account.currency, 0) + amount_minor
        assert not any(sums.values()), f"{self.reason} of {self.cause} does not balance: {sums}"

    @cached_property
    def id(self) -> UUID:
        return transfer_id(self.cause, self.reason)


def transfer_id(cause: str, reason: Reason) -> UUID:
    return derived_id("transfer", cause, reason)


def moved(cause: str, reason: Reason, person: UUID | None, *flows: tuple[Account, Account, int]) -> Transfer:
    """A transfer from flows `(from, to, amount)`; flows of nothing are left out, what meets in an account is summed."""
    sums: dict[Account, int] = {}
    for source, target, amount in flows:
        assert amount >= 0, "money flows forwards"
        sums[source] = sums.get(source, 0) - amount
        sums[target] = sums.get(target, 0) + amount
    return Transfer(cause, reason, person, tuple(Entry(account, amount) for account, amount in sums.items() if amount))


@dataclass(frozen=True)
class Holdings:
    """What the book holds for a person, in kopecks. `owed_minor` is what was taken back and was not there."""

    person: UUID
    wallet_minor: int = 0
    earned_minor: int = 0
    owed_minor: int = 0
    waiting: tuple[tuple[UUID, int], ...] = field(default=())
    """What open orders of this person have received so far: money that settles no debt."""

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
            self.waiting,
        )

    def waits_for(self, order: UUID, received_minor: int) -> "Holdings":
        """The holdings with so much received for this order; 0 when it waits for nothing any more."""
        others = tuple(entry for entry in self.waiting if entry[0] != order)
        waiting = (*others, (order, received_minor)) if received_minor else others
        return self if waiting == self.waiting else replace(self, waiting=waiting)


def changes(transfers: Iterable[Transfer]) -> Iterator[tuple[Account, int]]:
    """What the balances of people's accounts change by, each account once, in the order in which they are locked.

    An account that only passed money through is told with 0: its row must exist for the entries.
    """
    sums: dict[Account, int] = {}
    for transfer in transfers:
        for entry in transfer.entries:
            if entry.account.owner is not None:
                sums[entry.account] = sums.get(entry.account, 0) + entry.amount_minor
    yield from sorted(sums.items(), key=lambda change: change[0].id)


def receipt(
    holdings: Holdings, cause: str, acquirer: str, currency: str, amount_minor: int, value_minor: int
) -> Transfer:
    """Money from outside into the wallet; in another currency as two balanced pairs through the exchange."""
    source = clearing(acquirer, currency)
    if currency == "RUB":
        return moved(cause, "receipt", holdings.person, (source, holdings.wallet, value_minor))
    return moved(
        cause,
        "receipt",
        holdings.person,
        (source, exchange(currency), amount_minor),
        (exchange("RUB"), holdings.wallet, value_minor),
    )


def parked(cause: str, acquirer: str, currency: str, amount_minor: int) -> Transfer:
    """Money from outside that belongs to nobody yet."""
    return moved(cause, "receipt", None, (clearing(acquirer, currency), suspense(currency), amount_minor))


def purchase(holdings: Holdings, cause: str, price_minor: int) -> Transfer:
    """Spend the wallet, then what was earned. The caller has seen that it is there."""
    from_wallet = min(price_minor, holdings.wallet_minor)
    from_earned = price_minor - from_wallet
    assert from_earned <= holdings.earned_minor, "an order is paid with what is there"
    return moved(
        cause,
        "purchase",
        holdings.person,
        (holdings.wallet, REVENUE, from_wallet),
        (holdings.earned, REVENUE, from_earned),
    )


def reward(holdings: Holdings, receipt: UUID, reward_minor: int) -> Transfer:
    cause = reward_cause(receipt)
    return moved(cause, "reward", holdings.person, (REWARDS, holdings.earned, reward_minor))


def reward_cause(receipt: UUID) -> str:
    """A receipt is rewarded once, whoever is named as its partner."""
    return f"reward:{receipt}"


def reward_id(receipt: UUID) -> UUID:
    return transfer_id(reward_cause(receipt), "reward")


def owed_settled(holdings: Holdings, cause: str) -> Transfer | None:
    """A credit pays what is owed, from what no open order waits for. None when there is nothing to settle or with."""
    waiting_minor = sum(received_minor for _, received_minor in holdings.waiting)
    free_minor = max(0, holdings.wallet_minor - waiting_minor)
    from_wallet = min(holdings.owed_minor, free_minor)
    from_earned = min(holdings.owed_minor - from_wallet, holdings.earned_minor)
    if from_wallet + from_earned == 0:
        return None
    return moved(
        cause,
        "owed_settled",
        holdings.person,
        (holdings.wallet, holdings.owed, from_wallet),
        (holdings.earned, holdings.owed, from_earned),
    )
