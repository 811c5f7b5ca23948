"""`turnpike dead …`: what was given up after its last try, why, and another chance for it once the cause is mended."""

import getpass
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import click

from shared.bus import Bus
from shared.commands import ReplayDead, Replayed, ReplayJobs
from shared.contract import Refused
from shared.inspection import (
    AskDeadJobs,
    AskDeadLetter,
    AskDeadLetters,
    DeadJob,
    DeadJobs,
    DeadLetter,
    DeadLetters,
    OpenedLetter,
)
from shared.owners import OWNERS
from turnpike_cli.asking import ASK_TIMEOUT_S, REFUSED_STATUS, each, nobody_answered, run
from turnpike_cli.writing import first_line, moment, plain, table

JOBS = "access_jobs"  # Dead access jobs stand among the letters, as if they were a handler's of vpn.
OBEYED_WITHIN = timedelta(minutes=10)  # Generous: the owner's clock decides, and this is an operator's machine.
REASON_LETTERS = 60

service_argument = click.argument("service", type=click.Choice(sorted(OWNERS)))


@click.group("dead")
def dead_command() -> None:
    """See what was given up, and give it another chance.

    That is letters (facts that a handler failed on, with their bytes) and access jobs that no node took.
    """


@dead_command.command("list")
@click.option("--service", type=click.Choice(sorted(OWNERS)), help="Only this service's.")
@click.option("--all", "replayed", is_flag=True, help="Those that were replayed too.")
@click.option("--json", "as_json", is_flag=True, help="Print the same for a machine.")
def list_command(*, service: str | None, replayed: bool, as_json: bool) -> None:
    """List what is dead, the oldest first."""
    run(lambda bus: listed(bus, [service] if service else list(OWNERS), replayed=replayed, as_json=as_json))


async def listed(bus: Bus, owners: Sequence[str], *, replayed: bool, as_json: bool) -> int:
    letters, silent = await each({owner: letters_of(bus, owner, replayed=replayed) for owner in owners})
    jobs, jobless = await each({"vpn": jobs_of(bus)} if "vpn" in owners else {})
    silent += [owner for owner in jobless if owner not in silent]
    dead = [as_dict(owner, letter) for owner, found in letters.items() for letter in found]
    dead += [job_as_dict(job) for found in jobs.values() for job in found.jobs]
    if as_json:
        click.echo(json.dumps({"dead": dead, "silent": silent}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(shown(dead)))
        if any(found.more for found in jobs.values()):
            click.echo(f"… and more {JOBS}: the oldest {len(jobs['vpn'].jobs)} are shown.")
    if silent:
        click.echo(nobody_answered(silent), err=True)
    return REFUSED_STATUS if silent else 0


async def letters_of(bus: Bus, owner: str, *, replayed: bool = False) -> list[DeadLetter]:
    return [letter async for letter in _letters(bus, owner, replayed=replayed)]


async def _letters(bus: Bus, owner: str, *, replayed: bool) -> AsyncIterator[DeadLetter]:
    page = DeadLetters(letters=(), more=True)
    while page.more:
        after = page.letters[-1].letter if page.letters else 0
        answer = await bus.ask(AskDeadLetters.of(owner)(after=after, replayed=replayed), timeout_s=ASK_TIMEOUT_S)
        assert isinstance(answer, DeadLetters), answer
        page = answer
        for letter in page.letters:
            yield letter


async def jobs_of(bus: Bus, person: UUID | None = None) -> DeadJobs:
    answer = await bus.ask(AskDeadJobs(person=person), timeout_s=ASK_TIMEOUT_S)
    assert isinstance(answer, DeadJobs), answer
    return answer


def as_dict(owner: str, letter: DeadLetter) -> dict[str, Any]:
    return {"service": owner, "id": str(letter.letter), **letter.model_dump(mode="json", exclude={"letter"})}


def job_as_dict(job: DeadJob) -> dict[str, Any]:
    wish = "let in by" if job.present else "shut out by"
    return {
        "service": "vpn",
        "id": str(job.person),
        "handler": JOBS,
        "subject": f"{wish} {job.node}",
        "reason": job.error,
        "buried_at": job.model_dump(mode="json")["died_at"],
        "replayed_at": None,
        "trace": job.trace,
        "node": job.node,
        "tries": job.tries,
    }


def shown(dead: Sequence[dict[str, Any]]) -> list[str]:
    """Two lines each: where it lies and since when, then why."""
    if not dead:
        return ["Nothing is dead."]
    lines = table(("SERVICE", "ID", "HANDLER", "BURIED (UTC)"), [row_of(one) for one in dead])
    head, rows = lines[0], iter(lines[1:])
    lines = [head]
    for one in dead:
        lines += [next(rows), f"    {plain(one['subject'])}: {plain(first_line(one['reason'], REASON_LETTERS))}"]
    return lines


def row_of(one: dict[str, Any]) -> tuple[str, ...]:
    replayed = f", replayed {_moment(one['replayed_at'])[:19]}" if one["replayed_at"] else ""
    return one["service"], one["id"], one["handler"], _moment(one["buried_at"])[:19] + replayed


def _moment(text: str | None) -> str:
    return moment(datetime.fromisoformat(text)) if text else ""


@dead_command.command("show")
@service_argument
@click.argument("id_")
@click.option("--json", "as_json", is_flag=True, help="Print the same for a machine.")
def show_command(*, service: str, id_: str, as_json: bool) -> None:
    """Show one dead letter with its bytes.

    With SERVICE vpn and a person's id: that person's dead access jobs.
    """
    run(lambda bus: show(bus, service, wanted(service, id_), as_json=as_json))


async def show(bus: Bus, owner: str, which: int | UUID, *, as_json: bool) -> int:
    told: list[dict[str, Any]]
    if isinstance(which, UUID):
        told = [job_as_dict(job) for job in (await jobs_of(bus, which)).jobs]
    else:
        answer = await bus.ask(AskDeadLetter.of(owner)(letter=which), timeout_s=ASK_TIMEOUT_S)
        told = [] if isinstance(answer, Refused) else [opened_as_dict(owner, answer)]
    if not told:
        click.echo(f"{owner} has nothing dead with the id {which}.", err=True)
        return 1
    if as_json:
        click.echo(json.dumps(told[0] if isinstance(which, int) else told, indent=2, ensure_ascii=False))
    else:
        for one in told:
            click.echo("\n".join(in_full(one)))
    return 0


def opened_as_dict(owner: str, opened: OpenedLetter) -> dict[str, Any]:
    return {**as_dict(owner, opened.letter), "encoding": opened.encoding, "body": opened.body}


def in_full(one: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in one.items():
        if name != "body" and value is not None:
            first, *more = str(_moment(value) if name.endswith("_at") else value).splitlines() or [""]
            lines += [f"{name:<12}{plain(first)}", *(f"{'':<12}{plain(line)}" for line in more)]
    if "body" in one:
        lines += ["body", *(f"  {plain(line)}" for line in one["body"].splitlines())]
    return lines


@dead_command.command("replay")
@service_argument
@click.argument("ids", nargs=-1)
@click.option("--handler", help=f"All of this handler's, as `dead list` names it ({JOBS}: every dead access job).")
@click.option("--reason", help="Why, for the row that the service keeps of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the same for a machine.")
def replay_command(
    *, service: str, ids: tuple[str, ...], handler: str | None, reason: str | None, as_json: bool
) -> None:
    """Hand dead letters to their handler again.

    IDS are those of `dead list`; with SERVICE vpn a person's id revives his access jobs. Each is turned over in one
    transaction: it is done as if it had never failed, or stays where it is and says why.
    """
    if bool(ids) == bool(handler):
        raise click.UsageError("Say either IDS or --handler.")
    chosen = [wanted(service, id_) for id_ in ids]
    run(lambda bus: replay(bus, service, chosen, handler, reason, as_json=as_json))


async def replay(
    bus: Bus, owner: str, chosen: Sequence[int | UUID], handler: str | None, reason: str | None, *, as_json: bool
) -> int:
    acts = [(str(which), act(owner, which, reason)) for which in chosen]
    if handler == JOBS and owner == "vpn":
        acts = [(JOBS, act(owner, None, reason))]
    elif handler:
        buried = [letter.letter for letter in await letters_of(bus, owner) if letter.handler == handler]
        acts = [(str(letter), act(owner, letter, reason)) for letter in buried]
    answers: list[tuple[str, Replayed | Refused]] = []
    for name, command in acts:
        answer: Replayed | Refused = await bus.do(command)
        answers.append((name, answer))
    if as_json:
        click.echo(json.dumps([{"id": name, **answer.model_dump()} for name, answer in answers], indent=2))
    elif not answers:
        click.echo(f"{handler} has nothing buried.")
    else:
        for name, answer in answers:
            click.echo(f"{owner} {name}: {said(answer)}")
    return 1 if any(isinstance(answer, Refused) for _, answer in answers) else 0


def said(answer: Replayed | Refused) -> str:
    if isinstance(answer, Refused):
        return plain(f"refused, {answer.reason}{f': {answer.detail}' if answer.detail else ''}")
    return "replayed" if answer.replayed == 1 else f"{answer.replayed} replayed"


def act(owner: str, which: int | UUID | None, reason: str | None) -> ReplayDead | ReplayJobs:
    """The command, its id drawn here: an unanswered attempt is repeated with it and happens once."""
    common: dict[str, Any] = {"id": uuid4(), "actor": actor(), "reason": reason}
    common["deadline_at"] = datetime.now(UTC) + OBEYED_WITHIN
    if isinstance(which, int):
        return ReplayDead.of(owner)(**common, letter=which)
    return ReplayJobs(**common, person=which)


def actor() -> str:
    """The operator by his login on this machine, or by its number where it has no name."""
    with suppress(OSError, KeyError, ImportError):
        return f"operator:{getpass.getuser()}"
    return f"operator:{os.getuid()}"


def wanted(service: str, id_: str) -> int | UUID:
    """A letter's number, or with vpn a person."""
    with suppress(ValueError):
        if id_.isascii() and id_.isdecimal() and int(id_) < 2**63:
            return int(id_)
        if service == "vpn":
            return UUID(id_)
    raise click.UsageError(f"{id_!r} is no id of `dead list`.")
