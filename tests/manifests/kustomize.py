"""Renders the overlays as `kubectl kustomize` does, each from a copy with freshly drawn secrets."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("try", "production")
DRAWN = ("secret.env", "nats.env", "vpn.env", "jobs.env", "node.json")

RUN_TIMEOUT_S = 120
GIVEN = {"TURNPIKE_BOT_TOKEN": "123456789:" + "A" * 35, "TURNPIKE_NODE_HOST": "vpn.example.org"}

Resource = dict[str, Any]

_AS_JSON = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"


def tool(name: str) -> str:
    """The path of a program of tests/manifests/tools.lock. A missing one is a failure, never a reason to look away."""
    path = ROOT / ".venv-tools/bin" / name
    assert path.exists(), f"{name} is missing: make manifests-test installs it"
    return str(path)


def run(*argv: str | Path, stdin: str | None = None, errors: bool = False, env: Mapping[str, str] | None = None) -> str:
    """What a program printed, with `errors` also beside it; its failure is ours, with all that it said."""
    ended = subprocess.run(
        [str(part) for part in argv],
        input=stdin,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 0, f"{argv[0]} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout + (ended.stderr if errors else "")


def prepared(folder: Path) -> Path:
    """A copy of deploy/kubernetes with the secrets that a person would have drawn."""
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy, ignore=shutil.ignore_patterns(*DRAWN))
    for overlay in OVERLAYS:
        run("sh", copy / "draw-secrets", copy / "overlays" / overlay, env=GIVEN)
    return copy


def rendered(overlay: Path) -> str:
    return run(tool("kubectl"), "kustomize", overlay)


def read(manifests: str) -> list[Resource]:
    resources: list[Resource] = json.loads(run(tool("python"), "-c", _AS_JSON, stdin=manifests))
    return resources
