"""The files that GitHub reads fit the schemas that check-jsonschema ships."""

from pathlib import Path

import pytest

from tests.manifests.kustomize import ROOT, run, tool

SCHEMAS = {
    "vendor.github-workflows": ["workflows/ci.yml"],
    "custom.github-workflows-require-timeout": ["workflows/ci.yml"],
    "vendor.github-issue-forms": ["ISSUE_TEMPLATE/bug.yml", "ISSUE_TEMPLATE/idea.yml"],
    "vendor.github-issue-config": ["ISSUE_TEMPLATE/config.yml"],
    "vendor.dependabot": ["dependabot.yml"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_of_github_fit_their_schema(schema: str) -> None:
    validate(schema, *(ROOT / ".github" / name for name in SCHEMAS[schema]))


def test_every_file_of_github_has_a_schema() -> None:
    there = {str(path.relative_to(ROOT / ".github")) for path in (ROOT / ".github").rglob("*.yml")}
    assert there == {name for names in SCHEMAS.values() for name in names}


@pytest.mark.parametrize(
    ("schema", "old", "new"),
    [
        ("vendor.github-workflows", "runs-on:", "runs_on:"),
        ("custom.github-workflows-require-timeout", "timeout-minutes: 10", "name: x"),
        ("vendor.github-issue-forms", "type: textarea", "type: text"),
        ("vendor.github-issue-config", "false", "no such"),
        ("vendor.dependabot", "weekly", "yearlong"),
    ],
)
def test_a_mistake_is_found(tmp_path: Path, schema: str, old: str, new: str) -> None:
    text = (ROOT / ".github" / SCHEMAS[schema][0]).read_text()
    assert old in text
    (tmp_path / "wrong.yml").write_text(text.replace(old, new))
    with pytest.raises(AssertionError, match=r"wrong\.yml"):
        validate(schema, tmp_path / "wrong.yml")


def validate(schema: str, *files: Path) -> None:
    run(tool("check-jsonschema"), "--builtin-schema", schema, *files)
