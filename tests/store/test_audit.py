"""The audit of any owner: a failing or slow check hides no other, and only examples are fetched."""

from collections.abc import AsyncIterator

import pytest

from shared.operations import audit as auditing
from shared.operations.audit import Check, Walk, audited, merged
from shared.platform.db import Database
from tests.kit.servers import FreshDatabase

COUNTS = "select 0 as nothing"

SOUND = Check("I1", "nothing is wrong", "select 'none' as example where false")
SLOW = Check("I3", "slow", "select 'slow' as example from pg_sleep(60)")
FAILING = Check("I4", "failing", "select (1 / 0)::text as example")
MANY = Check("I5", "many", "select n::text as example from generate_series(1, 2000000) as n")


@pytest.fixture
async def impatient(place: FreshDatabase) -> AsyncIterator[Database]:
    database = Database(place.dsn("payments_app") + "?statement_timeout=3s", name="test")
    await database.open()
    yield database
    await database.close()


async def test_a_failing_check_hides_no_other(impatient: Database) -> None:
    """W-50: a check over its time-out is a finding, and all others are still checked."""
    audit = await audited(impatient, (FAILING, SLOW, SOUND), COUNTS)
    found = {one.truth: one for one in audit.findings}
    assert (found["slow"].violations, found["slow"].checked) == (1, False)
    assert found["slow"].examples[0].startswith("not checked: ")
    assert not found["failing"].checked
    assert (found["nothing is wrong"].violations, found["nothing is wrong"].checked) == (0, True)
    assert found["there is no dead letter"].checked


async def test_violations_are_counted_by_postgresql(store: Database) -> None:
    """W-50: five examples are fetched, for any number of violations."""
    audit = await audited(store, (MANY,), COUNTS)
    many = next(one for one in audit.findings if one.truth == "many")
    assert len(many.examples) == 5
    assert many.violations == 10_000, "counted up to a bound"


NUMBERS = """
select n
from (select n from generate_series(1, 1000) as n where n > $1 order by n limit $2) as page
order by n desc
limit 1
"""
ODD = "select n::text as example from generate_series($1 + 1, $2::bigint) as n where n % 2 = 1"
WALKED = Check("I7", "all numbers are even", ODD, Walk(NUMBERS, (0,), rows=7))


async def test_parts_add_up_to_the_whole(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-50: a part ends in the middle of a check, and the next one goes on there.

    Its time is over before it begins, as where a page takes longer than a part: each has one page.
    """
    monkeypatch.setattr(auditing, "PART_S", 0.0)
    whole = await audited(store, (WALKED, SOUND), COUNTS)
    part, parts = await audited(store, (WALKED, SOUND), COUNTS, after=""), 1
    findings = part.findings
    while part.after is not None:
        part, parts = await audited(store, (WALKED, SOUND), COUNTS, after=part.after), parts + 1
        findings = merged((*findings, *part.findings))
    assert parts > 2
    assert findings == whole.findings
    assert next(one for one in findings if one.truth == WALKED.truth).violations == 500
    assert part.counts == {"nothing": 0}
