"""`turnpike migrate` and `turnpike streams`: what has to be there before the services start, each as a job."""

import asyncio
import os
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any

import asyncpg
import click

from shared.migrate import MigrationError, migrate
from shared.outbox import BrokerError, make_streams
from shared.owners import OWNERS
from shared.settings import BusSettings, check_dsn, read_settings, refuse


@click.command("migrate")
@click.argument("services", nargs=-1, type=click.Choice(sorted(OWNERS)))
def migrate_command(services: tuple[str, ...]) -> None:
    """Bring the services' schemas to the shape their code expects.

    SERVICES are all that are installed here where none is named. Each is reached as its owner, by
    TURNPIKE_<SERVICE>_OWNER_DSN. Two runners at once wait for each other.
    """
    for service in services or [name for name, package in OWNERS.items() if find_spec(package)]:
        applied = _run(migrate(_owner_dsn(service), OWNERS[service]))
        click.echo(f"{service}: {', '.join(applied) or 'nothing to do'}")


@click.command("streams")
def streams_command() -> None:
    """Make every stream that is missing in NATS.

    NATS is that of TURNPIKE_NATS_URL; a stream that exists is left as it is.
    """
    bus = read_settings(BusSettings)
    _run(make_streams(bus.nats_url.get_secret_value(), replicas=bus.nats_replicas))
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


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except (MigrationError, BrokerError, asyncpg.PostgresError, OSError) as error:
        refuse(f"{type(error).__name__}: {error}")
