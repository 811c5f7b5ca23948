"""The language: the field's words, plain names of tests, and lines and files that fit."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.kit.tree import texts

# Words that the project used before it took the field's, by the word to use (decision 0034).
FORMER = {
    "event": r"\bfacts?\b",
    "published": r"\b(un|re)?told(_as|_at|_ids?)?\b(?= (again|by|to (the )?(broker|stream))|_)",
    "republished": r"\btells? again\b|\btold again\b|\bretold\b|\buntold\b",
    "subscribes": r"\.hears\(|\bhears (of|its|from the start)\b",
    "executes": r"\bobeys?\b",
    "handles": r"\babsorb(ed|s)?\b",
    "message": r"(?<!dead )(?<!dead-)\bletters?\b(?! (of the alphabet|than)|-spacing)",
    "dead-lettered": r"\bburi(ed|als?|es)\b|\bbury\b",
    "failed attempt": r"\bstumbles?\b|\bstood_up\b|\bstands up\b",
    "conflict": r"\bcontradictions?\b",
    "hourly checksum": r"\btall(y|ies)\b",
    "unknown": r"\bstrangers?\b",
    "store, client, README": r"\bcellars?\b|\bfuse box\b|\bpassports?\b|\bstreet\b|\bhouses?\b",
    "dispatcher": r"\bcouriers?\b",
    "pause": r"\bhush(ed|es)?\b",
    "approval": r"\byeses\b",
    "report, redacted": r"\b_speak\b|\bsaid\(",
    "failpoint": r"\bcrash\.passing\b",
    "batching window": r"\bin company\b|\btravels? (with|together)\b",
    "announce": r"\bconclude\b",
    "trace, thread, scenario": r"\bstor(y|ies)\b",
    "qry, cmd": r"[\"'`](ask|do)\.(bot|payments|referrals|vpn|notifier)\.",
}
FORMER_WORDS = {right: re.compile(wrong, re.IGNORECASE) for right, wrong in FORMER.items()}

# Files in which these words mean something else, or are the subject.
ALLOWED = {
    "docs/decisions/0034-names.md": "the map of the names",
    "tests/unit/test_language.py": "this list",
}

WHO_CLAUSE = re.compile(
    r"(?:^|[.;:,] |\n)(?:of )?(who|whoever|what|whatever|whom)\b(?! if\b)[^?\n]{3,60}",
    re.IGNORECASE,
)
COMMENT = re.compile(r"^(?:\s*|.*  )# (.+)$", re.MULTILINE)
MAX_CLAUSES_PER_1000_WORDS = 2.0
MAX_COLUMNS = 100
MAX_TEST_LINES = 400
MAX_NAME_WORDS = 8

# Generated, not ours, rows of a table that cannot be broken, and texts for people: in a Fluent
# catalogue a line break is part of the text.
ANY_WIDTH = re.compile(r"_pb2\.pyi?$|^LICENSE$|^docs/failures\.md$|\.(json|svg|lock|ftl)$")


def test_the_field_s_words_are_used() -> None:
    found = [
        f"{name}:{number}: {wrong.group(0)!r}, say: {right}"
        for name, text in texts().items()
        if name not in ALLOWED
        for right, pattern in FORMER_WORDS.items()
        if pattern.search(text)
        for number, line in enumerate(text.split("\n"), start=1)
        if (wrong := pattern.search(line))
    ]
    assert not found, f"{len(found)} former words:\n" + "\n".join(found[:50])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("the facts that it told again", True),
        ("a letter is buried", True),
        ("a dead letter of this handler", False),
        ("events are republished", False),
    ],
)
def test_former_words_are_found(line: str, *, found: bool) -> None:
    assert any(pattern.search(line) for pattern in FORMER_WORDS.values()) is found


def test_every_allowed_file_exists() -> None:
    assert set(ALLOWED) <= texts().keys()


def prose(name: str, text: str) -> Iterator[str]:
    """Documents, docstrings and comments."""
    if name.endswith(".md"):
        yield text
    if name.endswith(".py"):
        for node in ast.walk(ast.parse(text)):
            has_docstring = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            if isinstance(node, has_docstring) and (docstring := ast.get_docstring(node)):
                yield docstring
        yield from COMMENT.findall(text)


def test_sentences_begin_with_their_subject() -> None:
    """A clause with `who` or `what` as its subject makes a reader read twice; few may stay."""
    words = clauses = 0
    for name, text in texts().items():
        for piece in prose(name, text):
            words += len(piece.split())
            clauses += len(WHO_CLAUSE.findall(piece))
    assert 1000 * clauses / words < MAX_CLAUSES_PER_1000_WORDS


def test_lines_have_at_most_100_columns() -> None:
    wide = [
        f"{name}:{number}: {len(line)}"
        for name, text in texts().items()
        if not ANY_WIDTH.search(name)
        for number, line in enumerate(text.split("\n"), start=1)
        if len(line) > MAX_COLUMNS and "://" not in line
    ]
    assert not wide, f"{len(wide)} wide lines:\n" + "\n".join(wide[:50])


def test_names_of_tests_have_eight_words() -> None:
    names = [
        f"{file}: {name}"
        for file, text in texts().items()
        if file.startswith("tests/") and file.endswith(".py")
        for name in re.findall(r"^ *(?:async )?def test_(\w+)", text, re.MULTILINE)
        if len(name.split("_")) > MAX_NAME_WORDS
    ]
    assert not names, f"{len(names)} long names:\n" + "\n".join(names[:50])


def test_files_of_tests_have_400_lines() -> None:
    long = [
        f"{name}: {text.count(chr(10))}"
        for name, text in texts().items()
        if name.startswith("tests/") and name.endswith(".py") and text.count("\n") > MAX_TEST_LINES
    ]
    assert not long, long
