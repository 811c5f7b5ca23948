"""`turnpike migrate` and `turnpike streams`: what has to be there before the services start, each as a job."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any, NoReturn

import asyncpg
import click

from shared.migrate import MigrationError, migrate
from shared.outbox import BrokerError, make_streams
from shared.owners import OWNERS

REFUSED_STATUS = 2


@click.command("migrate")
@click.argument("services", nargs=-1, type=click.Choice(sorted(OWNERS)))
def migrate_command(services: tuple[str, ...]) -> None:
    """Bring the services' schemas to the shape their code expects.

    SERVICES are all that are installed here where none is named. Each is reached as its owner, by
    TURNPIKE_<SERVICE>_OWNER_DSN. Two runners at once wait for each other.
    """
    for service in services or [name for name, package in OWNERS.items() if find_spec(package)]:
        applied = _run(migrate(_wanted(f"TURNPIKE_{service.upper()}_OWNER_DSN"), OWNERS[service]))
        click.echo(f"{service}: {', '.join(applied) or 'nothing to do'}")


@click.command("streams")
def streams_command() -> None:
    """Make every stream that is missing in NATS.

    NATS is that of TURNPIKE_NATS_URL; a stream that exists is left as it is.
    """
    _run(make_streams(_wanted("TURNPIKE_NATS_URL"), replicas=int(os.environ.get("TURNPIKE_NATS_REPLICAS") or 1)))
    click.echo("every stream is there")


def _wanted(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        _refuse(f"{variable} is not set.")
    return value


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except (MigrationError, BrokerError, asyncpg.PostgresError, OSError) as error:
        _refuse(f"{type(error).__name__}: {error}")


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(REFUSED_STATUS)
