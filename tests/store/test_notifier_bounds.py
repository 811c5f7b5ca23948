"""No statement about a chat reads all of its messages: one person delays nobody else."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from notifier.domain.messages import REOPENED, REOPENED_FOR
from notifier.store import claims, deliveries, recipients
from tests.kit.servers import MakeDatabase

MOST_BLOCKS = 150
"""A scan of this person's messages reads more than a thousand."""

WORKER, PARTNER = uuid4(), uuid4()

ADD_PEOPLE = """
insert into recipients (person, chat_id, language, claim, due_at)
select p, 1, 'en', $2, now() from unnest($1::uuid[]) p
"""
# For each person: 10 000 messages in this state.
ADD_MESSAGES = """
insert into deliveries (
  id, person, cause, kind, priority, details, state, not_before, message_id, settled_at
)
select
  gen_random_uuid(), $1, $2 || n, $3, 1, '{}', $2, now(), case when $2 = 'sent' then n end,
  case when $2 <> 'waiting' then now() end
from generate_series(1, 10000) n
"""
ADD_OTHERS = """
insert into deliveries (id, person, cause, kind, priority, details, not_before)
select gen_random_uuid(), p, 'x', 'reward_earned', 1, '{}', now() from unnest($1::uuid[]) p
"""


@pytest.fixture(scope="module")
async def connection(fresh_database: MakeDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A partner with 40 000 messages among a hundred people who have one each."""
    fresh = await fresh_database("notifier")
    others = [uuid4() for _ in range(100)]
    made = await asyncpg.connect(fresh.dsn("postgres"), server_settings={"search_path": "notifier"})
    await made.execute(ADD_PEOPLE, [PARTNER, *others], WORKER)
    for state, kind in (
        ("waiting", "reward_earned"),
        ("sent", "reward_earned"),
        ("unreachable", "reward_earned"),
        ("unreachable", "friend_registered"),
    ):
        await made.execute(ADD_MESSAGES, PARTNER, state, kind)
    await made.execute(ADD_OTHERS, others)
    await made.execute("analyze")
    yield made
    await made.close()


REOPENED_KINDS = sorted(REOPENED)
STATEMENTS: dict[str, tuple[str, list[Any]]] = {
    "claim": (claims.CLAIM, [[PARTNER]]),
    "pick up": (claims.PICK_UP, [[PARTNER]]),
    "release": (claims.RELEASE, [[PARTNER], [True], [None], [0.0], WORKER, 1.0]),
    "schedule": (recipients.SCHEDULE, [[PARTNER], 1.0]),
    "supersede": (deliveries.SUPERSEDE, [[uuid4()]]),
    "reopen": (deliveries.REOPEN, [[PARTNER], REOPENED_KINDS, REOPENED_FOR, 20]),
    "next due": (claims.NEXT_DUE, []),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_reads_a_whole_chat(connection: asyncpg.Connection, name: str) -> None:
    """W-40: ten thousand waiting messages cost a claim no more than ten do."""
    sql, arguments = STATEMENTS[name]
    await connection.execute("set plan_cache_mode = force_generic_plan")
    transaction = connection.transaction()
    await transaction.start()
    try:
        explained = f"explain (analyze, buffers, timing off, format json) {sql}"
        plan: dict[str, Any] = json.loads(await connection.fetchval(explained, *arguments))[0][
            "Plan"
        ]
    finally:
        await transaction.rollback()
    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    most = MOST_BLOCKS if name != "reopen" else 20 * MOST_BLOCKS // 2
    assert blocks <= most, json.dumps(plan, indent=1)


async def test_a_reopening_is_bounded(connection: asyncpg.Connection) -> None:
    """N-15, W-40: twenty messages of a kind return at once; each one sent brings more."""
    transaction = connection.transaction()
    await transaction.start()
    rows = await connection.fetch(deliveries.REOPEN, [PARTNER], REOPENED_KINDS, REOPENED_FOR, 20)
    await transaction.rollback()
    assert [row["person"] for row in rows] == [PARTNER] * 20
    assert isinstance(rows[0]["person"], UUID)
