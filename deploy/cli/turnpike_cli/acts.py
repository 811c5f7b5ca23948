"""`turnpike acts`: the audit log of all services, the newest act first, in pages."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import click

from shared.contracts.acts import ActRecord, ActRecords, ActsQuery
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.messaging.rpc import Bus
from turnpike_cli.formatting import moment, money, printable, table, wrapped
from turnpike_cli.options import json_option
from turnpike_cli.people import PERSON, person_named
from turnpike_cli.querying import QUERY_TIMEOUT_S, REFUSED_STATUS, gathered, no_answer, run

ACTS_PER_PAGE = 20
MAX_PAGE = 500

Owned = tuple[str, ActRecord]
"""An act with its owner."""


@click.command("acts", epilog="Example: turnpike acts --of 777000")
@click.option(
    "--of", "person", type=PERSON, metavar="PERSON", help="Show only acts that concern this person."
)
@click.option(
    "--page",
    type=click.IntRange(1, MAX_PAGE),
    default=1,
    metavar="NUMBER",
    help="Show this page; the first has the newest acts.",
)
@json_option
def acts_command(*, person: int | UUID | None, page: int, as_json: bool) -> None:
    """Show what operators did, and what was refused.

    PERSON is a Telegram id, or the id of a person. Each act is shown with its operator, role and
    reason, and with the changed values before and after. Times are in UTC.
    """
    run(lambda bus: print_acts(bus, person, page, as_json=as_json))


async def print_acts(bus: Bus, named: int | UUID | None, page: int, *, as_json: bool) -> int:
    """Returns the status of the command."""
    person = None if named is None else await person_named(bus, named)
    wanted = page * ACTS_PER_PAGE
    answers, unresponsive = await gathered(
        {owner: newest(bus, owner, person, wanted + 1) for owner in OWNERS}
    )
    merged = [(owner, act) for owner, acts in answers.items() for act in acts]
    merged.sort(key=lambda one: one[1].executed_at, reverse=True)
    shown, more = merged[wanted - ACTS_PER_PAGE : wanted], len(merged) > wanted
    if as_json:
        click.echo(json.dumps(as_dict(shown, unresponsive, more=more), indent=2))
    else:
        click.echo("\n".join(act_lines(shown)) or "There are no acts.")
        if more:
            click.echo(f"There are more: --page {page + 1}.")
    if unresponsive:
        click.echo(no_answer(unresponsive), err=True)
    return REFUSED_STATUS if unresponsive else 0


async def newest(bus: Bus, owner: str, person: UUID | None, most: int) -> list[ActRecord]:
    """The newest acts of an owner, at most so many."""
    found: list[ActRecord] = []
    page = ActRecords(acts=(), more=True)
    while page.more and len(found) < most:
        before = found[-1].number if found else None
        query = ActsQuery.of(owner)(person=person, before=before)
        answer = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        assert isinstance(answer, ActRecords), answer
        page = answer
        found += page.acts
    return found[:most]


def as_dict(shown: Sequence[Owned], unresponsive: Sequence[str], *, more: bool) -> dict[str, Any]:
    return {
        "acts": [
            {"service": SERVICE_NAMES[owner], **act.model_dump(mode="json")} for owner, act in shown
        ],
        "more": more,
        "unresponsive": [SERVICE_NAMES[owner] for owner in unresponsive],
    }


def act_lines(shown: Sequence[Owned]) -> list[str]:
    if not shown:
        return []
    head = ("WHEN (UTC)", "SERVICE", "ROLE", "OPERATOR", "ACT")
    first, *rows = table(head, [row_of(owner, act) for owner, act in shown])
    lines = [first]
    for row, (_, act) in zip(rows, shown, strict=True):
        lines += [row, *(line for text in details_of(act) for line in wrapped("    ", text))]
    return lines


def row_of(owner: str, act: ActRecord) -> tuple[str, ...]:
    actor = act.actor.removeprefix("operator:")
    name = act.topic.partition(".")[2]
    return moment(act.executed_at)[:19], SERVICE_NAMES[owner], act.role, actor, name


def details_of(act: ActRecord) -> Iterator[str]:
    state = act.after or act.before or {}
    currency = state.get("currency") or act.wanted.get("currency") or "RUB"
    yield printable(f"{act.refusal or 'done'}: {act.reason}")
    asked = act.wanted.get("currency") or currency
    fields = {name: value for name, value in act.wanted.items() if value is not None}
    if fields:
        yield ", ".join(
            f"{name.removesuffix('_minor')} {value_of(name, fields, asked)}" for name in fields
        )
    if act.before != act.after:
        yield ", ".join(changes_of(act.before or {}, act.after or {}, currency))


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any], currency: str) -> Iterator[str]:
    """`wallet 0.00 RUB → 50.00 RUB`, for each value that changed."""
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            old, new = value_of(name, before, currency), value_of(name, after, currency)
            yield f"{name.removesuffix('_minor')} {old} → {new}"


def value_of(name: str, state: Mapping[str, Any], currency: str) -> str:
    value = state.get(name)
    if name.endswith("_minor") and isinstance(value, int):
        return money(value, currency)
    return "none" if value is None else printable(str(value))
