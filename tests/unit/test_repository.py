"""The repository's own files: the workflow, the hooks, the commit messages, the forms."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from turnpike_local.up import SANDBOX_PORT

ROOT = Path(__file__).parents[2]
RUN = ROOT / ".ci/run"
JOB_MINUTES = 45


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = loaded(".github/workflows/ci.yml")["jobs"][job]["steps"]
    return found


def ci(*arguments: str, run: Path = RUN, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", run, *arguments],
        env=environment or None,
        capture_output=True,
        text=True,
        check=False,
    )


PARTS = ci("--list").stdout.split()


# The workflow


def test_the_workflow_has_one_job_per_part() -> None:
    assert list(loaded(".github/workflows/ci.yml")["jobs"]) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_a_job_only_calls_its_part(part: str) -> None:
    checkout, python, run = steps(part)
    assert re.fullmatch(r"actions/checkout@v\d+\.\d+\.\d+", checkout["uses"])
    assert re.fullmatch(r"actions/setup-python@v\d+\.\d+\.\d+", python["uses"])
    assert run == {"run": f".ci/run {part}"}


@pytest.mark.parametrize("part", PARTS)
def test_a_job_has_a_time_limit(part: str) -> None:
    """The limits of the part's own steps end it first, with a report."""
    job = loaded(".github/workflows/ci.yml")["jobs"][part]
    limit = job["timeout-minutes"]
    source = RUN.read_text()
    case = re.search(rf"^    {part}\)(.*?);;", source, re.MULTILINE | re.DOTALL)
    install = re.search(r"^    install\) step (\d+) ", source, re.MULTILINE)
    assert case
    assert install
    own = sum(int(minutes) for minutes in re.findall(r"\bstep (\d+) ", case.group(1)))
    assert own + int(install.group(1)) < limit <= JOB_MINUTES


def test_the_supported_pythons_are_all_tested() -> None:
    """`.ci/run pythons` passes over a Python that is not there, so the job sets up each one."""
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first, end = map(int, re.findall(r"3\.(\d+)", given))
    supported = {f"3.{minor}" for minor in range(first, end)}
    assert set(steps("pythons")[1]["with"]["python-version"].split()) == supported
    assert set(re.findall(r"3\.\d+", RUN.read_text())) == supported


def test_jobs_that_run_this_file_see_history() -> None:
    for part in ("check", "test", "pythons"):
        assert steps(part)[0]["with"] == {"fetch-depth": 0}


# The parts, with `make` and what else `.ci/run` calls replaced by scripts that only write a line


@pytest.fixture
def called(tmp_path: Path) -> Path:
    """A copy of `.ci/run` in a folder in which `make` only writes its arguments to `calls`."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(RUN, tmp_path / ".ci/run")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "bin").mkdir()
    scripts = {
        "make": f'echo "$*" >> {tmp_path}/calls; [ "$1" != "${{FAILS:-}}" ]',
        "chromium": "true",
        "fc-list": "echo DejaVu",
    }
    for name, script in scripts.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return tmp_path


def calls(called: Path, *parts: str, fails: str = "") -> tuple[list[str], int]:
    """The arguments of each `make`, without those on another Python, and the exit status."""
    path = f"{called}/bin:/usr/bin:/bin"
    done = ci(*parts, run=called / ".ci/run", PATH=path, FAILS=fails)
    lines = (called / "calls").read_text().splitlines() if (called / "calls").exists() else []
    return [line for line in lines if "PYTHON=" not in line], done.returncode


def test_without_names_every_part_runs(called: Path) -> None:
    made, status = calls(called)
    assert status == 0
    targets = [line.split()[0] for line in made]
    assert targets[:6] == [
        *("install", "check", "test", "manifests-tools", "manifests-test", "test-properties")
    ]
    assert set(targets[6:8]) == {"test-bounds", "test-browser"}
    assert targets[8:] == ["demo", "demo", "chaos"]


@pytest.mark.parametrize("fails", ["test-bounds", "test-browser"])
def test_either_of_two_side_by_side_fails(called: Path, fails: str) -> None:
    made, status = calls(called, "bounds", "browser", "demo", fails=fails)
    assert (set(made), status) == ({"install", "test-bounds", "test-browser"}, 1)


def test_named_parts_run_after_install(called: Path) -> None:
    assert calls(called, "demo", "check") == (["install", "demo", "check"], 0)


def test_install_is_not_run_twice(called: Path) -> None:
    assert calls(called, "install") == (["install"], 0)


def test_a_failed_part_ends_the_run(called: Path) -> None:
    assert calls(called, fails="check") == (["install", "check"], 1)


def test_an_unknown_part_runs_nothing(called: Path) -> None:
    assert calls(called, "check", "checks") == ([], 2)


# Commit messages

PROBLEMS = runpy.run_path(str(ROOT / ".ci/commit-message"))["problems"]
# The rule holds for every commit after this one.
BASE, BASE_AT_S = "f17d7f3813f4f91a6f566ef5d177a7a94397b5c9", 1_795_696_973
BODY = "A lost answer was asked for again, and a person paid twice."


@pytest.mark.parametrize(
    "message",
    [
        f"payments: a repeat meets its first receipt\n\n{BODY}\n",
        f"tests, sandbox: {'x' * 56}\n\n{BODY}",
        f"ci: parts\n\n{BODY}\n\nReviewed-by: A Person <a@example.org>\n",
        f"ci: parts\n\n{BODY}\n# Please enter the commit message\n# ---- >8 ----\ndiff --git",
        "Merge branch 'docs'",
    ],
)
def test_a_good_message_passes(message: str) -> None:
    assert PROBLEMS(message) == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("", "area: effect"),
        (f"A repeat meets its first receipt\n\n{BODY}", "area: effect"),
        (f"Payments: a repeat\n\n{BODY}", "area: effect"),
        (f"payments:\n\n{BODY}", "area: effect"),
        (f"payments: a repeat.\n\n{BODY}", "period"),
        (f"payments: {'x' * 63}\n\n{BODY}", "73 characters"),
        (f"payments: a repeat\n{BODY}", "second line"),
        ("payments: a repeat", "no body"),
        ("payments: a repeat\n\nfixes it", "no body"),
        ("payments: a repeat\n\nReviewed-by: A Person Jr. <a@example.org>", "no body"),
        ("payments: a repeat\n\n# Only a comment of git's.", "no body"),
    ],
)
def test_a_bad_message_is_refused(message: str, problem: str) -> None:
    assert any(problem in sentence for sentence in PROBLEMS(message))


def test_the_hook_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "message").write_text("payments: a repeat")
    hook: list[str | Path] = [sys.executable, ROOT / ".ci/commit-message", tmp_path / "message"]
    done = subprocess.run(hook, capture_output=True, text=True, check=False)
    assert (done.returncode, "no body" in done.stderr) == (1, True)
    (tmp_path / "message").write_text(f"payments: a repeat\n\n{BODY}")
    assert subprocess.run(hook, check=False).returncode == 0


def test_every_commit_has_a_good_message() -> None:
    wrong = {name: found for name, message in commits() if (found := PROBLEMS(message))}
    assert not wrong


def commits() -> list[tuple[str, str]]:
    """Those after the base: all, those of a shallow clone, or none in an archive."""
    if git("rev-parse", "--show-toplevel").strip() != str(ROOT):
        return []
    known = git("merge-base", BASE, "HEAD").strip() == BASE
    log = git(
        "log", "-z", "--no-merges", "--format=%h %ct %B", f"{BASE}..HEAD" if known else "HEAD"
    )
    entries = [entry.split(" ", 2) for entry in log.split("\0") if entry]
    return [(name, message) for name, at_s, message in entries if known or int(at_s) > BASE_AT_S]


def git(*arguments: str) -> str:
    """Empty where git is not installed or refuses."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


# Hooks, forms, the container


def test_hooks_are_local_commands() -> None:
    (local,) = loaded(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    entries = [hook["entry"].split()[0] for hook in local["hooks"]]
    assert entries == [".venv/bin/ruff", ".venv/bin/ruff", ".ci/commit-message"]
    assert (ROOT / ".ci/commit-message").stat().st_mode & 0o111


def test_updates_reach_every_package() -> None:
    ecosystems = {
        entry["package-ecosystem"]: entry for entry in loaded(".github/dependabot.yml")["updates"]
    }
    assert {entry["schedule"]["interval"] for entry in ecosystems.values()} == {"weekly"}
    (dockerfile,) = (ROOT / "deploy").rglob("Dockerfile")
    assert ecosystems["docker"]["directory"] == f"/{dockerfile.parent.relative_to(ROOT)}"
    wanted = ecosystems["pip"]["directories"]
    for folder in ("shared", "services/*", "deploy/*", "."):
        for project in ROOT.glob(f"{folder}/pyproject.toml"):
            name = f"/{project.parent.relative_to(ROOT)}".removesuffix(".")
            assert any(fnmatch(name, pattern) for pattern in wanted), name


def test_forms_warn_of_secrets() -> None:
    bug = (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()
    for needed in ("turnpike why", "turnpike audit", "Never paste", "SECURITY.md"):
        assert needed in bug


def test_the_container_opens_the_sandbox() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["forwardPorts"] == [SANDBOX_PORT]
    assert list(container["portsAttributes"]) == [str(SANDBOX_PORT)]
    assert container["postCreateCommand"] == "make install"
    assert container["postAttachCommand"] == {"shop": "make up"}


HIDDEN = [".ci/*", ".github/**/*", ".devcontainer/*", ".pre-commit-config.yaml", ".editorconfig"]


def test_hidden_files_name_no_machine() -> None:
    """`test_architecture.py` reads every other file."""
    suspicious = re.compile(
        r"(?<![\w./-])/(?:work|root|home)/|file:/{2}|simple/?$|index-url", re.MULTILINE
    )
    files = [path for pattern in HIDDEN for path in ROOT.glob(pattern) if path.is_file()]
    assert len(files) >= len(HIDDEN)
    for path in files:
        text = path.read_text()
        assert not suspicious.search(text), path
        assert max(map(len, text.splitlines())) <= 100, path
