"""Rows in which servers live and refuse: a wrong password, a read-only database, a wrong clock."""

import asyncio
from collections.abc import Mapping, Sequence

from bot_gateway.store.waits import WAITS as BOT
from notifier.store.waits import WAITS as NOTIFIER
from shared.operations.anti_entropy import WAITS as SHARED
from shared.platform.waits import Wait
from tests.chaos.trial import Trial
from vpn_provisioner.store.waits import WAITS as VPN

REFUSES_NATS_S = 4.0
READ_ONLY_S = 10.0
BACK_WITHIN_S = 10.0
CLOCK_STEPS = 3

READ_ONLY = "alter system set default_transaction_read_only = on"
WRITABLE = "alter system reset default_transaction_read_only"
RELOAD = "select pg_reload_conf()"

# The clock of a real server cannot be moved here. Services read it by this function, which is found
# before PostgreSQL's in the sessions that begin after the roles were altered.
STEPPED_BACK = """
create or replace function {schema}.statement_timestamp() returns timestamptz
language sql
stable
return pg_catalog.statement_timestamp() - {hours} * interval '1 hour'
"""
FOUND_FIRST = "alter role {schema}_app set search_path = {schema}, pg_catalog"
FOUND_LAST = "alter role {schema}_app set search_path = {schema}"
END_SESSIONS = """
select pg_terminate_backend(pid)
from pg_stat_activity
where usename like '%\\_app'
"""

WAITS: Mapping[str, Sequence[Wait]] = {
    "bot": (*SHARED, *BOT),
    "notifier": (*SHARED, *NOTIFIER),
    "payments": SHARED,
    "referrals": SHARED,
    "vpn": (*SHARED, *VPN),
}


async def password_rotated(trial: Trial) -> None:
    """40 (W-34): NATS throws every client out, refuses it for some seconds, and takes it back."""
    shop = trial.shop

    async def rotate() -> None:
        shop.broker.expect_password("another")
        trial.faults.append(f"NATS expects another password for {REFUSES_NATS_S:g} s")
        await asyncio.sleep(REFUSES_NATS_S)

    async def put_back() -> None:
        shop.broker.expect_password()

    purchases = await trial.load.place_orders(trial.size(800, 200))
    async with shop.supervised():
        took_s = await trial.break_under_load(purchases, rotate, put_back)
        trial.expect_within("resumed", took_s, REFUSES_NATS_S + BACK_WITHIN_S)
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def database_read_only(trial: Trial) -> None:
    """41 (W-35): the server refuses every write for some seconds, and goes on answering reads."""
    shop = trial.shop

    async def refuse() -> None:
        await shop.fetch(READ_ONLY)
        await shop.fetch(RELOAD)
        trial.notifier_interrupted()
        trial.faults.append(f"PostgreSQL is read-only for {READ_ONLY_S:g} s")
        await asyncio.sleep(READ_ONLY_S)

    async def accept() -> None:
        await shop.fetch(WRITABLE)
        await shop.fetch(RELOAD)

    # In Stars: the load writes to the database itself where it drops a provider's notice.
    purchases = await trial.load.place_orders(trial.size(800, 200), only_stars=True)
    async with shop.supervised():
        took_s = await trial.break_under_load(purchases, refuse, accept)
        trial.expect_within("resumed", took_s, READ_ONLY_S + BACK_WITHIN_S)
    trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)


async def clock_steps_back(trial: Trial) -> None:
    """42 (W-38): the clock loses an hour, several times, and so every wait is an hour longer."""
    shop = trial.shop
    purchases = await trial.load.place_orders(trial.size(800, 200))
    await _step_back(trial, 0)
    for schema in WAITS:
        await shop.fetch(FOUND_FIRST.format(schema=schema))
    await shop.fetch(END_SESSIONS)
    paying = asyncio.create_task(trial.pay(purchases))
    held = 0
    for hours in range(1, CLOCK_STEPS + 1):
        await asyncio.sleep(len(purchases) / trial.per_s / CLOCK_STEPS)
        await _step_back(trial, hours)
        for schema, waits in WAITS.items():
            for column in (column for wait in waits for column in wait.columns):
                held += await _put_off(trial, schema, *column.split("."))
    await paying
    trial.faults.append(f"{held} waits of {len(WAITS)} services are an hour longer")
    trial.expect("some work waited when the clock stepped back", held > 0)
    await trial.expect_quiescent("the shop after the clock stepped back")
    for schema in WAITS:
        await shop.fetch(FOUND_LAST.format(schema=schema))


async def _step_back(trial: Trial, hours: int) -> None:
    for schema in WAITS:
        await trial.shop.fetch(STEPPED_BACK.format(schema=schema, hours=hours))


async def _put_off(trial: Trial, schema: str, table: str, column: str) -> int:
    """Move a column an hour ahead, where it is set; returns in how many rows."""
    rows = await trial.shop.fetch(
        f"update {schema}.{table} set {column} = {column} + interval '1 hour' "
        f"where {column} is not null returning 1"
    )
    return len(rows)
