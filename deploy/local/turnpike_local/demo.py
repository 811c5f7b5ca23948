"""`turnpike demo`: a purchase on a throw-away shop, with its timeline, its book, its trace and its invariants."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.money import shown
from shared.questions import BookLine
from turnpike_local.environment import env_file, read_env_file
from turnpike_local.faults import SERVICES, Fault, Kill, WipeBroker
from turnpike_local.processes import StartError
from turnpike_local.stack import Stack
from turnpike_local.stopping import until_stopped
from turnpike_local.story import Story, play, tree

REFUSED_STATUS = 2
INTERRUPTED_STATUS = 130
ABSTRACT_KINDS = ("db.system", "db.system.name", "http.method", "http.request.method")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the same for a machine.")
@click.option("--kill", "killed", metavar="SERVICE", multiple=True, help="Kill -9 SERVICE in the middle of its work.")
@click.option("--wipe-broker", is_flag=True, help="Kill NATS and delete its disk while the payment is on its way.")
@env_file
def demo(*, as_json: bool, killed: tuple[str, ...], wipe_broker: bool, env_file: Path | None) -> None:
    """Play a purchase without a browser and prove it, whatever breaks meanwhile.

    SERVICE is bot-gateway, payments, referrals, vpn-provisioner or notifier; --kill may be given several times.

    Exit status 1 when anything is off, with all that was seen; 2 when the shop does not start.
    """
    try:
        read_env_file(env_file)
        faults = faults_of(killed, wipe_broker=wipe_broker)
        played = asyncio.run(
            until_stopped(_demo(faults, quiet=as_json), on_signal=lambda: click.echo("\nStopping …", err=True))
        )
    except (StartError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED_STATUS)
    if played is None:
        sys.exit(INTERRUPTED_STATUS)
    story, took_s = played
    if as_json:
        click.echo(json.dumps(as_dict(story, took_s), indent=2, ensure_ascii=False))
    else:
        show(story, took_s)
    sys.exit(0 if story.ok else 1)


def faults_of(killed: Sequence[str], *, wipe_broker: bool) -> list[Fault]:
    """Raises `StartError` for a service that there is not."""
    for name in killed:
        if name not in SERVICES:
            raise StartError(f"There is no service {name}; --kill takes {', '.join(SERVICES)}.")
    faults: list[Fault] = [Kill(SERVICES[name]) for name in dict.fromkeys(killed)]
    return [*faults, WipeBroker()] if wipe_broker else faults


async def _demo(faults: Sequence[Fault], *, quiet: bool) -> tuple[Story, float]:
    began = time.monotonic()

    def progress(step: str, seconds: float) -> None:
        if not quiet:
            click.echo(f"  {step:<16}{seconds:5.1f} s")

    with throw_away_state() as folder:
        async with Stack(folder, progress=progress) as stack:
            story = await play(stack, faults)
    return story, time.monotonic() - began


@contextmanager
def throw_away_state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="turnpike-demo-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user, who has to reach its own folder.
        yield Path(folder)


def timeline(story: Story) -> list[dict[str, Any]]:
    """What happened, in which service, milliseconds since the payment; SQL and HTTP stand in the trace."""
    began_ns = story.paid_at_ns or min((span["start_ns"] for span in story.spans), default=0)
    steps = [
        (span["start_ns"], span["service"].removeprefix("turnpike-"), span["name"], took_ms(span), False)
        for span in story.spans
        if not any(kind in span["attributes"] for kind in ABSTRACT_KINDS)
    ]
    steps += [(broken.at_ns, broken.who, broken.what, 0.0, True) for broken in story.breaks]
    return [
        {
            "ms": round((at_ns - began_ns) / 1e6, 1),
            "service": service,
            "what": what,
            "took_ms": took,
            "on_purpose": on_purpose,
        }
        for at_ns, service, what, took, on_purpose in sorted(steps, key=lambda step: step[0])
    ]


def took_ms(span: dict[str, Any]) -> float:
    return round(int(span["end_ns"] - span["start_ns"]) / 1e6, 1)


def as_dict(story: Story, took_s: float) -> dict[str, Any]:
    return {
        "ok": story.ok,
        "took_s": round(took_s, 1),
        "order": story.order,
        "charge": story.charge,
        "timeline": timeline(story),
        "book": {
            "before": [line.model_dump() for line in story.book_before],
            "after": [line.model_dump() for line in story.book_after],
        },
        "messages": [{"to": name, "text": text} for name, text in story.messages],
        "trace": [
            {"depth": depth, "service": span["service"], "name": span["name"], "took_ms": took_ms(span)}
            for depth, span in tree(story.spans)
        ],
        "checks": [{"sentence": check.sentence, "holds": check.holds, "seen": check.seen} for check in story.checks],
        "invariants": [{"owner": found.owner, **found.finding.model_dump()} for found in story.invariants],
    }


def show(story: Story, took_s: float) -> None:
    console = Console(highlight=False)
    console.print("\n[bold]The story[/] (ms since the payment)")
    for line in timeline(story):
        what = f"[red]{escape(line['what'])}[/]" if line["on_purpose"] else escape(line["what"])
        console.print(f"  {line['ms']:>9.1f}  {line['service']:<10} {what}", soft_wrap=True)
    show_messages(console, story)
    console.print(book_table(story))
    show_trace(console, story)
    console.print("\n[bold]What was seen[/]")
    for check in story.checks:
        seen = " ".join(check.seen.split())[:90] if check.holds else check.seen
        console.print(f"  {mark(check.holds)} {escape(check.sentence)} [dim]{escape(seen)}[/]", soft_wrap=True)
    console.print(invariants_table(story))
    verdict = "[green]Everything holds.[/]" if story.ok else "[red]Something is off.[/]"
    console.print(f"{verdict} {took_s:.0f} s in all.")


def mark(holds: bool) -> str:  # noqa: FBT001 - a mark is a yes or a no.
    return "[green]✓[/]" if holds else "[red]✗[/]"


def show_messages(console: Console, story: Story) -> None:
    console.print("\n[bold]What the bot's messages say in the end[/]")
    for name, text in story.messages:
        first, *rest = text.splitlines()
        console.print(f"  {name}: {escape(first)}{' …' if rest else ''}")


def book_table(story: Story) -> Table:
    before = {(line.account, line.currency): line.amount_minor for line in story.book_before}
    table = Table("account", "before", "after", title="The book", title_justify="left", title_style="bold")
    for line in story.book_after:
        was = BookLine(
            account=line.account, currency=line.currency, amount_minor=before.get((line.account, line.currency), 0)
        )
        table.add_row(line.account, shown(was.amount_minor, was.currency), shown(line.amount_minor, line.currency))
    return table


def show_trace(console: Console, story: Story) -> None:
    console.print(f"\n[bold]The trace[/] {story.order}")
    for depth, span in tree(story.spans):
        service = span["service"].removeprefix("turnpike-")
        name = " ".join(span["name"].split())[: max(20, 72 - 2 * depth)]
        console.print(f"  {'  ' * depth}{service} [dim]·[/] {escape(name)} [dim]{took_ms(span)} ms[/]", soft_wrap=True)


def invariants_table(story: Story) -> Table:
    table = Table("", "owner", "invariant", "violations", title="Invariants", title_justify="left", title_style="bold")
    for found in story.invariants:
        finding = found.finding
        seen = f"{finding.violations} {'; '.join(finding.examples)}".strip()
        table.add_row(finding.invariant, found.owner, escape(finding.truth), escape(seen))
    return table
