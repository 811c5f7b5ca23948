"""The catalogue and its samples: what was once told must stay readable, and mean the same."""

import json
import re
from pathlib import Path

import pytest

from shared import catalogue
from shared.contract import derived_id
from shared.facts import FACTS
from shared.migrate import migrations_of
from shared.owners import OWNERS

DOCS = Path(__file__).parents[2] / "docs"
SAMPLES = sorted((DOCS / "samples").glob("*.json"))


def test_the_committed_catalogue_is_the_codes() -> None:
    assert (DOCS / "asyncapi.json").read_text() == catalogue.text(), "run: make catalogue"


def test_every_fact_has_a_sample() -> None:
    assert {path.name.rsplit(".", 2)[0] for path in SAMPLES} == {f"{fact.topic}.v{fact.version}" for fact in FACTS}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_reads_back_with_its_digest_and_its_id(path: Path) -> None:
    """A replay of last month must meet the inbox rows of last month: same id, same digest."""
    sample = json.loads(path.read_text())
    topic = path.name.rsplit(".", 3)[0]
    fact_type = next(fact for fact in FACTS if fact.topic == topic)
    fact = fact_type.model_validate(sample["body"])
    assert fact.digest() == sample["digest"]
    assert fact.id == derived_id(fact.cause, fact.topic, fact.about)
    assert json.loads(fact.model_dump_json()) == sample["body"]


def test_facts_questions_and_commands_share_no_first_token() -> None:
    """A stream that caught questions would answer them with its receipt."""
    firsts = {channel["address"].split(".")[0] for channel in catalogue.document()["channels"].values()}
    assert firsts == {"evt", "ask", "do"}


def test_no_secret_travels_in_a_fact() -> None:
    """S-07: no field of a fact is a key, a link, a name or a text."""
    forbidden = (
        "key",
        "link",
        "token",
        "secret",
        "name",
        "username",
        "text",
        "telegram_id",
        "chat_id",
        "phone",
        "email",
    )
    fields = {f"{fact.__name__}.{field}" for fact in FACTS for field in fact.model_fields}
    assert not [field for field in fields if field.split(".")[1] in forbidden]


ID = re.compile(r"\b[MRPWNDS]-\d{2}\b")


def test_the_page_of_failures_names_exactly_the_tests_that_prove_them() -> None:
    """A row that no test names is a promise without proof; an id without a row is a riddle."""
    told = {}
    for row in (DOCS / "failures.md").read_text().splitlines():
        if found := re.match(r"\| ([A-Z]-\d{2}) \|.*\| (.+) \|$", row):
            told[found.group(1)] = set(re.findall(r"`([\w/.]+)`", found.group(2)))
    tests = DOCS.parent / "tests"
    proved: dict[str, set[str]] = {}
    for path in tests.rglob("*.py"):
        for failure in ID.findall(path.read_text()):
            proved.setdefault(failure, set()).add(str(path.relative_to(tests)))
    assert told == proved


def test_a_migration_that_was_committed_is_never_changed() -> None:
    """D-07: a schema that has it would refuse to start. New ones are added to docs/migrations.json, old ones stay."""
    committed = json.loads((DOCS / "migrations.json").read_text())
    there = {migration.name: migration.checksum for package in OWNERS.values() for migration in migrations_of(package)}
    assert there == committed
