"""The catalogue and its samples: old messages stay readable and keep their meaning."""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from shared.contracts import catalogue
from shared.contracts.catalogue import COMMANDS, EVENTS, OPERATOR_QUERIES
from shared.contracts.catalogue import QUERIES as ALL_QUERIES
from shared.contracts.message import Command, Query, derived_id
from shared.contracts.owners import OWNERS
from shared.contracts.streams import SUBSCRIPTIONS
from shared.platform.migrate import migrations_of

DOCS = Path(__file__).parents[2] / "docs"
SAMPLES = sorted((DOCS / "samples").glob("*.json"))


def test_the_committed_catalogue_is_current() -> None:
    assert (DOCS / "asyncapi.json").read_text() == catalogue.text(), "run: make catalogue"


def test_every_event_has_a_sample() -> None:
    assert {path.name.rsplit(".", 2)[0] for path in SAMPLES} == {
        f"{event.topic}.v{event.version}" for event in EVENTS
    }


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_keep_their_id_and_digest(path: Path) -> None:
    """A replay of last month must meet the inbox rows of last month: same id, same digest."""
    sample = json.loads(path.read_text())
    topic = path.name.rsplit(".", 3)[0]
    event_type = next(event for event in EVENTS if event.topic == topic)
    event = event_type.model_validate(sample["body"])
    assert event.digest() == sample["digest"]
    assert event.id == derived_id(event.cause, event.topic, event.about)
    assert json.loads(event.model_dump_json()) == sample["body"]


READMES = {
    owner: DOCS.parent / "services" / package.replace("_", "-") / "README.md"
    for owner, package in OWNERS.items()
}
README_ITEM = re.compile(r"^- \*\*(\w+)\*\*: (.*?)(?=\n- |\n\n)", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("owner", OWNERS)
def test_a_service_readme_names_its_messages(owner: str) -> None:
    """Exactly the events, queries and commands that the service publishes, answers and so on."""
    rows = README_ITEM.findall(READMES[owner].read_text())
    assert len(dict(rows)) == len(rows), "an item is there twice"
    named = {name: set(spelled_out(re.findall(r"`([\w.]+)`", text))) for name, text in rows}
    queries = [*ALL_QUERIES, *OPERATOR_QUERIES]
    assert named["Answers"] == {
        f"qry.{one.topic}" for one in queries if one.topic.startswith(f"{owner}.")
    }
    assert named["Executes"] == {
        f"cmd.{one.topic}" for one in COMMANDS if one.topic.startswith(f"{owner}.")
    }
    assert named["Publishes"] == {
        event.topic for event in EVENTS if event.topic.startswith(f"{owner}.")
    }
    subscriptions = [one for one in SUBSCRIPTIONS if one.service == owner]
    assert {name for name in named["Subscribes"] if name.startswith(f"{owner}_")} == {
        one.handler for one in subscriptions
    }
    assert {one.event.topic for one in subscriptions} <= named["Subscribes"]


def spelled_out(names: list[str]) -> list[str]:
    """`.checkout` after `qry.payments.plans` is `qry.payments.checkout`."""
    return [names[0].rpartition(".")[0] + name if name.startswith(".") else name for name in names]


QUERIES = {
    path.name.removesuffix(".json"): path for path in (DOCS / "samples" / "queries").glob("*.json")
}


def test_every_operator_query_has_a_sample() -> None:
    """A query that every owner answers has one sample, that of payments."""
    wanted = {f"{query.topic}.v{query.version}" for query in OPERATOR_QUERIES}
    common = {
        name
        for name in wanted
        if all(f"{owner}.{name.partition('.')[2]}" in wanted for owner in OWNERS)
    }
    assert set(QUERIES) == wanted - {name for name in common if not name.startswith("payments.")}


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_queries_and_answers_stay_readable(name: str) -> None:
    """The command of an operator may be a release older or younger than the service."""
    sample = json.loads(QUERIES[name].read_text())
    query = next(one for one in OPERATOR_QUERIES if f"{one.topic}.v{one.version}" == name)
    for written, kind in ((sample["query"], query), (sample["answer"], query.answer)):
        assert keeps(kind.model_validate(written).model_dump(mode="json"), written)


def keeps(read: Any, written: Any) -> bool:
    """Whether all that was written was read. A younger reader may know more fields."""
    if isinstance(written, dict):
        return all(field in read and keeps(read[field], part) for field, part in written.items())
    if isinstance(written, list):
        pairs = zip(read, written, strict=True)
        return len(read) == len(written) and all(keeps(*pair) for pair in pairs)
    return bool(read == written)


# No field of an answer to operators is a name, a key to the VPN, a link or a text of a person.
FORBIDDEN_IN_ANSWERS = {
    "name",
    "first_name",
    "username",
    "link",
    "token",
    "secret",
    "text",
    "telegram_id",
    "chat_id",
    "phone",
}


def test_answers_to_operators_identify_no_person() -> None:
    """S-07: an operator sees ids, amounts and times."""
    for query in OPERATOR_QUERIES:
        schema = query.answer.model_json_schema()
        parts = [schema, *schema.get("$defs", {}).values()]
        fields = {field for part in parts for field in part.get("properties", {})}
        assert not fields & FORBIDDEN_IN_ANSWERS, query.topic


def test_the_runbook_has_each_handler() -> None:
    """R-44: its heading is the handler's name, so that one search from an alert finds it."""
    runbook = (DOCS / "operating/runbook.md").read_text()
    headings = set(re.findall(r"^### (\w+)$", runbook, re.MULTILINE))
    assert headings >= {subscription.handler for subscription in SUBSCRIPTIONS}


def test_owners_answer_their_queries_and_run_their_handlers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A query that no service answers looks like a service that is down, and costs a second."""
    answered: dict[str, set[str]] = {}
    for owner, package in OWNERS.items():
        monkeypatch.setenv(
            f"TURNPIKE_{owner.upper()}_DSN", f"postgresql://{owner}_app:secret@localhost/turnpike"
        )
        monkeypatch.setenv("TURNPIKE_NATS_URL", "nats://localhost:4222")
        monkeypatch.setenv("TURNPIKE_BOT_TOKEN", "42:" + "a" * 35)
        service = importlib.import_module(f"{package}.app").build()
        answered[owner] = {
            subscriber.subject.template for subscriber in service.bus.broker.subscribers
        }
        assert set(service.handlers) == {
            one.handler for one in SUBSCRIPTIONS if one.service == owner
        }
    requests: list[type[Query[Any]] | type[Command[Any]]] = [
        *ALL_QUERIES,
        *OPERATOR_QUERIES,
        *COMMANDS,
    ]
    wanted: dict[str, set[str]] = {owner: set() for owner in OWNERS}
    for request in requests:
        wanted[request.topic.split(".")[0]].add(request.subject())
    assert answered == wanted


def test_events_queries_and_commands_share_no_first_token() -> None:
    """A stream that caught queries would answer them with its own acknowledgement."""
    firsts = {
        channel["address"].split(".")[0] for channel in catalogue.document()["channels"].values()
    }
    assert firsts == {"evt", "qry", "cmd"}


# Queries and commands of payments stay within payments; all else crosses an index or a wire.
BOUNDED = [
    *EVENTS,
    *(
        one
        for one in (*ALL_QUERIES, *OPERATOR_QUERIES, *COMMANDS)
        if one.__module__ != "shared.contracts.payments"
    ),
]


LIMITS_OF_TEXTS = {"maxLength", "format", "enum", "const"}


@pytest.mark.parametrize("message", BOUNDED, ids=lambda message: message.subject())
def test_texts_and_lists_have_a_maximum(message: type[BaseModel]) -> None:
    """M-08: a text that no index row holds would fail in every handler."""
    assert list(unbounded(message.model_json_schema())) == []


def unbounded(schema: Any, path: str = "") -> Iterator[str]:
    """The fields of a schema that hold a text or a list of any length."""
    if isinstance(schema, list):
        for part in schema:
            yield from unbounded(part, path)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "string" and not schema.keys() & LIMITS_OF_TEXTS:
        yield path
    if schema.get("type") == "array" and "maxItems" not in schema:
        yield path
    for name, part in schema.items():
        yield from unbounded(part, f"{path}/{name}")


FORBIDDEN_IN_EVENTS = {
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
}


def test_no_event_field_is_a_secret() -> None:
    """S-07: no field of an event is a key, a link, a name or a text."""
    fields = {f"{event.__name__}.{field}" for event in EVENTS for field in event.model_fields}
    assert not [field for field in fields if field.split(".")[1] in FORBIDDEN_IN_EVENTS]


ID = re.compile(r"\b[MRPWNDS]-\d{2,3}\b")


def test_the_page_of_failures_names_its_tests() -> None:
    """A failure that no test names is not proved; an id without a failure means nothing."""
    named: dict[str, set[str]] = {}
    for row in (DOCS / "failures.md").read_text().splitlines():
        if found := re.match(r"\| ([A-Z]-\d{2,3}) \|.*\| (.+) \|$", row):
            assert found.group(1) not in named, f"{found.group(1)} is there twice"
            named[found.group(1)] = set(re.findall(r"`([\w/.]+)`", found.group(2)))
    tests = DOCS.parent / "tests"
    proved: dict[str, set[str]] = {}
    for path in tests.rglob("*.py"):
        for failure in ID.findall(path.read_text()):
            proved.setdefault(failure, set()).add(str(path.relative_to(tests)))
    assert named == proved


def test_rows_of_money_have_tests_or_reasons() -> None:
    """A row that is neither proved nor excused is forgotten; both at once is out of date."""
    excuses, _, rows = (DOCS / "failures.md").read_text().partition("## Money")
    excused = set(ID.findall(excuses.partition("are without a test:")[2]))
    proved = set(re.findall(r"^\| ([MR]-\d{2}) \|", rows, re.MULTILINE))
    wanted = {f"M-{n:02}" for n in range(1, 41)} | {f"R-{n:02}" for n in range(1, 29)}
    assert wanted - proved == excused


def test_a_committed_migration_never_changes() -> None:
    """D-07: a database that has it would refuse the changed file, and the service would not start.

    New migrations are added to docs/migrations.json; old ones stay.
    """
    committed = json.loads((DOCS / "migrations.json").read_text())
    present = {
        migration.name: migration.checksum
        for package in OWNERS.values()
        for migration in migrations_of(package)
    }
    assert present == committed
