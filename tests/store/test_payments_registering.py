"""The worker of receipts for the tax office: an offset is made once, and its end is read."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments.domain.fiscal import MOST_READS
from payments.domain.provider import Refusal, SlowDown, Unavailable, Unknown
from payments.store import fiscal
from payments.workers.registering import Registrar
from tests.kit.fake_provider import Fault
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till

OFFSET = """
insert into fiscal_receipts (
  id, acquirer, kind, person, order_id, payment, service_minor, advance_minor, item, subject,
  vat_code, state
)
values ($1, 'yookassa', 'offset', $2, $3, 'p-1', 14900, 0, 'VPN', 'service', 1, 'waiting')
"""
DUE = "update fiscal_receipts set due_at = now()"
ROW = "select state, reason, tries, email, reference, asked_at is not null from fiscal_receipts"
YESTERDAY = "update fiscal_receipts set asked_at = now() - interval '21 hours'"
TRIED = "update fiscal_receipts set tries = $1"


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        await till.database.execute(OFFSET, uuid4(), uuid4(), uuid4())
        yield till


def registrar(till: Till) -> Registrar:
    """A worker of another process each time."""
    return Registrar(till.provider, till.database, "books@example.org")


async def turn(till: Till) -> int:
    await till.database.execute(DUE)
    return await registrar(till).round()


async def row(till: Till) -> tuple[Any, ...]:
    found = await till.database.fetchrow(ROW)
    assert found is not None
    return tuple(found)


def made(till: Till) -> list[tuple[UUID, str]]:
    return [(key, payment) for key, (payment, _) in till.provider.receipts.items()]


async def test_offset_is_made_and_registered(till: Till) -> None:
    """R-111: pending is read again until the tax office has it."""
    assert await turn(till) == 1
    [(key, payment)] = made(till)
    assert payment == "p-1"
    assert await row(till) == ("registering", None, 0, None, f"rt-{key}", True)
    await turn(till)
    assert (await row(till))[:3] == ("registering", None, 1)
    till.provider.registrations[f"rt-{key}"] = "succeeded"
    await turn(till)
    assert (await row(till))[0] == "registered"
    assert await turn(till) == 0


async def test_lost_answer_makes_no_second_offset(till: Till) -> None:
    """R-112: the same key and body. The e-mail stands as it was sent the first time."""
    till.provider.fails("register", Fault(Unknown("lost"), done=True))
    await turn(till)
    assert (await row(till))[:4] == ("waiting", None, 1, "books@example.org")
    await till.database.execute(DUE)
    await Registrar(till.provider, till.database, "new@example.org").round()
    assert len(made(till)) == 1
    assert (await row(till))[0] == "registering"


async def test_unclear_offset_is_not_repeated_late(till: Till) -> None:
    """R-112: YooKassa forgets a key after a day, and would make a second receipt."""
    till.provider.fails("register", Fault(Unknown("lost"), done=True))
    await turn(till)
    await till.database.execute(YESTERDAY)
    await turn(till)
    assert (await row(till))[:2] == ("failed", "unclear")
    assert till.provider.calls.count("register") == 1
    till.expected.add("no receipt for the tax office has failed")


@pytest.mark.parametrize("answer", [SlowDown(0.0), Unavailable("no connection")])
async def test_absent_provider_leaves_nothing_unclear(till: Till, answer: Any) -> None:
    till.provider.fails("register", Fault(answer))
    await turn(till)
    assert (await row(till))[0] == "waiting"
    assert (await row(till))[5] is False
    await turn(till)
    assert (await row(till))[0] == "registering"


async def test_refused_offset_is_found(till: Till) -> None:
    """R-111: with the provider's own word for it."""
    till.provider.fails("register", Fault(Refusal("invalid_request", "no")))
    await turn(till)
    assert (await row(till))[:2] == ("failed", "invalid_request")
    till.expected.add("no receipt for the tax office has failed")


@pytest.mark.parametrize(
    ("told", "tries", "reason"),
    [("canceled", 0, "canceled"), ("pending", MOST_READS, "never_registered")],
)
async def test_unregistered_offset_is_found(till: Till, told: Any, tries: int, reason: str) -> None:
    await turn(till)
    [(key, _)] = made(till)
    till.provider.registrations[f"rt-{key}"] = told
    await till.database.execute(TRIED, tries)
    await turn(till)
    assert (await row(till))[:2] == ("failed", reason)
    till.expected.add("no receipt for the tax office has failed")


async def test_claimed_offset_is_left_alone(till: Till) -> None:
    """Two workers at once: the second gets nothing while the lease holds."""
    await till.database.execute(DUE)
    held = "yookassa", 10, uuid4(), 3_600.0, "books@example.org", till.database
    assert len(await fiscal.claim(*held)) == 1
    assert await registrar(till).round() == 0


async def test_absent_provider_is_asked_once(till: Till) -> None:
    """R-71: the others of the round wait, as they were."""
    await till.database.execute(OFFSET, uuid4(), uuid4(), uuid4())
    till.provider.fails("register", Fault(Unavailable("no connection")))
    assert await turn(till) == 2
    assert till.provider.calls.count("register") == 1
    rows = await till.database.fetch(ROW)
    assert [tuple(one)[:3] for one in rows] == [("waiting", None, 0)] * 2
    await turn(till)
    assert len(made(till)) == 2
