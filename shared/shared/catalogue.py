"""The catalogue as an AsyncAPI 3 document: `python -m shared.catalogue > docs/asyncapi.json`."""

import json
import sys
from typing import Any

from pydantic import BaseModel

from shared.commands import COMMANDS
from shared.contract import Command, Fact, Question
from shared.facts import FACTS
from shared.inspection import INSPECTIONS
from shared.owners import OWNERS
from shared.questions import QUESTIONS
from shared.streams import LISTENING, stream_of


def document() -> dict[str, Any]:
    """Every subject, who sends to it, who listens, and the schema of what travels."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for fact in FACTS:
        channels[fact.topic] = _channel(fact, schemas)
        operations[f"tell {fact.topic}"] = _operation("send", fact.topic, f"{owner_of(fact)} tells; {stream(fact)}")
    for listening in LISTENING:
        operations[listening.handler] = _operation(
            "receive", listening.fact.topic, f"{listening.service} listens since {listening.since}"
        )
    everything: list[type[Question[Any]] | type[Command[Any]]] = [*QUESTIONS, *INSPECTIONS, *COMMANDS]
    for asked in everything:
        channels[asked.subject()] = _channel(asked, schemas)
        _add_schema(asked.answer, schemas)
        operation = _operation("receive", asked.subject(), f"{owner_of(asked)} answers {asked.answer.__name__}")
        operations[asked.subject()] = operation
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Turnpike",
            "version": "1",
            "description": "What travels between the services over NATS: facts (evt), questions (ask), commands (do).",
        },
        "channels": channels,
        "operations": operations,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def owner_of(message: type[Fact] | type[Question[Any]] | type[Command[Any]]) -> str:
    owner = message.topic.split(".")[0]
    assert owner in OWNERS, f"{message.__name__} has no owner"
    return owner


def stream(fact: type[Fact]) -> str:
    return f"stream {stream_of(owner_of(fact))}"


def _channel(message: type[Fact] | type[Question[Any]] | type[Command[Any]], schemas: dict[str, Any]) -> dict[str, Any]:
    name = _add_schema(message, schemas)
    payload = {"$ref": f"#/components/schemas/{name}"}
    description = " ".join((message.__doc__ or "").split())
    return {
        "address": message.subject(),
        "description": description,
        "messages": {name: {"name": name, "contentType": "application/json", "payload": payload}},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _add_schema(model: type[BaseModel], schemas: dict[str, Any]) -> str:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return model.__name__


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
