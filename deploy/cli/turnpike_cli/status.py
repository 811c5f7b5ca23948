"""`turnpike status`: how every service is, what waits, and where things are."""

import asyncio
import json
import os
import sys

import click

from shared.contracts.message import Refused
from shared.contracts.operations import ReplicaStatus, StatusQuery
from shared.contracts.owners import OWNERS
from shared.contracts.vpn import DeadJobs
from shared.messaging.jetstream import BrokerError, consumer_lag
from shared.messaging.rpc import Bus, UnansweredError
from turnpike_cli.dead_letters import jobs_of
from turnpike_cli.local_shop import LocalShop, NoShopError, running_shop
from turnpike_cli.options import json_option
from turnpike_cli.querying import REFUSED_STATUS, no_answer, run
from turnpike_cli.status_lines import Status, as_dict, status_lines

FIRST_ANSWER_TIMEOUT_S = 5.0
# A replica whose database does not answer says so after two seconds.
NO_MORE_ANSWERS_AFTER_S = 2.5
LAG_TIMEOUT_S = 10.0
NO_SHOP_STATUS = NOT_READY_STATUS = 1


@click.command("status", epilog="Example: turnpike status")
@json_option
def status_command(*, as_json: bool) -> None:
    """Show how every service is, and what waits.

    Each replica is listed with its readiness, version, pending events, failed messages that wait
    for their next try, dead letters, and its last audit by itself; each handler with the events
    that it has yet to acknowledge; each worker with its last work, its failures, and its silence
    where it is stuck. PostgreSQL and NATS are shown with version and address. Of the
    shop of `make up`, the logs, addresses and DSNs are listed too.

    The status is 0 when all services are ready, 1 when one is not or no shop runs on this
    machine, and 2 when a service or NATS does not answer.
    """
    local = None
    if not os.environ.get("TURNPIKE_NATS_URL"):
        try:
            local = running_shop(os.environ)
        except NoShopError as error:
            click.echo(str(error), err=True)
            sys.exit(NO_SHOP_STATUS)
    run(lambda bus: print_status(bus, local, as_json=as_json))


async def print_status(bus: Bus, local: LocalShop | None, *, as_json: bool) -> int:
    """Returns the status of the command."""
    status = await status_of(bus, local)
    if as_json:
        click.echo(json.dumps(as_dict(status), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(status_lines(status)))
    if status.unresponsive:
        click.echo(no_answer(status.unresponsive), err=True)
    if status.lag is None:
        click.echo("JetStream does not answer.", err=True)
    if status.unresponsive or status.lag is None:
        return REFUSED_STATUS
    return 0 if status.ready else NOT_READY_STATUS


async def status_of(bus: Bus, local: LocalShop | None = None) -> Status:
    """Everything is asked at once. A part that does not answer hides no other."""
    version, address = bus.server
    replicas, lag, jobs = await asyncio.gather(
        asyncio.gather(*(_replicas(bus, owner) for owner in OWNERS)), _lag(bus), _dead_jobs(bus)
    )
    return Status(
        nats_version=version,
        nats_address=address,
        replicas=dict(zip(OWNERS, replicas, strict=True)),
        lag=lag,
        dead_jobs=jobs,
        local=local,
    )


async def _replicas(bus: Bus, owner: str) -> list[ReplicaStatus]:
    answers = await bus.query_every_replica(
        StatusQuery.of(owner)(),
        timeout_s=FIRST_ANSWER_TIMEOUT_S,
        quiet_s=NO_MORE_ANSWERS_AFTER_S,
    )
    found = [one for one in answers if not isinstance(one, Refused)]
    return sorted(found, key=lambda one: one.replica)


async def _lag(bus: Bus) -> dict[str, int] | None:
    try:
        return await asyncio.wait_for(consumer_lag(bus.client), LAG_TIMEOUT_S)
    except (BrokerError, TimeoutError):
        return None


async def _dead_jobs(bus: Bus) -> DeadJobs | None:
    try:
        return await jobs_of(bus)
    except UnansweredError:
        return None
