"""The documents: decisions have their sections, paths and links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.kit.tree import ROOT, written

DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
SECTIONS = ["Context", "Choice", "Consequences", "Refused", "Checked by"]
MAX_WORDS = 250
MAX_ARCHITECTURE_WORDS = 1_500
MAX_GLOSSARY_WORDS = 40
THE_MAP = "0034-names.md"


def documents() -> list[Path]:
    return [path for path in written() if path.suffix == ".md"]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_sections(path: Path) -> None:
    text = path.read_text()
    assert re.match(rf"# {path.name[:4]}\. \S", text), "the title begins with the number"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    if path.name != THE_MAP:
        assert len(text.split()) <= MAX_WORDS


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_what_checks_a_decision_exists(path: Path) -> None:
    checked = path.read_text().partition("## Checked by")[2]
    named = re.findall(r"`([\w./-]+/[\w.-]+)`", checked)
    assert named, "no path is named"
    for one in named:
        assert (ROOT / one).exists(), one


def test_the_index_names_every_decision() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    assert sorted(set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index))) == [
        path.name for path in DECISIONS
    ]


def test_each_rule_of_money_has_its_test() -> None:
    """A rule without a test is a promise that nobody holds."""
    text = (ROOT / "docs/money.md").read_text()
    rules = text.split("\n- **")[1:]
    assert len(rules) > 10
    for rule in rules:
        path, name = re.findall(r"`([\w/]+\.py)::(\w+)`", rule)[0]
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(), rule


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_paths_in_documents_exist() -> None:
    """A path in backquotes that begins with a folder of ours is a file or a folder."""
    ours = r"`((?:services|shared|deploy|tests|docs)/[\w./-]+)`"
    lost = [
        f"{path.relative_to(ROOT)}: {named}"
        for path in documents()
        if path.name != THE_MAP
        for named in re.findall(ours, path.read_text())
        if not (ROOT / named).exists()
    ]
    assert not lost, "\n".join(lost)


def test_the_architecture_is_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().split()) <= MAX_ARCHITECTURE_WORDS


def test_the_glossary_is_short() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    assert (
        10
        <= len(re.findall(r"^- \*\*|^\| \*?\*?\w", text, re.MULTILINE))
        <= (MAX_GLOSSARY_WORDS + 2)
    )


@pytest.mark.parametrize("name", ["README.md", "README.ru.md"])
def test_the_readme_names_the_two_commands(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "make up" in text
    assert "make demo" in text
    assert "docs/purchase.gif" in text


@pytest.mark.parametrize(
    "readme", sorted((ROOT / "services").glob("*/README.md")), ids=lambda path: path.parent.name
)
def test_a_readme_names_the_modules_of_its_domain(readme: Path) -> None:
    listed = re.search(r"^Decides in: (.+?)\n\n", readme.read_text(), re.MULTILINE | re.DOTALL)
    assert listed, "a README says: Decides in: `domain/a.py`, …"
    package = readme.parent / readme.parent.name.replace("-", "_")
    there = {f"domain/{path.name}" for path in (package / "domain").glob("*.py")}
    assert set(re.findall(r"`([\w/]+\.py)`", listed.group(1))) == there - {"domain/__init__.py"}
