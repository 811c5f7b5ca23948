"""`turnpike audit`: asks every owner for its invariants, and holds against each other what two owners must agree on."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import click

from shared.audit import EXAMPLES
from shared.bus import Bus
from shared.contract import Refused
from shared.inspection import AskFacts, AskKeys, AskLacking, Keys, Lacking
from shared.owners import OWNERS
from shared.questions import AskAudit, Audit, Finding
from turnpike_cli.asking import ASK_TIMEOUT_S, REFUSED_STATUS, SERVICES, each, nobody_answered, run
from turnpike_cli.writing import plain, wrapped

AUDIT_TIMEOUT_S = 300.0
PAGE_TIMEOUT_S = 60.0
LOOK_AGAIN_S = 0.25
ANSWERS = "every owner answers for its invariants"
IN_TIME_S = 30.0
"""How old a cause must be before its missing effect is a finding, while payments are under way."""


@dataclass(frozen=True)
class Agreement:
    """Whatever the one owner has of a kind, the other must have too, by the same key; and nothing else."""

    invariant: str
    effect: str
    cause: tuple[str, str]
    has: tuple[str, str]


AGREEMENTS = (
    Agreement("I5", "payment that Telegram reported is a receipt", ("bot", "reported"), ("payments", "reported")),
    Agreement("I6", "received payment has its reward decision", ("payments", "received"), ("referrals", "decided")),
    Agreement("I6", "bought subscription has its access row", ("payments", "bought"), ("vpn", "periods")),
    Agreement("I6", "bought subscription has its message", ("payments", "bought"), ("notifier", "orders")),
    Agreement("I6", "access that was granted has its message with the key", ("vpn", "granted"), ("notifier", "keys")),
    Agreement("I6", "reward has its message", ("referrals", "rewards"), ("notifier", "rewards")),
    Agreement("I7", "reward is booked once, to the kopeck", ("referrals", "rewards"), ("payments", "rewards")),
)


@dataclass(frozen=True)
class Found:
    """One invariant, who answered for it, and how often it is broken."""

    owner: str
    finding: Finding


@click.command("audit")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    metavar="HOURS",
    help="Only what the last so many brought.",
)
@click.option(
    "--in-time",
    type=click.FloatRange(0, 3600),
    default=IN_TIME_S,
    show_default=True,
    metavar="SECONDS",
    help="What is younger may still be on its way from one service to the next.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the same for a machine.")
def audit_command(*, hours: float | None, in_time: float, as_json: bool) -> None:
    """Ask every service whether its invariants hold, and whether they agree.

    Each invariant is printed with the number of its violations and examples. Status 1 when any is broken, 2 when
    somebody does not answer. It may be asked while payments are under way.
    """
    run(lambda bus: printed(bus, hours=hours, in_time_s=in_time, as_json=as_json))


async def printed(bus: Bus, *, hours: float | None, in_time_s: float, as_json: bool) -> int:
    found = await audit(bus, hours=hours, in_time_s=in_time_s)
    silent = [one.owner for one in found if one.finding.truth == ANSWERS and one.finding.violations]
    broken = [one for one in found if one.finding.violations]
    if as_json:
        said = {"ok": not broken and not silent, "silent": silent}
        findings = [{"owner": one.owner, **one.finding.model_dump()} for one in found]
        click.echo(json.dumps(said | {"findings": findings}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(shown(found)))
    if silent:
        click.echo(nobody_answered(silent), err=True)
        return REFUSED_STATUS
    return 1 if broken else 0


def shown(found: list[Found]) -> list[str]:
    lines = []
    for one in found:
        lines += wrapped(
            f"{one.finding.invariant:<4} {one.owner:<10}{one.finding.violations:>6}  ", plain(one.finding.truth)
        )
        lines += [line for example in one.finding.examples for line in wrapped(f"{'':<23}· ", plain(example))]
    broken = sum(1 for one in found if one.finding.violations)
    verdict = f"{broken} of {len(found)} truths are broken." if broken else f"All {len(found)} truths hold."
    return [*lines, "", verdict] if found else [verdict]


async def audit(
    bus: Bus, *, hours: float | None = None, in_time_s: float = 0.0, timeout_s: float = AUDIT_TIMEOUT_S
) -> list[Found]:
    """Every invariant with its violations; an owner who does not answer within `timeout_s` is one.

    With `in_time_s` 0 the shop has to be at rest. Raises UnansweredError when JetStream does not answer.
    """
    there, silent = await each({owner: _is_there(bus, owner, min(ASK_TIMEOUT_S, timeout_s)) for owner in OWNERS})
    answers, late = await each({owner: _audited(bus, owner, hours, timeout_s) for owner in there})
    silent += late
    found = [Found(owner, finding) for owner, answer in answers.items() for finding in answer.findings]
    between = {
        agreement.effect: agree(bus, agreement, hours, in_time_s)
        for agreement in AGREEMENTS
        if not {agreement.cause[0], agreement.has[0]} & set(silent)
    }
    agreed, unheard = await each(between)
    found += [Found("all", finding) for finding in agreed.values()]
    silent += sorted(set(unheard))
    found.append(Found("bus", await at_rest(bus, in_time_s)))
    found += [Found(owner, silence(owner)) for owner in silent]
    found.sort(key=lambda one: (int(one.finding.invariant[1:]), one.owner))
    return found


def silence(owner: str) -> Finding:
    """I13: who does not answer has something left to do."""
    return Finding(invariant="I13", truth=ANSWERS, violations=1, examples=(f"{SERVICES[owner]} does not answer",))


async def _is_there(bus: Bus, owner: str, timeout_s: float) -> object:
    """A question that costs nothing: an audit may take minutes, and nobody waits so long for one who is not there."""
    return await bus.ask(AskFacts.of(owner)(facts=()), timeout_s=timeout_s)


async def _audited(bus: Bus, owner: str, hours: float | None, timeout_s: float) -> Audit:
    answer = await bus.ask(AskAudit.of(owner)(hours=hours), timeout_s=timeout_s)
    assert isinstance(answer, Audit), f"{owner} refuses to be audited: {answer}"
    return answer


@dataclass
class Difference:
    violations: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, keys: tuple[str, ...], say: Callable[[str], str]) -> None:
        self.violations += len(keys)
        self.examples += [say(key) for key in keys[: EXAMPLES - len(self.examples)]]


async def agree(bus: Bus, agreement: Agreement, hours: float | None, in_time_s: float) -> Finding:
    """Page by page, both ways: no cause without its effect, in time, and no effect without a cause, ever."""
    (giver, given), (taker, taken) = agreement.cause, agreement.has
    difference = Difference()
    page = Keys(keys=(), after="")
    while page.after is not None:
        page = await _page(bus, giver, given, page.after or None, hours, in_time_s)
        lacking = await _lacking(bus, taker, taken, page.keys)
        difference.add(lacking, lambda key: f"{taker} has nothing of {giver}'s {given} {key}")
    page = Keys(keys=(), after="")
    while page.after is not None:
        page = await _page(bus, taker, taken, page.after or None, hours, 0.0)
        lacking = await _lacking(bus, giver, given, page.keys)
        difference.add(lacking, lambda key: f"{giver} knows nothing of {taker}'s {taken} {key}")
    truth = f"every {agreement.effect}, and no other"
    return Finding(
        invariant=agreement.invariant,
        truth=truth,
        violations=difference.violations,
        examples=tuple(difference.examples),
    )


async def _page(bus: Bus, owner: str, kind: str, after: str | None, hours: float | None, settled_s: float) -> Keys:
    question = AskKeys.of(owner)(kind=kind, after=after, hours=hours, settled_s=settled_s)
    answer = await bus.ask(question, timeout_s=PAGE_TIMEOUT_S)
    assert not isinstance(answer, Refused), f"{owner} has no {kind}: {answer}"
    return answer


async def _lacking(bus: Bus, owner: str, kind: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        return ()
    answer = await bus.ask(AskLacking.of(owner)(kind=kind, keys=keys), timeout_s=PAGE_TIMEOUT_S)
    assert isinstance(answer, Lacking), f"{owner} has no {kind}: {answer}"
    return answer.keys


async def at_rest(bus: Bus, in_time_s: float) -> Finding:
    """I13 as the broker sees it: whatever had been told when we first looked is acknowledged in time."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + in_time_s
    places = await bus.places()
    goals = {handler: place.told for handler, place in places.items() if place is not None}
    while True:
        behind = [
            f"{handler}: {'its durable is missing' if place is None else f'{place.left} to hear'}"
            for handler, place in places.items()
            if place is None or (place.left and place.acknowledged < goals.get(handler, 0))
        ]
        if not behind or loop.time() >= ends_at:
            break
        await asyncio.sleep(LOOK_AGAIN_S)
        places = await bus.places()
    return Finding(
        invariant="I13",
        truth="every handler has acknowledged all it was told",
        violations=len(behind),
        examples=tuple(behind[:EXAMPLES]),
    )
