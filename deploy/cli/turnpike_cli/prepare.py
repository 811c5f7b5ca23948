"""`turnpike migrate` and `turnpike streams`: jobs that prepare schemas and streams for services."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any

import asyncpg
import click

from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.messaging.jetstream import BrokerError, create_streams
from shared.platform.migrate import MigrationError, migrate
from shared.platform.settings import BusSettings, check_dsn, read_settings, refuse
from turnpike_cli.services import SERVICE_NAME

TRY_AGAIN_S = 2.0

wait_option = click.option(
    "--wait-s",
    type=click.FloatRange(0, 600),
    default=0,
    metavar="SECONDS",
    help="Retry a step that fails for so many seconds.",
)


@click.command("migrate", epilog="Example: turnpike migrate payments --wait-s 60")
@click.argument("services", nargs=-1, type=SERVICE_NAME, metavar="[SERVICE]...")
@wait_option
def migrate_command(services: tuple[str, ...], wait_s: float) -> None:
    """Migrate the schemas of services to what their code expects.

    SERVICE is bot-gateway, payments, referrals, vpn-provisioner or notifier; without it every
    installed service is migrated. Each schema is reached as its owner, by
    TURNPIKE_<SCHEMA>_OWNER_DSN; the schemas are bot, payments, referrals, vpn and notifier.
    Two runs at once wait for each other.
    """
    chosen = services or [name for name, package in OWNERS.items() if find_spec(package)]
    for owner, dsn in _owner_dsns(chosen).items():
        applied = _run(partial(migrate, dsn, OWNERS[owner]), wait_s)
        click.echo(f"{SERVICE_NAMES[owner]}: {', '.join(applied) or 'nothing to do'}")


@click.command("streams", epilog="Example: turnpike streams --wait-s 60")
@wait_option
def streams_command(wait_s: float) -> None:
    """Create the streams that are missing in NATS.

    NATS is reached by TURNPIKE_NATS_URL. A stream that exists is left as it is.
    """
    bus = read_settings(BusSettings)
    _run(
        partial(create_streams, bus.nats_url.get_secret_value(), replicas=bus.nats_replicas), wait_s
    )
    click.echo("all streams exist")


def _owner_dsns(owners: Iterable[str]) -> dict[str, str]:
    """The DSNs of these schemas' owners. All mistakes are refused at once."""
    dsns, mistakes = {}, []
    for owner in owners:
        variable = f"TURNPIKE_{owner.upper()}_OWNER_DSN"
        dsns[owner] = os.environ.get(variable, "")
        if not dsns[owner]:
            mistakes.append(f"{variable} is not set.")
            continue
        try:
            check_dsn(dsns[owner])
        except ValueError as error:
            mistakes.append(f"{variable} is not usable: {error}.")
    if mistakes:
        refuse(*mistakes)
    return dsns


def _run(work: Callable[[], Coroutine[Any, Any, Any]], wait_s: float) -> Any:
    ends_at, last = time.monotonic() + wait_s, ""
    while True:
        try:
            return asyncio.run(work())
        except MigrationError as error:  # Waiting does not help.
            refuse(f"{type(error).__name__}: {error}")
        except (
            BrokerError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
        ) as error:
            sentence = f"{type(error).__name__}: {error}"
        if time.monotonic() >= ends_at:
            refuse(sentence)
        if sentence != last:
            click.echo(f"not yet: {sentence}", err=True)
        last = sentence
        time.sleep(TRY_AGAIN_S)
