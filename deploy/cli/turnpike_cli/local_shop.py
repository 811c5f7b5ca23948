"""The shop of `make up` on this machine: its state folder, and where its parts are."""

import fcntl
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

WRITTEN_BY_UP = "shop.json"
"""The file of the state folder that lists the parts of a running shop. It holds no password."""
AHEAD = Path("postgres", "ahead")
"""The file of the state folder with the seconds that the clock of its sandbox is ahead."""


class NoShopError(Exception):
    """No shop runs on this machine. The message is the sentence that the operator reads."""


@dataclass(frozen=True)
class Part:
    """A process of the shop, its address, and its log."""

    name: str
    address: str
    log: str
    """Relative to the state folder."""


@dataclass(frozen=True)
class LocalShop:
    """A running shop. The DSNs are by the service, without their passwords."""

    folder: Path
    process: int
    parts: tuple[Part, ...]
    dsns: Mapping[str, str]
    passwords: Path
    """A password file of libpq, for PGPASSFILE."""


def state_folders(environment: Mapping[str, str]) -> list[Path]:
    """Where the local shop may keep its state: that of a running shop comes first."""
    if chosen := environment.get("TURNPIKE_STATE_DIR"):
        return [Path(chosen)]
    folders = [Path.cwd() / ".turnpike", Path(__file__).resolve().parents[3] / ".turnpike"]
    return sorted(folders, key=lambda folder: not is_locked(folder / "lock"))


def running_shop(environment: Mapping[str, str]) -> LocalShop:
    """Raises NoShopError."""
    found = [folder for folder in state_folders(environment) if folder.is_dir()]
    if not found:
        raise NoShopError(
            "No shop of `make up` was found here, and TURNPIKE_NATS_URL names no other one."
        )
    folder = found[0]
    if not is_locked(folder / "lock"):
        raise NoShopError(f"The shop in {folder} is not running; `make up` starts it.")
    try:
        return shop_from(folder, json.loads((folder / WRITTEN_BY_UP).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoShopError(f"The shop in {folder} is still starting.") from error


def shop_time(environment: Mapping[str, str]) -> datetime:
    """The time of the shop that `turnpike` reaches: only that of a sandbox may be ahead."""
    ahead_s = 0
    if not environment.get("TURNPIKE_NATS_URL"):
        with suppress(NoShopError, ValueError):
            ahead_s = ahead_s_of(running_shop(environment).folder)
    return datetime.now(UTC) + timedelta(seconds=ahead_s)


def ahead_s_of(folder: Path) -> int:
    """How far the clock of this state folder is ahead. Raises ValueError for a broken file."""
    try:
        return int((folder / AHEAD).read_text())
    except FileNotFoundError:
        return 0


def is_locked(lock: Path) -> bool:
    """Whether a running shop holds this lock. The kernel releases it when the shop ends."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def shop_from(folder: Path, written: Mapping[str, Any]) -> LocalShop:
    """Read the shop that `turnpike up` wrote. Raises KeyError and TypeError for anything else."""
    return LocalShop(
        folder=folder,
        process=written["process"],
        parts=tuple(Part(**part) for part in written["parts"]),
        dsns=written["dsns"],
        passwords=folder / written["passwords"],
    )
