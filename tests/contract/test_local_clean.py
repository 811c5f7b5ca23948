"""`turnpike clean` removes the state of a shop that has ended, and no other folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from turnpike_cli.local_shop import WRITTEN_BY_UP
from turnpike_local.clean import remove, state_dir_of
from turnpike_local.environment import ROOT
from turnpike_local.processes import StartError
from turnpike_local.state import held

CLEAN = "from turnpike_local.clean import clean; clean()"


def ended_shop(state: Path) -> Path:
    """A state folder as a killed shop leaves it, in parts; a stopped one removes the file."""
    for part in ("logs", "nats/store", "postgres/data", "sandbox", "xray"):
        (state / part).mkdir(parents=True)
    (state / "postgres/data/PG_VERSION").write_text("18\n")
    (state / WRITTEN_BY_UP).write_text("{}")
    with held(state):
        return state


def cleaned(env_file: str | Path = os.devnull, **environment: str) -> tuple[int, str]:
    """The exit status and the errors of `turnpike clean`."""
    others = {name: value for name, value in os.environ.items() if name != "TURNPIKE_STATE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", CLEAN, "--env-file", env_file],
        env=others | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_an_ended_shop_loses_its_state(tmp_path: Path) -> None:
    """W-47: in the folder that the environment names. A missing folder is clean."""
    state = ended_shop(tmp_path / "my state")
    assert cleaned(TURNPIKE_STATE_DIR=str(state)) == (0, "")
    assert os.listdir(tmp_path) == []
    assert cleaned(TURNPIKE_STATE_DIR=str(state)) == (0, "")


def test_the_env_file_names_the_state(tmp_path: Path) -> None:
    """W-47: `turnpike up` reads it there too."""
    state = ended_shop(tmp_path / "state")
    (tmp_path / ".env").write_text(f"TURNPIKE_STATE_DIR={state}\n")
    assert cleaned(tmp_path / ".env") == (0, "")
    assert os.listdir(tmp_path) == [".env"]


def test_up_and_clean_mean_one_folder() -> None:
    assert state_dir_of({}) == state_dir_of({"TURNPIKE_STATE_DIR": " "}) == ROOT / ".turnpike"
    assert state_dir_of({"TURNPIKE_STATE_DIR": "/a b"}) == Path("/a b")


def test_a_running_shop_keeps_its_state(tmp_path: Path) -> None:
    state = ended_shop(tmp_path / "state")
    with held(state):
        assert cleaned(TURNPIKE_STATE_DIR=str(state)) == (
            2,
            f"Turnpike already runs on {state}: process {os.getpid()}."
            " Stop it first (Ctrl-C in its terminal).\n",
        )
    assert (state / "postgres/data/PG_VERSION").exists()


@pytest.mark.parametrize("name", ["photos", "postgres.aside", ".bashrc"])
def test_other_files_are_never_removed(tmp_path: Path, name: str) -> None:
    """W-47: a slip in `TURNPIKE_STATE_DIR` must not cost a home folder."""
    state = ended_shop(tmp_path / "home")
    (state / name).touch()
    with pytest.raises(StartError, match=f"is not only the state of a shop, it holds {name}: "):
        remove(state)
    assert (state / "postgres/data/PG_VERSION").exists()


def test_a_folder_without_a_lock_stays(tmp_path: Path) -> None:
    """W-47: `logs` and `nats` are names of other programs too."""
    (tmp_path / "logs").mkdir()
    with pytest.raises(StartError, match=r"is not the state of a shop: remove it yourself\.$"):
        remove(tmp_path)
    assert os.listdir(tmp_path) == ["logs"]
