"""A scenario: two people make one purchase in the chat, and the result is checked.

Alice starts and gets her link ─▶ Bob follows it and pays with Stars ─▶ five reports of the payment
  ─▶ one booking ─▶ Alice's reward ─▶ Bob's key, which carries traffic
  ─▶ the messages ─▶ one trace ─▶ Bob tops up and renews from the balance
  ─▶ Bob pays at YooKassa, and its notice is lost ─▶ his first Stars are given back
  ─▶ the invariants
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp

from shared.contracts.money import shown
from shared.contracts.operations import Audit, AuditQuery
from shared.contracts.owners import SERVICE_NAMES
from shared.contracts.payments import TrialBalanceLine, TrialBalanceQuery
from shared.messaging.jetstream import BrokerError, consumer_lag
from shared.messaging.rpc import Bus, UnansweredError
from turnpike_cli.audit import Found, audit
from turnpike_local.at_yookassa import dropped_notices, pay_unnoticed
from turnpike_local.faults import Fault, armed, supervised
from turnpike_local.sandbox.client import Chat, Json, PersonClient, SandboxClient, SandboxError
from turnpike_local.stack import Stack
from turnpike_local.waiting import until
from turnpike_local.xray import NotFetchedError, fetch_through
from turnpike_local.yookassa import ControlError, YookassaControl

REPEATS_OF_THE_SAME_UPDATE = 2
REPEATS_AS_NEW_UPDATES = 2
REPORTS = 1 + REPEATS_OF_THE_SAME_UPDATE + REPEATS_AS_NEW_UPDATES
EVERY_STEP = "every step succeeded"
PATIENCE_S = 20.0
# Restarts come one after the other. Leases and waits for acknowledgements add seconds to each.
FAULTY_PATIENCE_S = 120.0
AUDIT_TIMEOUT_S = 5.0
FETCH_TIMEOUT_S = 10.0
REFUSAL_TIMEOUT_S = 5.0
SPANS_TIMEOUT_S = 10.0
"""A service exports its spans once a second; one that dies takes those of its last second along."""
REWARD = "14.90"
WATCHED_WITHIN_S = 60.0
"""The shop asks for an open invoice 5, 15 and 45 seconds after it was opened."""
TOPUP, TOPUP_REWARD = "500", "50\u00a0₽"
CHARGED = ("clearing:telegram_stars", "XTR")
"""The account that Telegram's Stars come from, and its currency."""
TRACED = set(SERVICE_NAMES.values())
"""The service names in the spans."""
LAST_MESSAGES = {"access_ready", "reward_earned"}
"""The messages that end the scenario, by their kinds."""


class Gained(NamedTuple):
    """The sums of three accounts, in kopecks, or how much they rose."""

    wallet_minor: int
    earned_minor: int
    revenue_minor: int


class StepFailedError(Exception):
    """A step failed, and the steps after it depend on it."""


FAILURES = (
    StepFailedError,
    SandboxError,
    ControlError,
    UnansweredError,
    BrokerError,
    aiohttp.ClientError,
    OSError,  # Includes TimeoutError.
)


@dataclass(frozen=True)
class Check:
    """A claim that could be false."""

    sentence: str
    holds: bool
    seen: str = ""


@dataclass(frozen=True)
class Incident:
    """A fault that was injected, or a restart after it."""

    at_ns: int
    part: str
    what: str
    intermediate: bool = False
    """A step between a fault and the restart."""


@dataclass
class Scenario:
    """The results that the demo shows. `ok` decides its exit status."""

    patience_s: float = PATIENCE_S
    people: tuple[PersonClient, ...] = ()
    order: str = ""
    charge: str = ""
    yookassa_url: str = ""
    pay_link: str = ""
    paid_at_ns: int = 0
    ledger_before: tuple[TrialBalanceLine, ...] = ()
    ledger_after: tuple[TrialBalanceLine, ...] = ()
    messages: list[tuple[str, str]] = field(default_factory=list)
    spans: list[Json] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    invariants: list[Found] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.holds for check in self.checks) and not any(
            found.finding.violations for found in self.invariants
        )

    @property
    def every_step_succeeded(self) -> bool:
        """So far: only a step that failed is among the checks."""
        return all(check.sentence != EVERY_STEP for check in self.checks)

    @property
    def gains(self) -> dict[tuple[str, str], int]:
        """The gain of each account, in minor units, by account and currency."""
        sums: dict[tuple[str, str], int] = {}
        for sign, lines in ((1, self.ledger_after), (-1, self.ledger_before)):
            for line in lines:
                account = (line.account, line.currency)
                sums[account] = sums.get(account, 0) + sign * line.amount_minor
        return sums

    def of_two(self) -> tuple[PersonClient, PersonClient]:
        """Alice and Bob. Raises StepFailedError where they did not come."""
        if len(self.people) != 2:
            raise StepFailedError("Alice and Bob did not come")
        return self.people[0], self.people[1]

    def note(self, part: str, what: str, *, intermediate: bool = False) -> None:
        self.incidents.append(Incident(time.time_ns(), part, what, intermediate))

    def check(self, sentence: str, seen: object = "", *, holds: bool) -> None:
        self.checks.append(Check(sentence, holds, str(seen)))


async def play(stack: Stack, faults: Sequence[Fault] = (), *, patience_s: float = 0) -> Scenario:
    """Play the purchase while the `faults` happen. Every result is recorded, even after a failure.

    A wait of more than `patience_s` is a check that does not hold. The default, 0, depends on
    whether there are faults.
    """
    assert stack.sandbox is not None, "a scenario needs the sandbox"
    scenario = Scenario(
        patience_s=patience_s or (FAULTY_PATIENCE_S if faults else PATIENCE_S),
        yookassa_url=stack.urls["yookassa"],
    )
    bus = Bus(stack.broker.url, "turnpike-demo")
    async with (
        SandboxClient(stack.sandbox.url) as sandbox,
        supervised(stack, faults, scenario.note),
    ):
        try:
            with _failures_recorded(scenario):
                await asyncio.wait_for(bus.open(), scenario.patience_s)
                scenario.ledger_before = await _trial_balance(bus)
                alice, bob = scenario.people = await _invite(sandbox)
                if faults:  # The faults are for the payment, not for the steps before it.
                    await _wait_until_no_consumer_lag(scenario, sandbox, bus)
                async with armed(stack, bus, faults, scenario.note) as inject:
                    await _pay(scenario, sandbox, bob)
                    await inject()
                key = await _wait_for_key(scenario, bob)
                await _pay_again(scenario, bob)
                await _repeat_reports(scenario, sandbox, bus)
                await _use_key(scenario, key, f"{stack.sandbox.url}/page")
                await alice.receives(REWARD, timeout_s=scenario.patience_s)
            purchased = scenario.every_step_succeeded
            for check in (
                _wait_until_no_consumer_lag,
                _check_messages,
                _check_trace,
                _check_ledger,
            ):
                with _failures_recorded(scenario):
                    await check(scenario, sandbox, bus)
            for step in (_top_up, _buy_from_balance, _pay_unnoticed, _give_back):
                with _failures_recorded(scenario):
                    if purchased:  # Else the chat has none of the buttons that they wait for.
                        await step(scenario, sandbox, bus)
            with _failures_recorded(scenario):
                await _check_invariants(scenario, sandbox, bus)
            for fault in faults:
                with _failures_recorded(scenario):
                    proof = await fault.proof(stack)
                    scenario.check(proof.sentence, proof.seen, holds=proof.holds)
        finally:
            await bus.close()
    return scenario


@contextmanager
def _failures_recorded(scenario: Scenario) -> Iterator[None]:
    """A failed step ends the block, because the next steps depend on it. The scenario goes on."""
    try:
        yield
    except FAILURES as error:
        seen = error if str(error) else type(error).__name__
        scenario.check(EVERY_STEP, seen, holds=False)


async def started(person: PersonClient, text: str = "/start") -> None:
    """Start, keep the offered language, and accept the terms."""
    await person.say(text)
    await person.press("Accept")
    await person.button("Buy")


async def _invite(sandbox: SandboxClient) -> tuple[PersonClient, PersonClient]:
    alice = await sandbox.new_person("Alice", language="en")
    await started(alice)
    await alice.press("Invite")
    link = (await alice.receives("start=r_")).text
    code = link[link.index("start=") + len("start=") :].split()[0]
    bob = await sandbox.new_person("Bob", language="en")
    await started(bob, f"/start {code}")
    return alice, bob


async def _pay(scenario: Scenario, sandbox: SandboxClient, bob: PersonClient) -> None:
    """Go through the screens to the pay sheet, and confirm it."""
    await bob.press("Buy")
    await bob.press("Basic")
    await bob.press("1 month")
    await bob.press("Stars")
    scenario.pay_link = (await bob.button("Pay")).url or ""
    scenario.paid_at_ns = time.time_ns()
    payment = await bob.pay()
    scenario.check("the pay sheet was confirmed", payment.error or "", holds=payment.paid)
    if payment.charge is None:
        raise StepFailedError("without a payment there is nothing to wait for")
    scenario.charge = payment.charge
    payloads = {charge["charge"]: charge["payload"] for charge in await sandbox.payments()}
    scenario.order = payloads[payment.charge].split(".")[0]


async def _wait_for_key(scenario: Scenario, bob: PersonClient) -> str:
    chat = await bob.wait_for(
        lambda chat: bool(keys_in(chat)), timeout_s=scenario.patience_s, what="the key"
    )
    return keys_in(chat)[0]


def keys_in(chat: Chat) -> list[str]:
    return [
        code for message in chat.from_bot for code in message.code if code.startswith("vless://")
    ]


async def _pay_again(scenario: Scenario, bob: PersonClient) -> None:
    """Pre-checkout refuses: a pay sheet that is still open charges nothing for a paid order."""
    opened = await bob.open(scenario.pay_link)
    again = await bob.pay_invoice(opened["invoice"]["slug"])
    seen = again.error or "it was charged"
    scenario.check("the same order cannot be paid again", seen, holds=not again.paid)


async def _repeat_reports(scenario: Scenario, sandbox: SandboxClient, bus: Bus) -> None:
    """Twice as the same update, which the intake drops, and twice as a new one about the charge."""
    for _ in range(REPEATS_OF_THE_SAME_UPDATE):
        await sandbox.repeat(scenario.charge, same_update=True)
    for _ in range(REPEATS_AS_NEW_UPDATES):
        await sandbox.repeat(scenario.charge, same_update=False)

    async def none_is_pending() -> bool:
        return bool((await sandbox.health())["pending_updates"] == 0)

    await until(none_is_pending, "the bot has received every report", timeout_s=scenario.patience_s)
    bot = await bus.query(AuditQuery.of("bot")())
    received = bot.counts["reports"] if isinstance(bot, Audit) else 0
    scenario.check(
        f"{REPORTS} reports came, {REPEATS_OF_THE_SAME_UPDATE} in a known update",
        f"{received} updates report {scenario.charge}",
        holds=received == REPORTS - REPEATS_OF_THE_SAME_UPDATE,
    )


async def _use_key(scenario: Scenario, key: str, page: str) -> None:
    """The key carries traffic, and a key that was not issued does not."""
    sentence = "a page came through the key"
    try:
        text = await fetch_through(key, page, FETCH_TIMEOUT_S)
        scenario.check(sentence, f"{len(text)} characters", holds="Traffic reached" in text)
    except NotFetchedError as error:
        scenario.check(sentence, error, holds=False)
    uuid = key.removeprefix("vless://").split("@")[0]
    try:
        await fetch_through(key.replace(uuid, str(uuid4())), page, REFUSAL_TIMEOUT_S)
        scenario.check("a random key is refused", "a page came through it", holds=False)
    except NotFetchedError as error:
        scenario.check("a random key is refused", error, holds=True)


async def _wait_until_no_consumer_lag(scenario: Scenario, _: SandboxClient, bus: Bus) -> None:
    async def no_lag() -> bool:
        return not any((await consumer_lag(bus.client)).values())

    await until(no_lag, "no handler has a consumer lag", timeout_s=scenario.patience_s)


async def _check_messages(scenario: Scenario, sandbox: SandboxClient, _: Bus) -> None:
    chats = [(person.first_name, await person.chat()) for person in await sandbox.people()]
    scenario.messages = [(name, message.text) for name, chat in chats for message in chat.from_bot]
    keys = [key for _, chat in chats for key in keys_in(chat)]
    scenario.check("the key came in one message", len(keys), holds=len(keys) == 1)
    rewards = len([text for _, text in scenario.messages if REWARD in text])
    scenario.check("the reward came in one message", rewards, holds=rewards == 1)


async def _check_trace(scenario: Scenario, sandbox: SandboxClient, _: Bus) -> None:
    """The order's id is the id of its trace. A span arrives up to a second after it ended."""
    about = scenario.order or await sandbox.newest_payment_trace()
    if about is None:
        raise StepFailedError("no order left a trace")

    async def has_services() -> bool:
        scenario.spans = await sandbox.spans(about)
        return {span["service"] for span in scenario.spans} >= TRACED

    async def has_messages() -> bool:
        scenario.spans = await sandbox.spans(about)
        return {span["attributes"].get("message") for span in scenario.spans} >= LAST_MESSAGES

    with suppress(TimeoutError):
        await until(has_services, "each service exported a span", timeout_s=scenario.patience_s)
        await until(has_messages, "the last messages are traced", timeout_s=SPANS_TIMEOUT_S)
    services = {span["service"] for span in scenario.spans if span["trace_id"] == scenario.order}
    scenario.check(
        "one trace holds all five services",
        ", ".join(sorted(services)),
        holds=services >= TRACED,
    )
    attributes = [set(span["attributes"]) for span in scenario.spans]
    has_sql = any("db.system.name" in names for names in attributes)
    has_http = any("http.request.method" in names for names in attributes)
    scenario.check(
        "the trace holds SQL and HTTP spans",
        f"{len(scenario.spans)} spans",
        holds=has_sql and has_http,
    )


async def _check_invariants(scenario: Scenario, _: SandboxClient, bus: Bus) -> None:
    """Query the audits until the shop is quiescent (I13), within the patience."""

    async def hold() -> bool:
        scenario.invariants = await audit(bus, timeout_s=AUDIT_TIMEOUT_S)
        return not any(found.finding.violations for found in scenario.invariants)

    with suppress(TimeoutError):
        await until(hold, "every invariant holds", timeout_s=scenario.patience_s)


async def _check_ledger(scenario: Scenario, _: SandboxClient, bus: Bus) -> None:
    """The ledger gained one purchase and one reward of 10 %."""
    scenario.ledger_after = await _trial_balance(bus)
    gains = scenario.gains
    price_minor = gains.get(("revenue", "RUB"), 0)
    stars = -gains.get(CHARGED, 0)
    scenario.check(
        f"{REPORTS} reports became one booking",
        f"{shown(stars, 'XTR')}, {shown(price_minor)}",
        holds=(price_minor, stars) == (14900, 99),
    )
    reward_minor = gains.get(("earned", "RUB"), 0)
    scenario.check(
        "the partner earned 10 %",
        f"{shown(reward_minor)} of {shown(price_minor)}",
        holds=reward_minor == price_minor // 10 > 0,
    )


async def _top_up(scenario: Scenario, sandbox: SandboxClient, bus: Bus) -> None:
    """Bob tops up his balance. The charge is reported again, and is credited and rewarded once."""
    alice, bob = scenario.of_two()
    before = await _gained(bus)
    for button in ("Balance", "Top up", TOPUP, "Stars"):
        await bob.press(button)
    await bob.button("Pay")
    payment = await bob.pay()
    if payment.charge is None:
        raise StepFailedError(f"the top-up was not paid: {payment.error}")
    await sandbox.repeat(payment.charge, same_update=False)
    await bob.receives("topped up", timeout_s=scenario.patience_s)
    await alice.receives(TOPUP_REWARD, timeout_s=scenario.patience_s)
    await _wait_until_no_consumer_lag(scenario, sandbox, bus)
    wallet_minor, earned_minor, _ = _difference(before, await _gained(bus))
    scenario.check(
        "a top-up was credited once",
        f"{shown(wallet_minor)} and {shown(earned_minor)}",
        holds=(wallet_minor, earned_minor) == (50_000, 5_000),
    )


async def _buy_from_balance(scenario: Scenario, sandbox: SandboxClient, bus: Bus) -> None:
    """Bob renews from the balance by a double tap. No partner earns from the same money again."""
    _, bob = scenario.of_two()
    before = await _gained(bus)
    for button in ("Buy", "Basic", "1 month"):
        await bob.press(button)
    await bob.press("from the balance", times=2)
    await bob.receives("from your balance", timeout_s=scenario.patience_s)
    await _wait_until_no_consumer_lag(scenario, sandbox, bus)
    wallet_minor, earned_minor, revenue_minor = _difference(before, await _gained(bus))
    scenario.check(
        "a double tap bought once",
        f"{shown(wallet_minor)}, {shown(revenue_minor)}, {shown(earned_minor)}",
        holds=(wallet_minor, earned_minor, revenue_minor) == (-14_900, 0, 14_900),
    )


async def _pay_unnoticed(scenario: Scenario, sandbox: SandboxClient, bus: Bus) -> None:
    """Bob buys a month at YooKassa, which never says so: the shop asks, and books it."""
    _, bob = scenario.of_two()
    before = await _gained(bus)
    async with YookassaControl(scenario.yookassa_url) as yookassa:
        payment = await pay_unnoticed(bob, yookassa, scenario.patience_s)
        wanted = Gained(0, 1_490, 14_900)
        within_s = scenario.patience_s + min(WATCHED_WITHIN_S, 3 * scenario.patience_s)
        gained = await _settled(before, wanted, within_s, scenario, sandbox, bus)
        dropped = await dropped_notices(payment, yookassa)
    scenario.check(
        "a lost notice was made up for",
        f"{dropped} lost, {shown(gained.revenue_minor)} and {shown(gained.earned_minor)}",
        holds=dropped == 1 and gained == wanted,
    )


async def _give_back(scenario: Scenario, sandbox: SandboxClient, bus: Bus) -> None:
    """The owner gives Bob's first Stars back at Telegram. Alice's reward goes back with them."""
    _, bob = scenario.of_two()
    if not scenario.order:
        raise StepFailedError("there is no payment to give back")
    before = await _gained(bus)
    await sandbox.give_back(scenario.order)
    await bob.receives("returned", timeout_s=scenario.patience_s)
    wanted = Gained(0, -1_490, -14_900)
    gained = await _settled(before, wanted, scenario.patience_s, scenario, sandbox, bus)
    scenario.check(
        "a refund took the reward back",
        f"{shown(gained.revenue_minor)} and {shown(gained.earned_minor)}",
        holds=gained == wanted,
    )


async def _settled(
    before: Gained,
    wanted: Gained,
    within_s: float,
    scenario: Scenario,
    sandbox: SandboxClient,
    bus: Bus,
) -> Gained:
    """How much the accounts rose once nothing is pending. It waits for what is wanted first."""

    async def is_there() -> bool:
        return _difference(before, await _gained(bus)) == wanted

    with suppress(TimeoutError):
        await until(is_there, "the money is booked", timeout_s=within_s)
    await _wait_until_no_consumer_lag(scenario, sandbox, bus)
    return _difference(before, await _gained(bus))


async def _gained(bus: Bus) -> Gained:
    sums = {
        line.account: line.amount_minor
        for line in await _trial_balance(bus)
        if line.currency == "RUB"
    }
    return Gained(sums.get("wallet", 0), sums.get("earned", 0), sums.get("revenue", 0))


def _difference(before: Gained, after: Gained) -> Gained:
    return Gained(*(now - was for was, now in zip(before, after, strict=True)))


async def _trial_balance(bus: Bus) -> tuple[TrialBalanceLine, ...]:
    answer = await bus.query(TrialBalanceQuery())
    return getattr(answer, "lines", ())


def tree(spans: list[Json]) -> list[tuple[int, Json]]:
    """The spans with their depth: parents before children, siblings by start.

    A span with an unknown parent is a root.
    """
    known = {span["span_id"] for span in spans}
    children: dict[Any, list[Json]] = {}
    for span in sorted(spans, key=lambda span: (span["start_ns"], -span["end_ns"])):
        parent = span["parent_id"] if span["parent_id"] in known else None
        children.setdefault(parent, []).append(span)

    def below(parent: Any, depth: int) -> list[tuple[int, Json]]:
        return [
            entry
            for span in children.get(parent, [])
            for entry in ((depth, span), *below(span["span_id"], depth + 1))
        ]

    return below(None, 0)
