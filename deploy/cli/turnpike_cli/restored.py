"""`turnpike restored SERVICE`: what has to be done once a service's database came back from a backup."""

import asyncio
import json
import os
import sys
from typing import NoReturn

import asyncpg
import click

from shared.bus import UnansweredError
from shared.db import Database
from shared.outbox import tell_all_again
from shared.owners import OWNERS
from shared.questions import AskTold
from shared.tally import compare_anew
from turnpike_cli.asking import REFUSED_STATUS, SERVICES, CannotAskError, nats_url, opened_bus

NEXT = """
Next:
  1. start {service} and wait until /readyz says ok
  2. when it is at rest, ask everybody: turnpike audit
     I6 lists within some two hours what others heard and {service} no longer knows. It goes by itself where the cause
     is reported again (providers are asked again from a day before the backup); what stays is for a person to decide.
"""


class StillRunningError(Exception):
    """The service that was restored answers."""


@click.command("restored")
@click.argument("service", type=click.Choice(sorted(OWNERS)))
@click.option("--json", "as_json", is_flag=True, help="Print the same for a machine.")
def restored_command(*, service: str, as_json: bool) -> None:
    """Bring SERVICE, whose database was restored to its own latest, back among the others. Stop its replicas first.

    Its database is TURNPIKE_<SERVICE>_DSN. May be repeated: inboxes and natural keys absorb what comes twice.
    """
    name = SERVICES[service]
    try:
        dsn = os.environ.get(variable := f"TURNPIKE_{service.upper()}_DSN")
        if not dsn:
            raise CannotAskError(f"{variable} is not set.")
        dropped = asyncio.run(restored(service, nats_url(os.environ), dsn))
    except StillRunningError:
        _refuse(f"{name} is running: stop all its replicas, restore its database, and call this again.")
    except CannotAskError as error:
        _refuse(str(error))
    except UnansweredError:
        _refuse("JetStream does not answer.")
    except (asyncpg.PostgresError, OSError) as error:
        _refuse(f"The database of {name} does not answer: {error}.")
    if as_json:
        click.echo(json.dumps({"service": service, "from_the_start": dropped}))
        return
    for handler in dropped:
        click.echo(f"{handler} hears its stream from the start")
    click.echo(f"{name} tells its facts of 3 days again")
    click.echo("all closed hours of 30 days are compared anew")
    click.echo(NEXT.format(service=name), nl=False)


async def restored(service: str, url: str, dsn: str) -> list[str]:
    """Answers the durables that were dropped. Raises StillRunningError, and what NATS and PostgreSQL raise."""
    database = Database(dsn, name="turnpike-restored", size=1)
    async with opened_bus(url) as bus:
        if await bus.is_answered(AskTold.of(service)):
            raise StillRunningError
        try:
            await database.open()
            async with database.transaction() as tx:
                await tell_all_again(tx)
                await compare_anew(tx)
        finally:
            await database.close()
        return await bus.drop_durables(service)


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(REFUSED_STATUS)
