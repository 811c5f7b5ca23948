"""`turnpike restored SERVICE`: brings a service back after its database came from a backup."""

import asyncio
import json
import os
import sys
from typing import NoReturn

import asyncpg
import click

from shared.contracts.operations import HourlyChecksumsQuery
from shared.contracts.owners import SERVICE_NAMES
from shared.messaging.jetstream import BrokerError, drop_consumers
from shared.messaging.outbox import republish_all
from shared.operations.anti_entropy import compare_anew
from shared.platform.db import Database
from turnpike_cli.options import json_option
from turnpike_cli.querying import REFUSED_STATUS, CannotQueryError, nats_url, opened_bus
from turnpike_cli.services import service_argument

NEXT = """
Next:
  1. start {service} and wait until /readyz answers ok
  2. when the shop is quiescent, run: turnpike audit
     Within some two hours I6 lists events that other services handled and {service} no longer
     knows. A finding disappears when the cause is reported again. Payments lists its providers
     by itself from the time of the backup on: see `turnpike reconcile last`. A person decides
     about the rest with `turnpike why`.
"""


class StillRunningError(Exception):
    """A replica of the restored service answers."""


@click.command("restored", epilog="Example: turnpike restored payments")
@service_argument
@json_option
def restored_command(*, service: str, as_json: bool) -> None:
    """Bring a service back after a restore of its database.

    The database must hold the latest state that its backup has. SERVICE is bot-gateway, payments,
    referrals, vpn-provisioner or notifier. Stop all its replicas first. Its database is reached by
    TURNPIKE_<SCHEMA>_DSN; the schemas are bot, payments, referrals, vpn and notifier. The command
    may be repeated: inboxes and natural keys recognise repeated events.
    """
    name = SERVICE_NAMES[service]
    try:
        dsn = os.environ.get(variable := f"TURNPIKE_{service.upper()}_DSN")
        if not dsn:
            raise CannotQueryError(f"{variable} is not set.")
        dropped = asyncio.run(restored(service, nats_url(os.environ), dsn))
    except StillRunningError:
        _refuse(
            f"{name} is running: stop all its replicas, restore its database,"
            " and run this command again."
        )
    except CannotQueryError as error:
        _refuse(str(error))
    except BrokerError:
        _refuse("JetStream does not answer.")
    except (asyncpg.PostgresError, OSError) as error:
        _refuse(f"The database of {name} does not answer: {error}.")
    if as_json:
        click.echo(json.dumps({"service": name, "dropped_consumers": dropped}))
        return
    for handler in dropped:
        click.echo(f"{handler} will receive its stream from the start")
    click.echo(f"{name} will republish its events of the last 3 days")
    click.echo("all closed hours of the last 30 days will be compared again")
    click.echo(NEXT.format(service=name), nl=False)


async def restored(owner: str, url: str, dsn: str) -> list[str]:
    """Returns the durable consumers that were dropped.

    Raises StillRunningError, and the errors of NATS and PostgreSQL.
    """
    database = Database(dsn, name="turnpike-restored", size=1)
    async with opened_bus(url) as bus:
        if await bus.is_answered(HourlyChecksumsQuery.of(owner)):
            raise StillRunningError
        try:
            await database.open()
            async with database.transaction() as tx:
                await republish_all(tx)
                await compare_anew(tx)
        finally:
            await database.close()
        return await drop_consumers(bus.client, owner)


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(REFUSED_STATUS)
