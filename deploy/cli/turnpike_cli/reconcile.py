"""`turnpike reconcile …`: compare providers' listings with the ledger, and read the reports."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from shared.contracts.message import Refused
from shared.contracts.payments import (
    DifferenceRecord,
    Reconcile,
    ReconciliationCounts,
    ReconciliationQuery,
    ReconciliationRecord,
    ReconciliationReport,
    Reconciliations,
    ReconciliationsQuery,
)
from shared.messaging.rpc import Bus
from turnpike_cli.acting import acting, acting_options
from turnpike_cli.formatting import moment, money, printable, table, wrapped
from turnpike_cli.options import json_option
from turnpike_cli.querying import QUERY_TIMEOUT_S, run
from turnpike_cli.services import NAMED

FORMS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
WORDS = {
    "missing_here": "missing here, now booked",
    "missing_there": "missing there",
    "amount": "another amount",
    "currency": "another currency",
    "refund": "refunded there, now booked",
    "unreadable": "unreadable",
    "foreign": "of somebody else",
    "fee": "with another fee",
    "balance": "another balance",
}
REFUSALS = {
    "not_allowed": "Refused: your role does not allow it.",
    "provider_unknown": "There is no such provider. Configured: {detail}.",
    "window_empty": "The window is empty: its end must be later than its beginning.",
    "window_too_long": "The window is too long: it has at most {detail}.",
    "too_many_runs": "Too many runs of {detail} have not ended. See `turnpike reconcile last`.",
}

provider_option = click.option(
    "--provider", type=NAMED, metavar="PROVIDER", help="Only this provider, for example yookassa."
)


@click.group("reconcile", epilog="Example: turnpike reconcile last")
def reconcile_command() -> None:
    """Compare providers with the ledger.

    Each provider's listing is compared every hour, over the last three hours, and every day, over
    the day before. A payment that is missing here is booked; any other difference is reported.
    """


@reconcile_command.command(
    "run", epilog='Example: turnpike reconcile run --since 2026-11-01 --reason "a lost webhook"'
)
@provider_option
@click.option(
    "--since",
    type=click.DateTime(FORMS),
    metavar="TIME",
    help="The beginning, in UTC. A day before the end, unless given.",
)
@click.option(
    "--until",
    type=click.DateTime(FORMS),
    metavar="TIME",
    help="The end, in UTC. Now, unless given.",
)
@acting_options
@json_option
def run_command(
    *,
    provider: str | None,
    since: datetime | None,
    until: datetime | None,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Compare a window now, of at most 31 days.

    The service walks the listing by itself. The run that this begins is printed; `turnpike
    reconcile show RUN` tells what it has found.
    """

    async def begun(bus: Bus) -> int:
        by = await acting(bus, operator, reason)
        command = Reconcile(
            **by.fields(),
            provider=provider,
            since=since and since.replace(tzinfo=UTC),
            until=until and until.replace(tzinfo=UTC),
        )
        return await begin(bus, command, as_json=as_json)

    run(begun)


async def begin(bus: Bus, command: Reconcile, *, as_json: bool) -> int:
    """Returns the status of the command."""
    answer = await bus.execute(command)
    if isinstance(answer, Refused):
        detail = printable(answer.detail or "")
        sentence = REFUSALS.get(answer.reason, f"Refused: {answer.reason}.")
        click.echo(sentence.format(detail=detail), err=True)
        return 1
    if as_json:
        click.echo(json.dumps([as_dict(one) for one in answer.runs], indent=2))
    else:
        for one in answer.runs:
            click.echo(f"{one.acquirer}: run {one.run}, {window(one)}")
    return 0


@reconcile_command.command("last", epilog="Example: turnpike reconcile last --provider yookassa")
@provider_option
@json_option
def last_command(*, provider: str | None, as_json: bool) -> None:
    """List the last 20 runs, the newest first."""
    run(lambda bus: print_last(bus, provider, as_json=as_json))


async def print_last(bus: Bus, provider: str | None, *, as_json: bool) -> int:
    """Returns the status of the command."""
    query = ReconciliationsQuery(provider=provider)
    answer = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
    assert isinstance(answer, Reconciliations), answer
    if as_json:
        click.echo(json.dumps([as_dict(one) for one in answer.runs], indent=2))
    else:
        click.echo("\n".join(last_lines(answer.runs)))
    return 0


def last_lines(runs: Sequence[ReconciliationRecord]) -> list[str]:
    if not runs:
        return ["No provider was reconciled yet."]
    head = ("PROVIDER", "KIND", "STARTED (UTC)", "STATE", "RUN", "LISTED", "DIFFER")
    rows = [
        (
            one.acquirer,
            one.kind,
            moment(one.started_at)[:16],
            one.state,
            str(one.run),
            str(one.counts.listed),
            str(differing(one.counts)),
        )
        for one in runs
    ]
    return table(head, rows)


@reconcile_command.command(
    "show", epilog="Example: turnpike reconcile show 7d444840-9dc0-11d1-b245-5ffdce74fad2"
)
@click.argument("named", metavar="RUN", type=NAMED)
@json_option
def show_command(*, named: str, as_json: bool) -> None:
    """Show one run with its differences.

    RUN is an id from `reconcile last`. Of a run the first 10 000 differences are kept, and all are
    counted.
    """
    try:
        id_ = UUID(named)
    except ValueError:
        raise click.UsageError(f"{named!r} is not an id from `reconcile last`.") from None
    run(lambda bus: print_run(bus, id_, as_json=as_json))


async def print_run(bus: Bus, id_: UUID, *, as_json: bool) -> int:
    """Returns the status of the command."""
    report = await report_of(bus, id_)
    if report is None:
        click.echo(f"There is no run {id_}.", err=True)
        return 1
    if as_json:
        click.echo(json.dumps({**as_dict(report.run), **differences_as_dict(report)}, indent=2))
    else:
        click.echo("\n".join(run_lines(report)))
    return 0


async def report_of(bus: Bus, id_: UUID) -> ReconciliationReport | None:
    """The run with all differences that are kept of it. None for an unknown run."""
    found: list[DifferenceRecord] = []
    while True:
        query = ReconciliationQuery(run=id_, after=found[-1].id if found else 0)
        page = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        if isinstance(page, Refused):
            return None
        found += page.differences
        if not page.more:
            return page.model_copy(update={"differences": tuple(found)})


def run_lines(report: ReconciliationReport) -> list[str]:
    one = report.run
    why = f": {printable(one.reason)}" if one.reason else ""
    counts = [
        f"{count} {WORDS[kind]}"
        for kind, count in one.counts.model_dump().items()
        if count and kind in WORDS
    ]
    lines = [
        f"{one.acquirer}, {one.kind}, {one.state}{why}",
        window(one),
        f"{one.counts.listed} listed, {', '.join(counts) or 'nothing differs'}",
    ]
    if report.differences:
        lines.append("")
    for difference in report.differences:
        lines += difference_lines(difference)
    return lines


def difference_lines(one: DifferenceRecord) -> list[str]:
    """The charge with both sums, and a second line where there is more to say."""
    theirs = amount(one.their_minor, one.their_currency)
    ours = amount(one.our_minor, one.our_currency)
    reference = f"refund {one.reference}" if one.reference != one.charge else ""
    said = printable(one.sentence or reference)
    first = wrapped(f"{WORDS[one.kind]:<24}", f"{printable(one.charge)}: {theirs}, here {ours}")
    return first + (wrapped(" " * 24, said) if said else [])


def amount(minor: int | None, currency: str | None) -> str:
    return "nothing" if minor is None or currency is None else money(minor, currency)


def window(one: ReconciliationRecord) -> str:
    return f"from {moment(one.since)[:16]} until {moment(one.until)[:16]} UTC"


def differing(counts: ReconciliationCounts) -> int:
    return sum(count for kind, count in counts.model_dump().items() if kind != "listed")


def as_dict(one: ReconciliationRecord) -> dict[str, Any]:
    return one.model_dump(mode="json")


def differences_as_dict(report: ReconciliationReport) -> dict[str, Any]:
    return {"differences": [one.model_dump(mode="json") for one in report.differences]}
