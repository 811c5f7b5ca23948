"""`deploy/local/install`: interrupted, killed, twice at once, without a network."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.package_index import PackageIndex, write_tiny, write_uv
from turnpike_local.processes import program

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "deploy/local/install"
RUN_TIMEOUT_S = 120.0
AGAIN = (
    "check the network (PIP_INDEX_URL and UV_DEFAULT_INDEX name another index), then run the "
    "command again; the rest is in .venv.log.\n"
)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages, and the lock of both: uv, and `tiny`, whose program prints "new"."""
    folder = tmp_path_factory.mktemp("wheels")
    (folder / "lock").write_text(write_uv(folder) + write_tiny(folder))
    return folder


@pytest.fixture
def index(wheels: Path) -> Iterator[PackageIndex]:
    with PackageIndex(wheels) as index:
        yield index


def hears_interruptions() -> None:
    """A shell starts its background jobs, as this run may be one, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Tree:
    """A folder of sources, whose path has a space."""

    folder: Path
    index: PackageIndex

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def start(self, *, lock: str = "lock", **environment: str) -> subprocess.Popen[str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
        ours = {
            "PYTHON": sys.executable,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "PIP_INDEX_URL": self.index.url,
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(self.folder.parent / "cache"),
            "UV_HTTP_RETRIES": "0",
            "UV_DEFAULT_INDEX": self.index.url,
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.Popen(
            ["sh", INSTALL, ".venv", lock],
            cwd=self.folder,
            env=others | ours | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hears_interruptions,
        )

    def install(self, **environment: str) -> tuple[int, str, str]:
        """Its exit status, its output and its errors."""
        return ended(self.start(**environment))

    def installs(self) -> None:
        status, _, errors = self.install()
        assert (status, errors) == (0, "")
        assert self.says() == "new"
        assert {path.name for path in self.folder.iterdir()} == {
            *(".venv", ".venv.lock", ".venv.log", "lock"),
        }

    def says(self) -> str:
        """What the program of the environment prints."""
        return subprocess.check_output([self.venv / "bin/tiny"], text=True).strip()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=RUN_TIMEOUT_S)
    return process.returncode, output, errors


@pytest.fixture
def empty(tmp_path: Path, index: PackageIndex) -> Tree:
    """A tree without an environment."""
    folder = tmp_path / "a tree"
    folder.mkdir()
    shutil.copy(index.folder / "lock", folder)
    return Tree(folder, index)


@pytest.fixture
def tree(empty: Tree) -> Tree:
    """A tree with an older environment, whose uv is used and whose `tiny` prints "old"."""
    (empty.venv / "bin").mkdir(parents=True)
    (empty.venv / "bin/python").symlink_to(sys.executable)
    (empty.venv / "bin/uv").symlink_to(program("uv"))
    (empty.venv / "bin/tiny").write_text("#!/bin/sh\necho old\n")
    (empty.venv / "bin/tiny").chmod(0o755)
    return empty


def test_nothing_but_python_is_needed(empty: Tree) -> None:
    """pip fetches uv. A second command finds all done; no program holds the path of its making."""
    status, output, errors = empty.install()
    assert (status, errors) == (0, "")
    assert output.splitlines()[0] == "installing into .venv ..."
    assert empty.says() == "new"
    assert empty.install() == (0, "", "")
    programs = [path for path in (empty.venv / "bin").iterdir() if path.name != "uv"]
    assert not [path for path in programs if b".venv.new" in path.read_bytes()]


def test_an_old_environment_works_until_replaced(tree: Tree) -> None:
    """W-45: it is replaced when the new one is whole."""
    tree.index.gives("silence")
    installing = tree.start()
    assert tree.index.asked.wait(RUN_TIMEOUT_S)
    assert tree.says() == "old"
    tree.index.gives("refusal")
    assert ended(installing)[0] == 2
    assert tree.says() == "old"
    tree.index.gives("files")
    tree.installs()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["first second", "environment", "packages"])
def test_an_interruption_is_repaired(tree: Tree, by: signal.Signals, moment: str) -> None:
    """W-45: at once, with half an environment, and between two packages."""
    tree.index.gives("silence")
    installing = tree.start()
    if moment == "first second":
        assert installing.stdout is not None
        installing.stdout.readline()
    elif moment == "environment":
        appears(tree.folder / ".venv.new/venv/bin")
    else:
        assert tree.index.asked.wait(RUN_TIMEOUT_S)
    installing.send_signal(by)
    tree.index.gives("files")
    status, _, errors = ended(installing)
    if by == signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert (status, errors) == (130, "\nInterrupted: the next command installs again.\n")
    assert tree.says() == "old"
    tree.installs()


def appears(path: Path) -> None:
    ends_at = time.monotonic() + RUN_TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < ends_at, f"{path} did not appear"
        time.sleep(0.001)


@pytest.mark.parametrize("new_is_whole", [True, False])
def test_a_kill_between_two_renames_is_repaired(tree: Tree, *, new_is_whole: bool) -> None:
    """W-45"""
    if new_is_whole:
        tree.installs()
        (tree.folder / ".venv.new").mkdir()
        tree.venv.rename(tree.folder / ".venv.new/venv")
        (tree.folder / ".venv.old").mkdir()
        tree.index.gives("refusal")
    else:
        tree.venv.rename(tree.folder / ".venv.old")
    tree.installs()


def test_an_interrupted_old_installation_is_repaired(tree: Tree) -> None:
    """W-45: a folder of an earlier version, in which pip was never installed."""
    shutil.rmtree(tree.venv)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tree.venv], check=True)
    (tree.venv / "bin/uv").symlink_to(program("uv"))
    tree.installs()


def test_two_commands_install_once(tree: Tree) -> None:
    """W-45: the second says that it waits, for whom, and that it lives."""
    tree.index.gives("silence")
    first = tree.start()
    assert tree.index.asked.wait(RUN_TIMEOUT_S)
    second = tree.start()
    assert second.stdout is not None
    assert second.stdout.readline() == (
        f"Another command installs into .venv (process {first.pid}): this one waits ...\n"
    )
    assert second.stdout.readline().startswith("  waiting ")
    tree.index.gives("files")
    assert (ended(first)[0], ended(second)[0]) == (0, 0)
    assert tree.says() == "new"


def test_a_slow_network_shows_progress(tree: Tree) -> None:
    """The first line comes at once, the others every few seconds."""
    tree.index.gives("silence")
    installing = tree.start()
    assert installing.stdout is not None
    assert installing.stdout.readline() == "installing into .venv ...\n"
    shown = 0
    while shown < 2:  # While the index is silent.
        shown += installing.stdout.readline().startswith("  packages ")
    tree.index.gives("files")
    assert ended(installing)[0] == 0


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("closed", "No package index answers: "),
        ("silence", "No package index answers: "),
        ("refusal", "The package index does not give the packages: "),
    ],
)
def test_a_missing_network_is_one_sentence(tree: Tree, answer: str, sentence: str) -> None:
    """W-45"""
    environment = {"UV_HTTP_TIMEOUT": "1"}
    if answer == "closed":
        environment["UV_DEFAULT_INDEX"] = "http://127.0.0.1:1/simple"
    elif answer == "silence":
        tree.index.gives("silence")
    else:
        tree.index.gives("refusal")
    status, _, errors = tree.install(**environment)
    assert (status, errors) == (2, sentence + AGAIN)
    assert "pip sync" in (tree.folder / ".venv.log").read_text()
    assert tree.says() == "old"


def test_pip_without_a_network_is_one_sentence(empty: Tree) -> None:
    """W-45: on a machine that never installed Turnpike, pip is the first to ask."""
    nowhere = "https://nowhere.invalid/simple"
    status, _, errors = empty.install(PIP_INDEX_URL=nowhere, PIP_RETRIES="1")
    assert (status, errors) == (2, "No package index answers: " + AGAIN)
    assert not empty.venv.exists()


def test_another_file_of_the_index_is_refused(tree: Tree) -> None:
    lock = tree.folder / "lock"
    uv, tiny = lock.read_text().splitlines()
    lock.write_text(f"{uv}\n{tiny[:-1]}{'0' if tiny[-1] != '0' else '1'}\n")
    status, _, errors = tree.install()
    assert status == 2
    assert errors.startswith("The package index has a file that is not the locked one: ")
    assert errors.count("\n") == 1


def test_a_moved_repository_installs_again(tree: Tree) -> None:
    """W-45: a virtual environment holds the path of our packages."""
    tree.installs()
    moved = Tree(tree.folder.with_name("moved"), tree.index)
    tree.folder.rename(moved.folder)
    assert "installing" in moved.install()[1]
    assert moved.says() == "new"


def test_another_lock_installs_again(tree: Tree) -> None:
    """Its content decides, not its time. What uv's cache holds needs no network."""
    tree.installs()
    lock = tree.folder / "lock"
    lock.touch()
    assert tree.install() == (0, "", "")
    lock.write_text(lock.read_text() + "# another\n")
    os.utime(lock, (0, 0))
    tree.index.gives("refusal")
    assert "installing" in tree.install()[1]
    assert tree.install() == (0, "", "")


def test_a_python_path_may_have_spaces(tree: Tree) -> None:
    """W-45: from make to the environment."""
    python = tree.folder / "my python/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    status, _, errors = tree.install(PYTHON=str(python))
    assert (status, errors) == (0, "")
    assert tree.says() == "new"
    (tree.folder / "deploy/local").mkdir(parents=True)
    (tree.folder / "deploy/local/install").write_text('echo "$PYTHON" "$1"\n')
    argv = ["make", "-s", "-f", str(ROOT / "Makefile"), "install", f"PYTHON={python}", "VENV=.venv"]
    made = subprocess.check_output(argv, cwd=tree.folder, text=True)
    assert made == f"{python} .venv\n"


def test_an_unusable_python_is_named(tree: Tree) -> None:
    assert tree.install(PYTHON="/no such/python") == (
        2,
        "",
        "Turnpike needs Python 3.11, 3.12 or 3.13; PYTHON=/no such/python is not one of them.\n",
    )
