"""Old rows are dropped; young rows, and old rows that still matter, stay.

R-87: acts of operators are the audit log and stay for ever.
"""

import asyncpg
import pytest

from bot_gateway.store import checkout_holds, intake, people, token_buckets
from notifier.store import deliveries
from payments.store import debts, notices, rewards, saved_methods
from referrals.store import invitations
from shared.contracts.owners import OWNERS
from shared.messaging import conflicts, idempotency, inbox
from shared.operations import anti_entropy
from tests.kit.servers import FreshDatabase, MakeDatabase
from vpn_provisioner.store import jobs

# By statement: the schema, the rows (each with a label), and the labels that are left.
CASES = {
    "commands": (
        "payments",
        idempotency.DROP_OLD,
        """
insert into commands (id, topic, actor, digest, request, outcome, executed_at, role)
select gen_random_uuid(), label, 'a', 0, '{}', 'done', now() - days * interval '1 day', role
from (values ('old', 91, null), ('young', 89, null), ('act', 91, 'owner')) r (label, days, role)
""",
        "select topic from commands",
        {"young", "act"},
    ),
    "saved methods": (
        "payments",
        saved_methods.DROP_UNUSED,
        """
insert into saved_methods (id, name, person, acquirer, method, way, title, used_at)
select gen_random_uuid(), 's000000', gen_random_uuid(), 'yookassa', label, 'card', '',
  now() - days * interval '1 day'
from (values ('old', 1097), ('young', 1094)) r (label, days)
""",
        "select method from saved_methods",
        {"young"},
    ),
    "dead letters": (
        "payments",
        inbox.DROP_REPLAYED,
        """
insert into dead_letters (handler, event_id, subject, headers, body, reason, replayed_at)
select 'h', gen_random_uuid(), label, '{}', '', '', now() - days * interval '1 day'
from (values ('old', 91), ('young', 89), ('not replayed', null)) r (label, days)
""",
        "select subject from dead_letters",
        {"young", "not replayed"},
    ),
    "conflicts": (
        "payments",
        conflicts.DROP_OLD,
        """
insert into conflicts (where_seen, event_id, digest_known, digest_received, seen_at)
select label, gen_random_uuid(), 0, 1, now() - days * interval '1 day'
from (values ('old', 367), ('young', 364)) r (label, days)
""",
        "select where_seen from conflicts",
        {"young"},
    ),
    "unknown events": (
        "payments",
        anti_entropy.DROP_UNKNOWN_EVENTS,
        """
insert into unknown_events (handler, event_id, hour, noted_at)
select label, gen_random_uuid(), now(), now() - days * interval '1 day'
from (values ('old', 367), ('young', 364)) r (label, days)
""",
        "select handler from unknown_events",
        {"young"},
    ),
    "differences": (
        "payments",
        anti_entropy.DROP_DIFFERENCES,
        """
insert into differences (handler, hour, missing, tries)
select label, now() - days * interval '1 day', 1, 1
from (values ('old', 91), ('young', 89)) r (label, days)
""",
        "select handler from differences",
        {"young"},
    ),
    "ended updates": (
        "bot",
        intake.DROP_ENDED_UPDATES,
        """
insert into updates (bot, update_id, lane, chat, body, state, reason, received_at, ended_at)
select 1, row_number() over (), 'chat', 1, '{}', state, label, now() - interval '9 days',
  case when state <> 'waiting' then now() - days * interval '1 day' end
from (
  values ('old', 'done', 4), ('dropped', 'dropped', 4), ('young', 'done', 2),
    ('failed', 'failed', 9), ('waits', 'waiting', 9)
) r (label, state, days)
""",
        "select reason from updates",
        {"young", "failed", "waits"},
    ),
    "failed updates": (
        "bot",
        intake.DROP_FAILED_UPDATES,
        """
insert into updates (bot, update_id, lane, chat, body, state, reason, received_at, ended_at)
select 1, row_number() over (), lane, 1, '{}', 'failed', label, now() - days * interval '1 day',
  now()
from (
  values ('old', 'chat', 31), ('checkout', 'checkout', 31), ('young', 'chat', 29),
    ('money', 'money', 999)
) r (label, lane, days)
""",
        "select reason from updates",
        {"young", "money"},
    ),
    "refusals": (
        "bot",
        people.DROP_OLD_REFUSALS,
        """
insert into refusals (what, reason, at)
select label, 'r', now() - days * interval '1 day'
from (values ('old', 91), ('young', 89)) r (label, days)
""",
        "select what from refusals",
        {"young"},
    ),
    "checkout holds": (
        "bot",
        checkout_holds.DROP_OLD_HOLDS,
        """
insert into checkout_holds (payload, query_id, approved_at)
select label, 'q', now() - hours * interval '1 hour'
from (values ('old', 25), ('young', 23)) r (label, hours)
""",
        "select payload from checkout_holds",
        {"young"},
    ),
    "buckets": (
        "bot",
        token_buckets.DROP_FULL_BUCKETS,
        """
insert into buckets (name, tokens, filled_at, paused_until)
select label, 0, now() - minutes * interval '1 minute', now() + paused * interval '1 minute'
from (values ('old', 61, null), ('young', 59, null), ('paused', 61, 1)) r (label, minutes, paused)
""",
        "select name from buckets",
        {"young", "paused"},
    ),
    "hours of rewards": (
        "payments",
        rewards.DROP_OLD_HOURS,
        """
insert into reward_hours (person, hour, amount_minor)
select gen_random_uuid(), now() - days * interval '1 day', days
from (values (61), (21)) r (days)
""",
        "select amount_minor::text from reward_hours",
        {"21"},
    ),
    "debts": (
        "payments",
        debts.DROP_OLD,
        """
with refunded as (
  insert into refunds (id, receipt, acquirer, charge, reference, currency, amount_minor,
    refunded_at)
  select gen_random_uuid(), gen_random_uuid(), 'a', label, 'r', 'RUB', 1,
    now() - days * interval '1 day'
  from (values ('old', 91), ('young', 89)) r (label, days)
  returning id, refunded_at
)
insert into debts (refund, person, opened_at)
select id, gen_random_uuid(), refunded_at from refunded
""",
        "select f.charge from debts d join refunds f on f.id = d.refund",
        {"young"},
    ),
    "notices": (
        "payments",
        notices.DROP_OLD,
        """
insert into notices (acquirer, reference, kind, known, body, state, received_at)
select 'yookassa', label, 'payment', true, '', state, now() - days * interval '1 day'
from (
  values ('old', 'done', 31), ('young', 'done', 29), ('waits', 'waiting', 99),
    ('is read', 'asking', 99), ('refused', 'refused', 31)
) r (label, state, days)
""",
        "select reference from notices",
        {"young", "waits", "is read"},
    ),
    "refused invitations": (
        "referrals",
        invitations.DROP_OLD_REFUSALS,
        """
insert into refusals (event, person, reason, refused_at)
select gen_random_uuid(), gen_random_uuid(), reason, now() - days * interval '1 day'
from (values ('loop', 91), ('oneself', 89)) r (reason, days)
""",
        "select reason from refusals",
        {"oneself"},
    ),
    "jobs": (
        "vpn",
        jobs.DROP_GONE_JOBS,
        """
insert into nodes (id, name, kind, node_group, address, inbound, link_template, capacity)
values (gen_random_uuid(), 'one', 'xray', 'default', 'a', 'b', 'c', 1);
insert into access_jobs (person, node, key, until, present, state, agreed_at, error)
select gen_random_uuid(), id, gen_random_uuid(), now(), present, r.state,
  now() - days * interval '1 day', label
from nodes
cross join (
  values ('old', false, 'agreed', 91), ('young', false, 'agreed', 89),
    ('present', true, 'agreed', 999), ('waits', false, 'waiting', 999), ('dead', false, 'dead', 999)
) r (label, present, state, days)
""",
        "select error from access_jobs",
        {"young", "present", "waits", "dead"},
    ),
    "messages": (
        "notifier",
        deliveries.DROP_OLD_DELIVERIES,
        """
insert into recipients (person) values ('00000000-0000-0000-0000-000000000001');
insert into deliveries (
  id, person, cause, kind, priority, details, state, not_before, written_at, settled_at
)
select gen_random_uuid(), '00000000-0000-0000-0000-000000000001', label, 'k', 1, '{}', state,
  now(), now() - days * interval '1 day', case when state <> 'waiting' then now() end
from (
  values ('old', 'failed', 367), ('young', 'failed', 364), ('waits', 'waiting', 999)
) r (label, state, days)
""",
        "select cause from deliveries",
        {"young", "waits"},
    ),
}


@pytest.fixture(scope="module")
async def schemas(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*OWNERS)


@pytest.mark.parametrize("case", CASES)
async def test_only_old_rows_are_dropped(schemas: FreshDatabase, case: str) -> None:
    """W-51: as the role of the service, and at most as many as asked for."""
    schema, statement, rows, left, labels = CASES[case]
    connection = await asyncpg.connect(schemas.dsn("postgres"))
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"set local search_path = {schema}, public")
        await connection.execute(rows)
        await connection.execute(f"set local role {schema}_app")
        assert await connection.execute(statement, 0) == "DELETE 0"
        await connection.execute(statement, 100)
        assert {row[0] for row in await connection.fetch(left)} == labels
        await transaction.rollback()
    finally:
        await connection.close()
