"""One purchase played from outside by people in the chat: what they did, what they saw, what the shop says of it.

Alice starts, takes her link ─▶ Bob follows it, buys with Stars ─▶ the payment is reported five times
  ─▶ one booking ─▶ Alice's reward ─▶ Bob's key, which carries traffic ─▶ the messages ─▶ one trace, invariants
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from shared.bus import Bus, UnansweredError
from shared.questions import AskAudit, AskBook, Audit, BookLine
from turnpike_cli.audit import Found, audit
from turnpike_local.faults import Fault, kept, trapped
from turnpike_local.sandbox.client import Chat, Json, PersonClient, SandboxClient, SandboxError
from turnpike_local.stack import Stack
from turnpike_local.waiting import until
from turnpike_local.xray import NotFetchedError, fetch_through

REPEATS_OF_THE_SAME_UPDATE = 2
REPEATS_AS_NEW_UPDATES = 2
REPORTS = 1 + REPEATS_OF_THE_SAME_UPDATE + REPEATS_AS_NEW_UPDATES
PATIENCE_S = 20.0
FAULTY_PATIENCE_S = 120.0  # Starts one after the other, then leases and acknowledgement waits of a few seconds each.
AUDIT_TIMEOUT_S = 5.0
FETCH_TIMEOUT_S = 10.0
REFUSAL_TIMEOUT_S = 5.0
REWARD = "14.90"
FIVE = {"turnpike-bot", "turnpike-payments", "turnpike-referrals", "turnpike-vpn", "turnpike-notifier"}


class InVainError(Exception):
    """The story cannot go on as it should."""


IN_VAIN = (InVainError, SandboxError, UnansweredError, aiohttp.ClientError, OSError)  # A TimeoutError is an OSError.


@dataclass(frozen=True)
class Check:
    """A sentence that could be false."""

    sentence: str
    holds: bool
    seen: str = ""


@dataclass(frozen=True)
class Break:
    """What was done to the shop on purpose, and what its keeper did then."""

    at_ns: int
    who: str
    what: str


@dataclass
class Story:
    """Everything that the demo shows; `ok` decides its exit status."""

    patience_s: float = PATIENCE_S
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
    breaks: list[Break] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.holds for check in self.checks) and not any(
            found.finding.violations for found in self.invariants
        )

    def note(self, who: str, what: str) -> None:
        self.breaks.append(Break(time.time_ns(), who, what))

    def saw(self, sentence: str, holds: bool, seen: object = "") -> None:  # noqa: FBT001 - the second half of a sentence.
        self.checks.append(Check(sentence, holds, str(seen)))


async def play(stack: Stack, faults: Sequence[Fault] = (), *, patience_s: float = 0) -> Story:
    """Play the purchase while the `faults` happen, and tell it to its end however it goes.

    Whoever waits longer than `patience_s` (0: as long as it takes with these faults) is a check that does not hold.
    """
    assert stack.sandbox is not None, "a story needs the sandbox"
    story = Story(patience_s=patience_s or (FAULTY_PATIENCE_S if faults else PATIENCE_S))
    bus = Bus(stack.broker.url, "turnpike-demo")
    async with SandboxClient(stack.sandbox.url) as sandbox, kept(stack, faults, story.note):
        try:
            with _nobody_waits_in_vain(story):
                await asyncio.wait_for(bus.open(), story.patience_s)
                story.book_before = await _book(bus)
                alice, bob = await _invited(sandbox)
                if faults:  # A trap is for the payment, not for what came before it.
                    await _settled(story, sandbox, bus)
                async with trapped(stack, bus, faults, story.note) as spring:
                    await _paid(story, sandbox, bob)
                    await spring()
                key = await _got_key(story, bob)
                await _refused_again(story, bob)
                await _reported_again(story, sandbox, bus)
                await _key_works(story, key, f"{stack.sandbox.url}/page")
                await alice.hears(REWARD, timeout_s=story.patience_s)
            for look in (_settled, _told, _traced, _audited, _booked):
                with _nobody_waits_in_vain(story):
                    await look(story, sandbox, bus)
            for fault in faults:
                with _nobody_waits_in_vain(story):
                    proof = await fault.proof(stack)
                    story.saw(proof.sentence, proof.holds, proof.seen)
        finally:
            await bus.close()
    return story


@contextmanager
def _nobody_waits_in_vain(story: Story) -> Iterator[None]:
    """What follows depends on what did not come, so the block ends; the story goes on behind it."""
    try:
        yield
    except IN_VAIN as error:
        story.saw("nobody waited in vain", False, error if str(error) else type(error).__name__)


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


async def _paid(story: Story, sandbox: SandboxClient, bob: PersonClient) -> None:
    """Through the screens to the pay sheet."""
    await bob.press("Buy")
    await bob.press("Basic")
    await bob.press("1 month")
    await bob.press("Stars")
    story.pay_link = (await bob.button("Pay")).url or ""
    story.paid_at_ns = time.time_ns()
    payment = await bob.pay()
    story.saw("the pay sheet was confirmed", payment.paid, payment.error or "")
    if payment.charge is None:
        raise InVainError("without a payment there is nothing to wait for")
    story.charge = payment.charge
    payloads = {charge["charge"]: charge["payload"] for charge in await sandbox.payments()}
    story.order = payloads[payment.charge].split(".")[0]


async def _got_key(story: Story, bob: PersonClient) -> str:
    chat = await bob.wait_for(lambda chat: bool(keys_in(chat)), timeout_s=story.patience_s, what="the key")
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

    await until(none_waits, "the bot has taken every report", timeout_s=story.patience_s)
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


async def _settled(story: Story, _: SandboxClient, bus: Bus) -> None:
    async def all_heard() -> bool:
        return not any((await bus.unsettled()).values())

    await until(all_heard, "every listener has heard everything", timeout_s=story.patience_s)


async def _told(story: Story, sandbox: SandboxClient, _: Bus) -> None:
    chats = [(person.first_name, await person.chat()) for person in await sandbox.people()]
    story.messages = [(name, message.text) for name, chat in chats for message in chat.from_bot]
    keys = [key for _, chat in chats for key in keys_in(chat)]
    story.saw("the key came in exactly one message", len(keys) == 1, f"{len(keys)}")
    rewards = [text for _, text in story.messages if REWARD in text]
    story.saw("the inviter was told of the reward exactly once", len(rewards) == 1, f"{len(rewards)}")


async def _traced(story: Story, sandbox: SandboxClient, _: Bus) -> None:
    """The order's id is the id of its trace; spans arrive up to a second after they ended."""
    about = story.order or await sandbox.newest_story()
    if about is None:
        raise InVainError("no order left a trace")

    async def whole() -> bool:
        story.spans = await sandbox.spans(about)
        return {span["service"] for span in story.spans} >= FIVE

    with suppress(TimeoutError):
        await until(whole, "the trace is whole", timeout_s=story.patience_s)
    services = {span["service"] for span in story.spans if span["trace_id"] == story.order}
    story.saw("one trace holds all five services", services >= FIVE, ", ".join(sorted(services)))
    attributes = [set(span["attributes"]) for span in story.spans]
    has_sql = any({"db.system", "db.system.name"} & names for names in attributes)
    has_http = any({"http.method", "http.request.method"} & names for names in attributes)
    story.saw("the trace holds SQL and HTTP spans", has_sql and has_http, f"{len(story.spans)} spans")


async def _audited(story: Story, _: SandboxClient, bus: Bus) -> None:
    """The audits, asked until nothing is on its way any more (I13), at most for a while."""

    async def hold() -> bool:
        story.invariants = await audit(bus, timeout_s=AUDIT_TIMEOUT_S)
        return not any(found.finding.violations for found in story.invariants)

    with suppress(TimeoutError):
        await until(hold, "every invariant holds", timeout_s=story.patience_s)


async def _booked(story: Story, _: SandboxClient, bus: Bus) -> None:
    """What the book gained is one purchase and one reward of 10 %."""
    story.book_after = await _book(bus)
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
