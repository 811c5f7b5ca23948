"""The catalogue and its samples: what was once told must stay readable, and mean the same."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared import catalogue
from shared.commands import COMMANDS
from shared.contract import Command, Question, derived_id
from shared.facts import FACTS
from shared.inspection import INSPECTIONS
from shared.migrate import migrations_of
from shared.owners import OWNERS
from shared.questions import QUESTIONS as QUESTIONS_ASKED
from shared.streams import LISTENING

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


PASSPORTS = {owner: DOCS.parent / "services" / package.replace("_", "-") for owner, package in OWNERS.items()}
PASSPORT_ROW = re.compile(r"^\| \*\*(\w+)\*\* \| (.*) \|$", re.MULTILINE)


@pytest.mark.parametrize("owner", OWNERS)
def test_a_passport_names_each_thing_once_that_its_service_hears_tells_answers_and_obeys(owner: str) -> None:
    rows = PASSPORT_ROW.findall((PASSPORTS[owner] / "README.md").read_text())
    assert len(dict(rows)) == len(rows), "a row stands twice"
    named = {name: set(spelled_out(re.findall(r"`([\w.]+)`", text))) for name, text in rows}
    asked = [*QUESTIONS_ASKED, *INSPECTIONS]
    assert named["Answers"] == {f"ask.{one.topic}" for one in asked if one.topic.startswith(f"{owner}.")}
    assert named["Obeys"] == {f"do.{one.topic}" for one in COMMANDS if one.topic.startswith(f"{owner}.")}
    assert named["Tells"] == {fact.topic for fact in FACTS if fact.topic.startswith(f"{owner}.")}
    heard = [listening for listening in LISTENING if listening.service == owner]
    assert {name for name in named["Hears"] if name.startswith(f"{owner}_")} == {one.handler for one in heard}
    assert {one.fact.topic for one in heard} <= named["Hears"]


def spelled_out(names: list[str]) -> list[str]:
    """`.checkout` after `ask.payments.plans` is `ask.payments.checkout`."""
    return [names[0].rpartition(".")[0] + name if name.startswith(".") else name for name in names]


QUESTIONS = {path.name.removesuffix(".json"): path for path in (DOCS / "samples" / "questions").glob("*.json")}


def test_every_question_of_operators_has_a_sample() -> None:
    """Of one that every owner answers there is the sample of payments."""
    wanted = {f"{asked.topic}.v{asked.version}" for asked in INSPECTIONS}
    everybodys = {name for name in wanted if all(f"{owner}.{name.partition('.')[2]}" in wanted for owner in OWNERS)}
    assert set(QUESTIONS) == wanted - {name for name in everybodys if not name.startswith("payments.")}


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_a_question_and_its_answer_read_back_as_they_were(name: str) -> None:
    """An operator's command may be a release older or younger than the service: what was once said stays readable."""
    sample = json.loads(QUESTIONS[name].read_text())
    asked = next(asked for asked in INSPECTIONS if f"{asked.topic}.v{asked.version}" == name)
    for said, kind in ((sample["question"], asked), (sample["answer"], asked.answer)):
        assert keeps(kind.model_validate(said).model_dump(mode="json"), said)


def keeps(read: Any, said: Any) -> bool:
    """Whether all that was said was read; a younger reader may know more fields."""
    if isinstance(said, dict):
        return all(field in read and keeps(read[field], part) for field, part in said.items())
    if isinstance(said, list):
        return len(read) == len(said) and all(keeps(*pair) for pair in zip(read, said, strict=True))
    return bool(read == said)


def test_no_answer_to_operators_tells_who_somebody_is() -> None:
    """S-07: no field of an answer is a name, a key to the VPN, a link or a text of a person."""
    forbidden = {"name", "first_name", "username", "link", "token", "secret", "text", "telegram_id", "chat_id", "phone"}
    for asked in INSPECTIONS:
        schema = asked.answer.model_json_schema()
        parts = [schema, *schema.get("$defs", {}).values()]
        assert not {field for part in parts for field in part.get("properties", {})} & forbidden, asked.topic


def test_each_question_and_command_is_answered_by_its_owner_and_each_handler_heard_by_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nobody answers looks to a person like a service that is away, and only costs him a second."""
    answered: dict[str, set[str]] = {}
    for owner, package in OWNERS.items():
        monkeypatch.setenv(f"TURNPIKE_{owner.upper()}_DSN", f"postgresql://{owner}_app:secret@localhost/turnpike")
        monkeypatch.setenv("TURNPIKE_NATS_URL", "nats://localhost:4222")
        monkeypatch.setenv("TURNPIKE_BOT_TOKEN", "42:" + "a" * 35)
        service = importlib.import_module(f"{package}.app").build()
        answered[owner] = {subscriber.subject.template for subscriber in service.bus.broker.subscribers}
        assert set(service.handlers) == {entry.handler for entry in LISTENING if entry.service == owner}
    everything: list[type[Question[Any]] | type[Command[Any]]] = [*QUESTIONS_ASKED, *INSPECTIONS, *COMMANDS]
    wanted: dict[str, set[str]] = {owner: set() for owner in OWNERS}
    for asked in everything:
        wanted[asked.topic.split(".")[0]].add(asked.subject())
    assert answered == wanted


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
    told: dict[str, set[str]] = {}
    for row in (DOCS / "failures.md").read_text().splitlines():
        if found := re.match(r"\| ([A-Z]-\d{2}) \|.*\| (.+) \|$", row):
            assert found.group(1) not in told, f"{found.group(1)} stands there twice"
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
