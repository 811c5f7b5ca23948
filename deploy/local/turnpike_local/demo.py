"""`turnpike demo`: a purchase on a temporary shop, and its checks, in thirty lines."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from turnpike_cli.options import json_option
from turnpike_cli.querying import log_only_critical
from turnpike_local.details import as_dict, show_details
from turnpike_local.environment import env_file, read_env_file
from turnpike_local.faults import SERVICES, Fault, Kill, WipeBroker
from turnpike_local.processes import StartError
from turnpike_local.scenario import Scenario, play
from turnpike_local.stack import Stack
from turnpike_local.stopping import until_stopped
from turnpike_local.summary import summary_lines, verdict

FAILED_STATUS = 1
REFUSED_STATUS = 2
INTERRUPTED_STATUS = 130
PARTS = "PostgreSQL, NATS, a VPN node, a sandbox and five services"


@click.command(epilog="Example: turnpike demo --kill payments --wipe-broker")
@json_option
@click.option("--verbose", is_flag=True, help="Print every step, the trace and all invariants too.")
@click.option(
    "--kill",
    "killed",
    metavar="SERVICE",
    multiple=True,
    help="Kill SERVICE with SIGKILL in the middle of its transaction.",
)
@click.option(
    "--wipe-broker",
    is_flag=True,
    help="Kill NATS and delete its disk while only NATS holds the payment.",
)
@env_file
def demo(
    *,
    as_json: bool,
    verbose: bool,
    killed: tuple[str, ...],
    wipe_broker: bool,
    env_file: Path | None,
) -> None:
    """Play a purchase and check it, also while parts break.

    It runs on a shop of its own, which is removed at the end, and needs no browser.

    SERVICE is bot-gateway, payments, referrals, vpn-provisioner or notifier. --kill may be given
    several times.

    The exit status is 1 when a check fails, and 2 when the shop does not start.
    """
    if not verbose:
        log_only_critical()  # What a fault does to the demo's own connection is no news.
    try:
        read_env_file(env_file)
        faults = faults_of(killed, wipe_broker=wipe_broker)
        played = asyncio.run(
            until_stopped(
                _demo(faults, quiet=as_json, verbose=verbose),
                on_signal=lambda: click.echo("\nStopping …", err=True),
            )
        )
    except (StartError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED_STATUS)
    if played is None:
        sys.exit(INTERRUPTED_STATUS)
    scenario, took_s = played
    if as_json:
        click.echo(json.dumps(as_dict(scenario, took_s), indent=2, ensure_ascii=False))
    else:
        show(scenario, took_s, verbose=verbose)
    sys.exit(0 if scenario.ok else FAILED_STATUS)


def faults_of(killed: Sequence[str], *, wipe_broker: bool) -> list[Fault]:
    """The faults of these options. Raises `StartError` for an unknown service."""
    for name in killed:
        if name not in SERVICES:
            raise StartError(f"There is no service {name}; --kill takes {', '.join(SERVICES)}.")
    faults: list[Fault] = [Kill(SERVICES[name]) for name in dict.fromkeys(killed)]
    return [*faults, WipeBroker()] if wipe_broker else faults


async def _demo(faults: Sequence[Fault], *, quiet: bool, verbose: bool) -> tuple[Scenario, float]:
    began = time.monotonic()

    def report(text: str, *, line_ends: bool = True) -> None:
        if not quiet:
            click.echo(text, nl=line_ends)

    def progress(step: str, seconds: float) -> None:
        if verbose:
            report(f"  {step:<16}{seconds:5.1f} s")

    with throw_away_state() as folder:
        report(f"Starting {PARTS} … ", line_ends=verbose)
        async with Stack(folder, progress=progress) as stack:
            report(f"{time.monotonic() - began:.0f} s.")
            scenario = await play(stack, faults)
    return scenario, time.monotonic() - began


def show(scenario: Scenario, took_s: float, *, verbose: bool) -> None:
    """The summary, with `verbose` all details, and the verdict in the last line."""
    console = Console(highlight=False)
    for line in summary_lines(scenario):
        console.print(line, soft_wrap=True)
    if verbose:
        show_details(console, scenario)
    status = 0 if scenario.ok else FAILED_STATUS
    console.print(verdict(scenario, took_s, status), soft_wrap=True)


@contextmanager
def throw_away_state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="turnpike-demo-") as folder:
        # PostgreSQL may run as another user, which must be able to enter its own folder.
        Path(folder).chmod(0o755)
        yield Path(folder)
