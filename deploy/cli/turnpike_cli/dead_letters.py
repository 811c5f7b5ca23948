"""`turnpike dead-letters …`: list, show and replay events and access jobs that were given up."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import click

from shared.contracts.message import Refused
from shared.contracts.operations import (
    DeadLetter,
    DeadLetterContent,
    DeadLetterQuery,
    DeadLetters,
    DeadLettersQuery,
    ReplayDeadLetter,
)
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.contracts.vpn import DeadJob, DeadJobs, DeadJobsQuery, Replayed, ReplayJobs
from shared.messaging.rpc import Bus
from turnpike_cli.acting import Acting, acting, acting_options
from turnpike_cli.formatting import first_line, moment, printable, table
from turnpike_cli.options import json_option
from turnpike_cli.querying import QUERY_TIMEOUT_S, REFUSED_STATUS, gathered, no_answer, run
from turnpike_cli.services import NAMED, SERVICE_NAME, service_argument

# Dead access jobs are listed among the dead letters, as those of a handler of vpn-provisioner.
JOBS = "access_jobs"
MAX_OF_REASON = 60
LABEL_WIDTH = 18


@click.group("dead-letters", epilog="Example: turnpike dead-letters list")
def dead_letters_command() -> None:
    """List, show and replay dead letters.

    A dead letter is an event on which a handler failed for good, with its bytes. Access jobs that
    no node accepted are listed with them. SERVICE is bot-gateway, payments, referrals,
    vpn-provisioner or notifier.
    """


@dead_letters_command.command(
    "list", epilog="Example: turnpike dead-letters list --service payments"
)
@click.option(
    "--service", type=SERVICE_NAME, metavar="SERVICE", help="List only those of this service."
)
@click.option("--all", "replayed", is_flag=True, help="Include those that were replayed.")
@json_option
def list_command(*, service: str | None, replayed: bool, as_json: bool) -> None:
    """List dead letters and dead access jobs, the oldest first."""
    owners = [service] if service else list(OWNERS)
    run(lambda bus: print_list(bus, owners, replayed=replayed, as_json=as_json))


async def print_list(bus: Bus, owners: Sequence[str], *, replayed: bool, as_json: bool) -> int:
    """Returns the status of the command."""
    dead_letters, unresponsive = await gathered(
        {owner: dead_letters_of(bus, owner, replayed=replayed) for owner in owners}
    )
    jobs, without_jobs = await gathered({"vpn": jobs_of(bus)} if "vpn" in owners else {})
    unresponsive += [owner for owner in without_jobs if owner not in unresponsive]
    listed = [as_dict(owner, one) for owner, found in dead_letters.items() for one in found]
    listed += [job_as_dict(job) for found in jobs.values() for job in found.jobs]
    if as_json:
        answer = {
            "dead_letters": listed,
            "unresponsive": [SERVICE_NAMES[one] for one in unresponsive],
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(list_lines(listed)))
        if any(found.more for found in jobs.values()):
            click.echo(f"There are more {JOBS}: only the oldest {len(jobs['vpn'].jobs)} are shown.")
    if unresponsive:
        click.echo(no_answer(unresponsive), err=True)
    return REFUSED_STATUS if unresponsive else 0


async def dead_letters_of(bus: Bus, owner: str, *, replayed: bool = False) -> list[DeadLetter]:
    return [one async for one in _dead_letters(bus, owner, replayed=replayed)]


async def _dead_letters(bus: Bus, owner: str, *, replayed: bool) -> AsyncIterator[DeadLetter]:
    page = DeadLetters(dead_letters=(), more=True)
    while page.more:
        after = page.dead_letters[-1].id if page.dead_letters else 0
        query = DeadLettersQuery.of(owner)(after=after, replayed=replayed)
        answer = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        assert isinstance(answer, DeadLetters), answer
        page = answer
        for dead_letter in page.dead_letters:
            yield dead_letter


async def jobs_of(bus: Bus, person: UUID | None = None) -> DeadJobs:
    answer = await bus.query(DeadJobsQuery(person=person), timeout_s=QUERY_TIMEOUT_S)
    assert isinstance(answer, DeadJobs), answer
    return answer


def as_dict(owner: str, dead_letter: DeadLetter) -> dict[str, Any]:
    return {
        "service": SERVICE_NAMES[owner],
        "id": str(dead_letter.id),
        **dead_letter.model_dump(mode="json", exclude={"id"}),
    }


def job_as_dict(job: DeadJob) -> dict[str, Any]:
    change = "add to" if job.present else "remove from"
    return {
        "service": SERVICE_NAMES["vpn"],
        "id": str(job.person),
        "handler": JOBS,
        "subject": f"{change} {job.node}",
        "reason": job.error,
        "dead_lettered_at": job.model_dump(mode="json")["died_at"],
        "replayed_at": None,
        "trace": job.trace,
        "node": job.node,
        "tries": job.tries,
    }


def list_lines(listed: Sequence[dict[str, Any]]) -> list[str]:
    """Two lines each: service, id, handler and time, then the reason."""
    if not listed:
        return ["There are no dead letters."]
    head = ("SERVICE", "ID", "HANDLER", "DEAD-LETTERED (UTC)")
    lines = table(head, [_row(one) for one in listed])
    head_line, rows = lines[0], iter(lines[1:])
    lines = [head_line]
    for one in listed:
        reason = printable(first_line(one["reason"], MAX_OF_REASON))
        lines += [next(rows), f"    {printable(one['subject'])}: {reason}"]
    return lines


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    replayed = f", replayed {_moment(one['replayed_at'])[:19]}" if one["replayed_at"] else ""
    at = _moment(one["dead_lettered_at"])[:19]
    return one["service"], one["id"], one["handler"], at + replayed


def _moment(text: str | None) -> str:
    return moment(datetime.fromisoformat(text)) if text else ""


@dead_letters_command.command("show", epilog="Example: turnpike dead-letters show payments 7")
@service_argument
@click.argument("id_", metavar="ID", type=NAMED)
@json_option
def show_command(*, service: str, id_: str, as_json: bool) -> None:
    """Show one dead letter with its bytes.

    ID is a number from `dead-letters list`. With SERVICE vpn-provisioner it may be the id of a
    person: then the dead access jobs of that person are shown.
    """
    run(lambda bus: print_one(bus, service, id_from(service, id_), as_json=as_json))


async def print_one(bus: Bus, owner: str, which: int | UUID, *, as_json: bool) -> int:
    """Returns the status of the command."""
    found: list[dict[str, Any]]
    if isinstance(which, UUID):
        found = [job_as_dict(job) for job in (await jobs_of(bus, which)).jobs]
    else:
        query = DeadLetterQuery.of(owner)(dead_letter=which)
        answer = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        found = [] if isinstance(answer, Refused) else [content_as_dict(owner, answer)]
    if not found:
        click.echo(f"{SERVICE_NAMES[owner]} has no dead letter with the id {which}.", err=True)
        return 1
    if as_json:
        answer_json = found[0] if isinstance(which, int) else found
        click.echo(json.dumps(answer_json, indent=2, ensure_ascii=False))
    else:
        for one in found:
            click.echo("\n".join(full_lines(one)))
    return 0


def content_as_dict(owner: str, content: DeadLetterContent) -> dict[str, Any]:
    return {
        **as_dict(owner, content.dead_letter),
        "encoding": content.encoding,
        "body": content.body,
    }


def full_lines(one: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in one.items():
        if name != "body" and value is not None:
            text = str(_moment(value) if name.endswith("_at") else value)
            first, *more = text.splitlines() or [""]
            lines += [f"{name:<{LABEL_WIDTH}}{printable(first)}"]
            lines += [f"{'':<{LABEL_WIDTH}}{printable(line)}" for line in more]
    if "body" in one:
        lines += ["body", *(f"  {printable(line)}" for line in one["body"].splitlines())]
    return lines


@dead_letters_command.command(
    "replay",
    epilog='Example: turnpike dead-letters replay payments 7 8 --reason "rate added"',
)
@service_argument
@click.argument("ids", nargs=-1, type=NAMED, metavar="[ID]...")
@click.option(
    "--handler",
    type=NAMED,
    metavar="HANDLER",
    help=f"Replay all of this handler, as `dead-letters list` names it ({JOBS}: all dead jobs).",
)
@acting_options
@json_option
def replay_command(
    *,
    service: str,
    ids: tuple[str, ...],
    handler: str | None,
    operator: str,
    reason: str,
    as_json: bool,
) -> None:
    """Pass dead letters to their handler again.

    Each ID is one of `dead-letters list`. With SERVICE vpn-provisioner the id of a person restarts
    the access jobs of that person. Each dead letter is replayed in one transaction: it is handled
    as if it had never failed, or it stays where it is and the reason is printed.
    """
    if bool(ids) == bool(handler):
        raise click.UsageError("Pass either an ID or --handler.")
    chosen = [id_from(service, id_) for id_ in ids]

    async def replayed(bus: Bus) -> int:
        by = await acting(bus, operator, reason)
        return await replay(bus, by, service, chosen, handler, as_json=as_json)

    run(replayed)


async def replay(
    bus: Bus,
    by: Acting,
    owner: str,
    chosen: Sequence[int | UUID],
    handler: str | None,
    *,
    as_json: bool,
) -> int:
    """Returns the status of the command."""
    commands = [(str(which), command_for(owner, which, by)) for which in chosen]
    if handler == JOBS and owner == "vpn":
        commands = [(JOBS, command_for(owner, None, by))]
    elif handler:
        commands = [
            (str(one.id), command_for(owner, one.id, by))
            for one in await dead_letters_of(bus, owner)
            if one.handler == handler
        ]
    answers: list[tuple[str, Replayed | Refused]] = []
    for name, command in commands:
        answer: Replayed | Refused = await bus.execute(command)
        answers.append((name, answer))
    if as_json:
        results = [{"id": name, **answer.model_dump()} for name, answer in answers]
        click.echo(json.dumps(results, indent=2))
    elif not answers:
        click.echo(f"{handler} has no dead letters.")
    else:
        for name, answer in answers:
            click.echo(f"{SERVICE_NAMES[owner]} {name}: {outcome(answer)}")
    return 1 if any(isinstance(answer, Refused) for _, answer in answers) else 0


def outcome(answer: Replayed | Refused) -> str:
    if isinstance(answer, Refused):
        detail = f": {answer.detail}" if answer.detail else ""
        return printable(f"refused, {answer.reason}{detail}")
    return "replayed" if answer.replayed == 1 else f"{answer.replayed} replayed"


def command_for(owner: str, which: int | UUID | None, by: Acting) -> ReplayDeadLetter | ReplayJobs:
    if isinstance(which, int):
        return ReplayDeadLetter.of(owner)(**by.fields(), dead_letter=which)
    return ReplayJobs(**by.fields(), person=which)


def id_from(owner: str, text: str) -> int | UUID:
    """The number of a dead letter, or with `vpn` the id of a person."""
    with suppress(ValueError):
        if text.isascii() and text.isdecimal() and int(text) < 2**63:
            return int(text)
        if owner == "vpn":
            return UUID(text)
    raise click.UsageError(f"{text!r} is not an id from `dead-letters list`.")
