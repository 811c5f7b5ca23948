"""The catalogue of bot-gateway: both languages are complete, and the code uses all of it."""

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from fluent.syntax import FluentParser
from fluent.syntax.ast import Junk, Message, VariableReference
from fluent.syntax.visitor import Visitor

import bot_gateway
from bot_gateway.chats import COMMANDS
from bot_gateway.chats.pay import OTHER_WAY


class _Arguments(Visitor):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_VariableReference(self, node: VariableReference) -> None:  # noqa: N802 - its name.
        self.names.add(node.id.name)


def catalogue(language: str) -> dict[str, set[str]]:
    """Every message with the names of its arguments."""
    source = (
        resources.files("bot_gateway")
        .joinpath("texts", f"{language}.ftl")
        .read_text(encoding="utf-8")
    )
    messages = {}
    for entry in FluentParser().parse(source).body:
        assert not isinstance(entry, Junk), entry.content
        if isinstance(entry, Message):
            arguments = _Arguments()
            arguments.visit(entry)
            messages[entry.id.name] = arguments.names
    return messages


def test_both_languages_have_the_same_messages() -> None:
    """N-07, N-11: with the same arguments, so no text falls back to a language or a key."""
    assert catalogue("ru") == catalogue("en")


def used_keys() -> Iterator[str]:
    """Keys in the code: the literals in `say("…")`, `visit.say("…")`, `texts(language, "…")`."""
    for path in Path(bot_gateway.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
                "say",
                "texts",
            ):
                yield from (
                    argument.value
                    for argument in node.args[:2]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                )


def test_the_code_uses_exactly_the_catalogues_messages() -> None:
    parts = {"plan", "devices", "period", "moment", "converted", "days", "hours"}
    parts |= {"zone", "zone-hours", *OTHER_WAY.values()}
    assert set(used_keys()) | parts | {f"command-{name}" for name in COMMANDS} == set(
        catalogue("en")
    )
