"""`turnpike migrate` and `turnpike streams`: what has to be there before the services start, each as a job."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from importlib.util import find_spec
from typing import Any

import asyncpg
import click

from shared.migrate import MigrationError, migrate
from shared.outbox import BrokerError, make_streams
from shared.owners import OWNERS
from shared.settings import BusSettings, check_dsn, read_settings, refuse

TRY_AGAIN_S = 2.0

patience = click.option(
    "--wait-s", type=click.FloatRange(0, 600), default=0, help="How long to try each again where it cannot be done yet."
)


@click.command("migrate")
@click.argument("services", nargs=-1, type=click.Choice(sorted(OWNERS)))
@patience
def migrate_command(services: tuple[str, ...], wait_s: float) -> None:
    """Bring the services' schemas to the shape their code expects.

    SERVICES are all that are installed here where none is named. Each is reached as its owner, by
    TURNPIKE_<SERVICE>_OWNER_DSN. Two runners at once wait for each other.
    """
    for service in services or [name for name, package in OWNERS.items() if find_spec(package)]:
        applied = _run(partial(migrate, _owner_dsn(service), OWNERS[service]), wait_s)
        click.echo(f"{service}: {', '.join(applied) or 'nothing to do'}")


@click.command("streams")
@patience
def streams_command(wait_s: float) -> None:
    """Make every stream that is missing in NATS.

    NATS is that of TURNPIKE_NATS_URL; a stream that exists is left as it is.
    """
    bus = read_settings(BusSettings)
    _run(partial(make_streams, bus.nats_url.get_secret_value(), replicas=bus.nats_replicas), wait_s)
    click.echo("every stream is there")


def _owner_dsn(service: str) -> str:
    variable = f"TURNPIKE_{service.upper()}_OWNER_DSN"
    dsn = os.environ.get(variable)
    if not dsn:
        refuse(f"{variable} is not set.")
    try:
        check_dsn(dsn)
    except ValueError as error:
        refuse(f"{variable} is not usable: {error}.")
    return dsn


def _run(work: Callable[[], Coroutine[Any, Any, Any]], wait_s: float) -> Any:
    until, last = time.monotonic() + wait_s, ""
    while True:
        try:
            return asyncio.run(work())
        except MigrationError as error:  # No time mends it.
            refuse(f"{type(error).__name__}: {error}")
        except (
            BrokerError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
        ) as error:
            sentence = f"{type(error).__name__}: {error}"
        if time.monotonic() >= until:
            refuse(sentence)
        if sentence != last:
            click.echo(f"not yet: {sentence}", err=True)
        last = sentence
        time.sleep(TRY_AGAIN_S)
