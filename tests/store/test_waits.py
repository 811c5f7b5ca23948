"""Every wait in the tables has a bound, also after the database's clock has stepped back."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from bot_gateway.store.waits import WAITS as BOT
from notifier.store.waits import WAITS as NOTIFIER
from payments.app import build
from payments.store.reconciliation_leases import WAITS as LEASES
from payments.store.waits import WAITS as WAYS_IN
from shared import service
from shared.messaging import retries
from shared.operations import anti_entropy
from shared.platform import waits
from shared.platform.db import Database
from shared.platform.waits import Wait, pull_back
from tests.kit.access import FailingPanel, broken, confirmed, handle, job_of, subscription_of, work
from tests.kit.living import living, settings
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until
from vpn_provisioner import ticks
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.store.waits import WAITS as VPN
from vpn_provisioner.workers.live import LiveNode
from vpn_provisioner.workers.reconciler import Reconciler

HOUR = timedelta(hours=1)

SHARED = (*anti_entropy.WAITS, *retries.WAITS)

PAYMENTS = (*WAYS_IN, *LEASES)
OWN = {"bot": BOT, "notifier": NOTIFIER, "vpn": VPN, "payments": PAYMENTS, "referrals": ()}

# Columns that hold nothing back: records of what happened, ends that were sold or announced, and
# times that only the audit or the housekeeping reads.
RECORDS = {
    "shared": {
        *("commands.executed_at", "comparisons.compared_at", "conflicts.seen_at"),
        *("dead_letters.dead_lettered_at", "dead_letters.replayed_at", "differences.given_up_at"),
        *("differences.hour", "events.recorded_at", "inbox.handled_at", "inbox.hour"),
        *("failed_attempts.failed_at", "unknown_events.hour", "unknown_events.noted_at"),
        "migrations.applied_at",
    },
    "bot": {
        *("checkout_holds.charged_at", "people.offer_accepted_at", "people.started_at"),
        *("operators.since", "refusals.at", "updates.ended_at", "updates.received_at"),
        *("star_walks.since", "star_walks.gap_changed_at", "star_walks.walked_at"),
        *("star_refunds.asked_at", "star_refunds.ended_at"),
    },
    "notifier": {
        *("deliveries.occurred_at", "deliveries.settled_at", "deliveries.written_at"),
        *("recipients.called_at", "recipients.changed_at"),
    },
    "vpn": {
        *("access_jobs.agreed_at", "access_jobs.until", "grants.announced_at"),
        *("nodes.added_at", "nodes.compared_at", "periods.booked_at", "periods.handled_at"),
        *("subscriptions.begun_at", "subscriptions.ends_at", "shortenings.handled_at"),
        # When to look at an end: it hangs on the end, and a step back only makes it later.
        *("subscriptions.remind_at", "subscriptions.end_moved_at"),
    },
    "payments": {
        *("bookings.booked_at", "invoices.expires_at", "invoices.opened_at"),
        *("orders.honoured_until", "orders.paid_at", "orders.placed_at", "rates.from_at"),
        *("receipts.paid_at", "receipts.received_at", "transfers.at"),
        *("refunds.refunded_at", "refunds.reported_at", "refunds.booked_at"),
        *("undone_orders.booked_at", "ledger_closing.closed_at", "closed_days.closed_at"),
        *("price_versions.from_at", "late_arrivals.told_at", "debts.opened_at"),
        *("receipt_emails.answered_at", "saved_methods.saved_at", "saved_methods.used_at"),
        "invoices.method_saved_at",
        *("resolutions.resolved_at", "reward_hours.hour", "invoice_jobs.asked_at"),
        *("notices.received_at", "reconciliations.since", "reconciliations.until"),
        *("reconciliations.started_at", "reconciliations.ended_at"),
        "reconciliation_differences.found_at",
        *("outgoing_refunds.requested_at", "outgoing_refunds.asked_at"),
        *("outgoing_refunds.ended_at", "fiscal_receipts.made_at", "fiscal_receipts.asked_at"),
        *("reconciliation_leases.added_at", "reconciliation_leases.finished_at"),
        "reconciliation_leases.reconciled_until",
    },
    "referrals": {
        *("invitations.at", "people.started_at", "refusals.refused_at"),
        *("rewards.decided_at", "waiting.waits_since", "reversals.decided_at"),
        *("waiting_refunds.waits_since", "lapses.at"),
    },
}

COLUMNS = """
select table_name || '.' || column_name as column
from information_schema.columns
where table_schema = $1 and data_type = 'timestamp with time zone'
"""

# One row in each table with a wait.
ROWS = {
    "shared": """
        insert into comparisons (handler) values ('h');
        insert into differences (handler, hour, missing, tries) values ('h', now(), 1, 1);
        insert into failed_attempts
          (handler, event_id, tries, reason, subject, headers, body, run_at)
        values ('h', gen_random_uuid(), 1, 'r', 's', '{}', '', now());
    """,
    "bot": """
        insert into chat_leases (chat, held_until) values (1, now());
        insert into updates (bot, update_id, lane, chat, body) values (1, 1, 'money', 1, '{}');
        insert into buckets (name, tokens, filled_at) values ('b', 0, now());
        insert into checkout_holds (payload, query_id, approved_at) values ('p', 'q', now());
        insert into star_walks (bot, since) values (1, now());
        insert into star_refunds (id, charge) values (gen_random_uuid(), 'c');
    """,
    "notifier": """
        insert into recipients (person, due_at) values (gen_random_uuid(), now());
        insert into deliveries (id, person, cause, kind, priority, details, not_before)
        select gen_random_uuid(), person, 'c', 'k', 1, '{}', now() from recipients;
    """,
    "vpn": """
        insert into nodes (id, name, kind, node_group, address, inbound, link_template, capacity)
        values (gen_random_uuid(), 'n', 'xray', 'g', 'a', 'i', 'l', 1);
        insert into access_jobs (person, node, key, until, present)
        select gen_random_uuid(), id, gen_random_uuid(), now(), true from nodes;
    """,
    "payments": """
        insert into orders (id, person, what, price_minor, placed_at, honoured_until)
        values (gen_random_uuid(), gen_random_uuid(), 'topup', 100, now(), now());
        insert into invoices (
          id, order_id, way, acquirer, asked_minor, asked_currency, state, opened_at, expires_at
        )
        select gen_random_uuid(), id, 'sbp', 'yookassa', 100, 'RUB', 'asking', now(), now()
        from orders;
        insert into invoice_jobs (invoice, acquirer, step)
        select id, acquirer, 'open' from invoices;
        insert into notices (acquirer, reference, kind, known, body, state)
        values ('yookassa', 'r', 'payment', true, '', 'waiting');
        delete from provider_pace where (acquirer, lane) <> ('yookassa', 'open');
        insert into reconciliation_leases (acquirer) values ('a');
        insert into receipts
          (id, acquirer, charge, currency, amount_minor, payload, digest, paid_at)
        values (gen_random_uuid(), 'yookassa', 'c', 'RUB', 1, '', 0, now());
        insert into outgoing_refunds
          (id, receipt, acquirer, charge, actor, currency, amount_minor, held_minor)
        select gen_random_uuid(), id, acquirer, charge, 'a', currency, 1, 0 from receipts;
        insert into fiscal_receipts (
          id, acquirer, kind, person, order_id, payment, service_minor, advance_minor, item,
          subject, vat_code, state
        )
        select gen_random_uuid(), 'yookassa', 'offset', person, id, 'p', 1, 0, 'VPN', 'service', 1,
          'waiting'
        from orders;
    """,
}


def named(bounded: Sequence[Wait]) -> set[str]:
    return {column for wait in bounded for column in wait.columns}


@pytest.mark.parametrize("owner", OWN)
async def test_every_time_is_bounded_or_a_record(fresh_database: MakeDatabase, owner: str) -> None:
    """W-38: a new column with a time is a wait with a bound, or is listed as a record."""
    place = await fresh_database(owner)
    connection = await asyncpg.connect(place.dsn(f"{owner}_owner"))
    found = {row["column"] for row in await connection.fetch(COLUMNS, owner)}
    await connection.close()
    waiting, records = named([*SHARED, *OWN[owner]]), RECORDS["shared"] | RECORDS[owner]
    assert not waiting & records
    assert found == waiting | records


CASES = [("bot", wait) for wait in (*SHARED, *BOT)] + [("notifier", wait) for wait in NOTIFIER]
CASES += [("vpn", wait) for wait in VPN] + [("payments", wait) for wait in PAYMENTS]


@pytest.fixture(scope="module")
async def places(fresh_database: MakeDatabase) -> dict[str, FreshDatabase]:
    """The databases of the owners with waits, with a row in each table that has one."""
    made = {}
    for owner in ("bot", "notifier", "payments", "vpn"):
        made[owner] = await fresh_database(owner)
        connection = await asyncpg.connect(made[owner].dsn(f"{owner}_owner"))
        await connection.execute(ROWS["shared"] + ROWS[owner])
        await connection.close()
    return made


@pytest.mark.parametrize(("owner", "wait"), CASES, ids=lambda one: getattr(one, "columns", one))
async def test_no_wait_exceeds_its_bound(
    places: dict[str, FreshDatabase], owner: str, wait: Wait
) -> None:
    """W-38: a row written an hour ahead is due; a wait that the code may write stays."""
    place = places[owner]
    connection = await asyncpg.connect(place.dsn(f"{owner}_owner"))
    database = Database(place.dsn(f"{owner}_app"), name="test")
    await database.open()

    async def after_a_round(ahead: timedelta) -> list[tuple[datetime, datetime, datetime]]:
        """Of each column, when all had been that far ahead: before, after, and the time then."""
        tables = [column.split(".") for column in wait.columns]
        before = [
            await connection.fetchval(
                f"update {table} set {column} = now() + $1 returning {column}", ahead
            )
            for table, column in tables
        ]
        await pull_back([wait], database)
        found = [
            (await connection.fetch(f"select {column}, now() from {table}"))[0]
            for table, column in tables
        ]
        return [(old, new, now) for old, (new, now) in zip(before, found, strict=True)]

    try:
        assert all(new <= now for _, new, now in await after_a_round(wait.longest + HOUR))
        assert all(new == old for old, new, _ in await after_a_round(wait.longest / 2))
    finally:
        await database.close()
        await connection.close()


AHEAD = "update comparisons set due_at = now() + interval '3 hours'"
STILL_AHEAD = "select exists (select from comparisons where due_at > now() + interval '2 hours')"


async def test_a_service_bounds_its_waits(
    place: FreshDatabase, wiped_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-38: at its start, and without a restart once the clock has stepped back."""
    monkeypatch.setattr(service, "PULL_BACK_EVERY_S", 0.05)
    monkeypatch.setattr(waits, "ROUNDS", 1)
    owner = await asyncpg.connect(place.dsn("payments_owner"))
    await owner.execute("insert into comparisons (handler) values ('h')")
    await owner.execute(AHEAD)

    async def due() -> bool:
        return not await owner.fetchval(STILL_AHEAD)

    async with living(build(settings(place.dsn("payments_app"), wiped_url))):
        await until(due)
        await owner.execute(AHEAD)
        await asyncio.sleep(0.5)
        assert not await due()
        step_back(monkeypatch, 3600)
        await until(due)
    await owner.close()


def step_back(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The database's clock loses them beside the clock of this process."""
    monkeypatch.setattr(waits, "monotonic", lambda: time.monotonic() + seconds)


class Recording(Database):
    """Remembers which statements changed rows."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, name="test")
        self.executed: list[str] = []

    async def execute(self, sql: str, *args: object) -> str:
        self.executed.append(sql)
        return await super().execute(sql, *args)


@pytest.fixture
async def recording(places: dict[str, FreshDatabase]) -> AsyncIterator[Recording]:
    database = Recording(places["bot"].dsn("bot_app"))
    await database.open()
    yield database
    await database.close()


async def test_no_table_is_read_without_a_step(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-50: the statements read whole tables: for a minute after a start or a step, then never."""
    pulling = waits.PullBack(BOT, recording)
    first = [one.pull_back for one in BOT] * waits.ROUNDS
    for _ in range(waits.ROUNDS + 3):
        await pulling.turn()
    assert recording.executed == first
    step_back(monkeypatch, 0.9)
    await pulling.turn()
    assert recording.executed == first
    step_back(monkeypatch, 1.8)
    for _ in range(waits.ROUNDS + 3):
        await pulling.turn()
    assert recording.executed == first * 2


async def test_rounds_follow_until_nothing_is_left(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-38: more rows than one round takes."""
    monkeypatch.setattr(waits, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(waits, "ROUNDS", 1)
    await recording.execute(
        "insert into chat_leases (chat, held_until) "
        "select n, now() + interval '1 day' from generate_series(11, 15) n"
    )
    pulling = waits.PullBack(BOT, recording)
    for _ in range(3):
        await pulling.turn()
    late = "select count(*) from chat_leases where held_until > now() + interval '1 hour'"
    assert await recording.fetchval(late) == 0


async def test_access_that_ended_early_comes_back(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """W-38, P-14: a clock ahead ended it; the audit finds it, and a tick gives it back."""
    person = uuid4()
    await handle(vpn, confirmed(person))
    await Reconciler(vpn, LiveNode(node, panel)).reconcile()
    await work(vpn, node, panel)
    for state in ("ending", "ended"):
        await vpn.execute("update subscriptions set state = $1", state)
        await vpn.execute("update access_jobs set present = false")
        panel.held.clear()
        found = await broken(vpn)
        assert found["no ended subscription has its end ahead"] == (str(person),)
        await ticks.revive(vpn, lambda: None)
        await work(vpn, node, panel)
        assert (await subscription_of(vpn, person))["state"] == "live"
        assert list(panel.held) == [person]
        assert await broken(vpn) == {}


async def test_a_job_agreed_ahead_is_compared(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """W-38: a node that lost a person is put right, though the agreement lies in the future."""
    person = uuid4()
    await handle(vpn, confirmed(person))
    reconciler = Reconciler(vpn, LiveNode(node, panel))
    await reconciler.reconcile()
    await work(vpn, node, panel)
    await vpn.execute("update access_jobs set agreed_at = now() + interval '1 hour'")
    del panel.held[person]
    await reconciler.compare()
    assert (await job_of(vpn, person, node))["state"] == "waiting"
