"""`turnpike audit`: the invariants of every service, and what two services must agree on."""

import asyncio
import json
from dataclasses import dataclass

import click

from shared.contracts.operations import Audit, AuditQuery, EventsQuery, Finding
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.messaging.jetstream import consumer_progress
from shared.messaging.rpc import Bus
from shared.operations.audit import EXAMPLES, merged
from turnpike_cli.agreements import AGREEMENTS, compare
from turnpike_cli.formatting import printable, wrapped
from turnpike_cli.options import json_option
from turnpike_cli.querying import QUERY_TIMEOUT_S, REFUSED_STATUS, gathered, no_answer, run

PART_TIMEOUT_S = 60.0
"""An owner answers in parts of some seconds."""
HOURS = 25.0
LOOK_AGAIN_S = 0.25
ANSWERS = "every service answers"
IN_TIME_S = 30.0
"""How old a cause must be before its missing effect is a finding, while payments are under way."""


@dataclass(frozen=True)
class Found:
    """A finding and its owner: `all` between owners, `bus` for the broker."""

    owner: str
    finding: Finding

    @property
    def service(self) -> str:
        return SERVICE_NAMES.get(self.owner, self.owner)


@click.command("audit", epilog="Example: turnpike audit --hours 72")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    default=HOURS,
    show_default=True,
    metavar="HOURS",
    help="Check what came within the last so many hours.",
)
@click.option("--full", is_flag=True, help="Check everything, from the first row.")
@click.option(
    "--in-time",
    type=click.FloatRange(0, 3600),
    default=IN_TIME_S,
    show_default=True,
    metavar="SECONDS",
    help="How long an event may be on its way from one service to the next.",
)
@json_option
def audit_command(*, hours: float, full: bool, in_time: float, as_json: bool) -> None:
    """Check the invariants of every service and between them.

    Each invariant is printed with the number of its violations and examples. The status is 1 when
    an invariant is violated, and 2 when a service does not answer. The audit may run while
    payments are under way. The full audit takes minutes per million payments.
    """
    since = None if full else hours
    run(lambda bus: print_audit(bus, hours=since, in_time_s=in_time, as_json=as_json))


async def print_audit(bus: Bus, *, hours: float | None, in_time_s: float, as_json: bool) -> int:
    """Returns the status of the command."""
    found = await audit(bus, hours=hours, in_time_s=in_time_s)
    violated = [one for one in found if one.finding.violations]
    unresponsive = [one.owner for one in violated if one.finding.truth == ANSWERS]
    if as_json:
        answer = {
            "ok": not violated,
            "hours": hours,
            "unresponsive": [SERVICE_NAMES[owner] for owner in unresponsive],
            "findings": [{"service": one.service, **one.finding.model_dump()} for one in found],
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(audit_lines(found)))
    if unresponsive:
        click.echo(no_answer(unresponsive), err=True)
        return REFUSED_STATUS
    return 1 if violated else 0


def audit_lines(found: list[Found]) -> list[str]:
    lines = []
    for one in found:
        lines += wrapped(
            f"{one.finding.invariant:<4} {one.service:<16}{one.finding.violations:>6}  ",
            printable(one.finding.truth),
        )
        lines += [
            line
            for example in one.finding.examples
            for line in wrapped(f"{'':<29}· ", printable(example))
        ]
    violated = sum(1 for one in found if one.finding.violations)
    verdict = (
        f"{violated} of {len(found)} checks found violations."
        if violated
        else f"All {len(found)} checks hold."
    )
    return [*lines, "", verdict] if found else [verdict]


async def audit(
    bus: Bus,
    *,
    hours: float | None = None,
    in_time_s: float = 0.0,
    timeout_s: float = PART_TIMEOUT_S,
) -> list[Found]:
    """Every check with its violations. An owner is one when a part takes longer than `timeout_s`.

    With `in_time_s` 0 the shop must be quiescent. Raises BrokerError when JetStream does not
    answer.
    """
    present, unresponsive = await gathered(
        {owner: _ping(bus, owner, min(QUERY_TIMEOUT_S, timeout_s)) for owner in OWNERS}
    )
    answers, late = await gathered(
        {owner: _audit_of(bus, owner, hours, timeout_s) for owner in present}
    )
    unresponsive += late
    found = [Found(owner, finding) for owner, findings in answers.items() for finding in findings]
    between = {
        agreement.truth: compare(bus, agreement, hours, in_time_s)
        for agreement in AGREEMENTS
        if not {agreement.cause[0], agreement.effect[0]} & set(unresponsive)
    }
    compared, interrupted = await gathered(between)
    found += [Found("all", finding) for finding in compared.values()]
    unresponsive += sorted(set(interrupted))
    found.append(Found("bus", await quiescent(bus, in_time_s)))
    found += [Found(owner, no_answer_finding(owner)) for owner in unresponsive]
    found.sort(key=lambda one: (int(one.finding.invariant[1:]), one.owner))
    return found


def no_answer_finding(owner: str) -> Finding:
    """I13: an owner that does not answer still has work to do."""
    return Finding(
        invariant="I13",
        truth=ANSWERS,
        violations=1,
        examples=(f"{SERVICE_NAMES[owner]} does not answer",),
    )


async def _ping(bus: Bus, owner: str, timeout_s: float) -> object:
    """A query that costs nothing. An audit may take minutes: too long to wait for a dead owner."""
    return await bus.query(EventsQuery.of(owner)(events=()), timeout_s=timeout_s)


async def _audit_of(
    bus: Bus, owner: str, hours: float | None, timeout_s: float
) -> tuple[Finding, ...]:
    """In parts: no answer takes longer than some seconds, however much there is to check."""
    findings: tuple[Finding, ...] = ()
    after: str | None = ""
    while after is not None:
        query = AuditQuery.of(owner)(hours=hours, after=after)
        answer = await bus.query(query, timeout_s=timeout_s)
        assert isinstance(answer, Audit), f"{owner} refuses to be audited: {answer}"
        findings, after = merged((*findings, *answer.findings)), answer.after
    return findings


async def quiescent(bus: Bus, in_time_s: float) -> Finding:
    """I13 as the broker sees it.

    Events that were delivered before the first look must be acknowledged within `in_time_s`.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + in_time_s
    progress = await consumer_progress(bus.client)
    goals = {handler: one.delivered for handler, one in progress.items() if one is not None}
    while True:
        behind = [
            f"{handler}: "
            + ("its durable consumer is missing" if one is None else f"{one.pending} pending")
            for handler, one in progress.items()
            if one is None or (one.pending and one.acknowledged < goals.get(handler, 0))
        ]
        if not behind or loop.time() >= ends_at:
            break
        await asyncio.sleep(LOOK_AGAIN_S)
        progress = await consumer_progress(bus.client)
    return Finding(
        invariant="I13",
        truth="every handler has acknowledged its events",
        violations=len(behind),
        examples=tuple(behind[:EXAMPLES]),
    )
