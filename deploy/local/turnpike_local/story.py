"""One purchase played from outside by people in the chat: what they did, what they saw, what the shop says of it.

Alice starts, takes her link ─▶ Bob follows it, buys with Stars ─▶ the payment is reported five times
  ─▶ one booking ─▶ Alice's reward ─▶ Bob's key, which carries traffic ─▶ the messages ─▶ one trace, invariants
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from shared.bus import Bus
from shared.questions import AskAudit, AskBook, Audit, BookLine
from turnpike_cli.audit import Found, audit
from turnpike_local.sandbox.client import Chat, Json, PersonClient, SandboxClient
from turnpike_local.stack import Stack
from turnpike_local.xray import NotFetchedError, fetch_through

REPEATS_OF_THE_SAME_UPDATE = 2
REPEATS_AS_NEW_UPDATES = 2
REPORTS = 1 + REPEATS_OF_THE_SAME_UPDATE + REPEATS_AS_NEW_UPDATES
SETTLE_TIMEOUT_S = 20.0
FETCH_TIMEOUT_S = 10.0
REFUSAL_TIMEOUT_S = 5.0
FIVE = {"turnpike-bot", "turnpike-payments", "turnpike-referrals", "turnpike-vpn", "turnpike-notifier"}


@dataclass(frozen=True)
class Check:
    """A sentence that could be false."""

    sentence: str
    holds: bool
    seen: str = ""


@dataclass
class Story:
    """Everything that the demo shows; `ok` is its exit status."""

    order: str = ""
    charge: str = ""
    pay_link: str = ""
    paid_at_ns: int = 0
    book_before: tuple[BookLine, ...] = ()
    book_after: tuple[BookLine, ...] = ()
    messages: list[tuple[str, str]] = field(default_factory=list)
    spans: list[Json] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    invariants: list[Found] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.holds for check in self.checks) and not any(
            found.finding.violations for found in self.invariants
        )

    def saw(self, sentence: str, holds: bool, seen: object = "") -> None:  # noqa: FBT001 - the second half of a sentence.
        self.checks.append(Check(sentence, holds, str(seen)))


async def play(stack: Stack) -> Story:
    """Play the purchase on a fresh shop. Raises TimeoutError when somebody waits in vain."""
    assert stack.sandbox is not None, "a story needs the sandbox"
    story = Story()
    bus = Bus(stack.broker.url, "turnpike-demo")
    await bus.open()
    try:
        async with SandboxClient(stack.sandbox.url) as sandbox:
            story.book_before = await _book(bus)
            alice, bob = await _invited(sandbox)
            key = await _bought(story, sandbox, bob)
            await _refused_again(story, bob)
            await _reported_again(story, sandbox, bus)
            await _key_works(story, key, f"{stack.sandbox.url}/page")
            await _told(story, bus, alice, bob)
            await _traced(story, sandbox)
            story.invariants = await _at_rest(bus)
            story.book_after = await _book(bus)
            _booked(story)
    finally:
        await bus.close()
    return story


async def started(person: PersonClient, text: str = "/start") -> None:
    """Start, with the language as it is and the offer accepted."""
    await person.say(text)
    await person.press("Accept")
    await person.button("Buy")


async def _invited(sandbox: SandboxClient) -> tuple[PersonClient, PersonClient]:
    alice = await sandbox.new_person("Alice", language="en")
    await started(alice)
    await alice.press("Invite")
    link = (await alice.hears("start=r_")).text
    code = link[link.index("start=") + len("start=") :].split()[0]
    bob = await sandbox.new_person("Bob", language="en")
    await started(bob, f"/start {code}")
    return alice, bob


async def _bought(story: Story, sandbox: SandboxClient, bob: PersonClient) -> str:
    """Through the screens to the pay sheet; answers the key that came."""
    await bob.press("Buy")
    await bob.press("Basic")
    await bob.press("1 month")
    await bob.press("Stars")
    story.pay_link = (await bob.button("Pay")).url or ""
    story.paid_at_ns = time.time_ns()
    payment = await bob.pay()
    story.saw("the pay sheet was confirmed", payment.paid, payment.error or "")
    (charge,) = await sandbox.payments()
    story.charge = charge["charge"]
    story.order = charge["payload"].split(".")[0]
    chat = await bob.wait_for(lambda chat: bool(keys_in(chat)), timeout_s=SETTLE_TIMEOUT_S, what="the key")
    return keys_in(chat)[0]


def keys_in(chat: Chat) -> list[str]:
    return [code for message in chat.from_bot for code in message.code if code.startswith("vless://")]


async def _refused_again(story: Story, bob: PersonClient) -> None:
    """The pre-checkout is a real check: a pay sheet that is still open charges nothing once the order is paid."""
    opened = await bob.open(story.pay_link)
    again = await bob.pay_invoice(opened["invoice"]["slug"])
    story.saw("the same order cannot be paid again", not again.paid, again.error or "it was charged")


async def _reported_again(story: Story, sandbox: SandboxClient, bus: Bus) -> None:
    """Twice as the same update, which the intake knows, and twice as another update about the same charge."""
    for _ in range(REPEATS_OF_THE_SAME_UPDATE):
        await sandbox.repeat(story.charge, same_update=True)
    for _ in range(REPEATS_AS_NEW_UPDATES):
        await sandbox.repeat(story.charge, same_update=False)

    async def none_waits() -> bool:
        return bool((await sandbox.health())["pending_updates"] == 0)

    await _until(none_waits, "the bot takes every report")
    bot = await bus.ask(AskAudit.of("bot")())
    taken = bot.counts["reports"] if isinstance(bot, Audit) else 0
    story.saw(
        f"the payment was reported {REPORTS} times, {REPEATS_OF_THE_SAME_UPDATE} of them by a known update",
        taken == REPORTS - REPEATS_OF_THE_SAME_UPDATE,
        f"{taken} updates report {story.charge}",
    )


async def _key_works(story: Story, key: str, page: str) -> None:
    try:
        text = await fetch_through(key, page, FETCH_TIMEOUT_S)
        story.saw("a client Xray fetched a page through the key", "Traffic reached" in text, f"{len(text)} characters")
    except NotFetchedError as error:
        story.saw("a client Xray fetched a page through the key", False, error)
    uuid = key.removeprefix("vless://").split("@")[0]
    try:
        await fetch_through(key.replace(uuid, str(uuid4())), page, REFUSAL_TIMEOUT_S)
        story.saw("a random key is refused", False, "a page came through it")
    except NotFetchedError as error:
        story.saw("a random key is refused", True, error)


async def _told(story: Story, bus: Bus, alice: PersonClient, bob: PersonClient) -> None:
    await alice.hears("14.90", timeout_s=SETTLE_TIMEOUT_S)

    async def settled() -> bool:
        return not any((await bus.unsettled()).values())

    await _until(settled, "every listener has heard everything")
    chats = {"Alice": await alice.chat(), "Bob": await bob.chat()}
    story.messages = [(name, message.text) for name, chat in chats.items() for message in chat.from_bot]
    story.saw("the key came in exactly one message", len(keys_in(chats["Bob"])) == 1, f"{len(keys_in(chats['Bob']))}")
    rewards = [message for message in chats["Alice"].from_bot if "14.90" in message.text]
    story.saw("the inviter was told of the reward exactly once", len(rewards) == 1, f"{len(rewards)}")


async def _traced(story: Story, sandbox: SandboxClient) -> None:
    """The order's id is the id of its trace; spans arrive up to a second after they ended."""

    async def whole() -> bool:
        story.spans = await sandbox.spans(story.order)
        return {span["service"] for span in story.spans} >= FIVE

    with suppress(TimeoutError):
        await _until(whole, "the trace is whole")
    services = {span["service"] for span in story.spans if span["trace_id"] == story.order}
    story.saw("one trace holds all five services", services >= FIVE, ", ".join(sorted(services)))
    attributes = [set(span["attributes"]) for span in story.spans]
    has_sql = any({"db.system", "db.system.name"} & names for names in attributes)
    has_http = any({"http.method", "http.request.method"} & names for names in attributes)
    story.saw("the trace holds SQL and HTTP spans", has_sql and has_http, f"{len(story.spans)} spans")


async def _at_rest(bus: Bus) -> list[Found]:
    """The audits, asked until nothing is on its way any more (I13), at most for a while."""
    ends_at = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        found = await audit(bus)
        if time.monotonic() > ends_at or not any(entry.finding.violations for entry in found):
            return found
        await asyncio.sleep(0.25)


def _booked(story: Story) -> None:
    """What the book gained is one purchase and one reward of 10 %."""
    sums: dict[tuple[str, str], int] = {}
    for sign, lines in ((1, story.book_after), (-1, story.book_before)):
        for line in lines:
            account = (line.account, line.currency)
            sums[account] = sums.get(account, 0) + sign * line.amount_minor
    price_minor = sums.get(("revenue", "RUB"), 0)
    stars = -sums.get(("clearing:telegram_stars", "XTR"), 0)
    story.saw(
        f"{REPORTS} reports became one booking", (price_minor, stars) == (14900, 99), f"{stars} XTR, {price_minor}"
    )
    reward_minor = sums.get(("earned", "RUB"), 0)
    story.saw("the inviter earned 10 %", reward_minor == price_minor // 10 > 0, f"{reward_minor} of {price_minor}")


async def _book(bus: Bus) -> tuple[BookLine, ...]:
    answer = await bus.ask(AskBook())
    return getattr(answer, "lines", ())


async def _until(true: Callable[[], Awaitable[bool]], what: str) -> None:
    ends_at = time.monotonic() + SETTLE_TIMEOUT_S
    while not await true():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"waited {SETTLE_TIMEOUT_S} s until {what}")
        await asyncio.sleep(0.1)


def tree(spans: list[Json]) -> list[tuple[int, Json]]:
    """The spans with their depth, parents before children, by start; a span whose parent is unknown is a root."""
    known = {span["span_id"] for span in spans}
    children: dict[Any, list[Json]] = {}
    for span in sorted(spans, key=lambda span: (span["start_ns"], -span["end_ns"])):
        parent = span["parent_id"] if span["parent_id"] in known else None
        children.setdefault(parent, []).append(span)

    def below(parent: Any, depth: int) -> list[tuple[int, Json]]:
        return [
            entry for span in children.get(parent, []) for entry in ((depth, span), *below(span["span_id"], depth + 1))
        ]

    return below(None, 0)
