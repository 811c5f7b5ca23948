"""Renders overlays with `kubectl kustomize`, from a copy with drawn secrets.

The overlays are the two of this repository, every other folder beside them, and the folder that the
variable OVERLAY names (`make manifests-test OVERLAY=path`). An operator's own overlay is rendered
with its own secrets if they are there.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OURS = ("try", "production")
DRAWN = (
    *("secret.env", "nats.env", "nats-routes.env", "vpn-provisioner.env", "jobs.env"),
    "node.json",
)

RUN_TIMEOUT_S = 120
GIVEN = {
    "TURNPIKE_BOT_TOKEN": "123456789:" + "A" * 35,
    "TURNPIKE_NODE_HOST": "vpn.shop.test",
    "TURNPIKE_NODE_SNI": "www.large-site.test",
}
# What an operator writes in a copy of an overlay, in the place of example names.
FILLED = {
    "bot.example.org": "bot.shop.test",
    "@example_support": "@shop_support",
    "example_owner": "shop_owner",
    "ghcr.io/example/": "ghcr.io/shop/",
}

Resource = dict[str, Any]

_AS_JSON = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"


def own_overlays(beside: Path, named: str | None) -> dict[str, Path]:
    """Every overlay of an operator by its name: the folders `beside` ours, and the one `named`."""
    found = {path.parent.name: path.parent for path in sorted(beside.glob("*/kustomization.yaml"))}
    own = {name: path for name, path in found.items() if name not in OURS}
    if named:
        path = Path(named).resolve()
        assert (path / "kustomization.yaml").exists(), f"OVERLAY={named}: no kustomization.yaml"
        if path.parent != beside:
            own[f"own-{path.name}"] = path
    return own


OWN = own_overlays(KUBERNETES / "overlays", os.environ.get("OVERLAY"))
OVERLAYS = (*OURS, *OWN)


def tool(name: str) -> str:
    """Return the path of a program of tools.lock. A missing one fails the test, never skips it."""
    path = ROOT / ".venv-tools/bin" / name
    assert path.exists(), f"{name} is missing: make manifests-test installs it"
    return str(path)


def run(
    *argv: str | Path,
    stdin: str | None = None,
    errors: bool = False,
    env: Mapping[str, str] | None = None,
) -> str:
    """Return what a program printed, and with `errors` its standard error too.

    Raises AssertionError with both outputs if it fails.
    """
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
    assert ended.returncode == 0, (
        f"{argv[0]} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    )
    return ended.stdout + (ended.stderr if errors else "")


def prepared(folder: Path) -> Path:
    """Return a copy of deploy/kubernetes with secrets in every overlay, and no example names."""
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy, ignore=shutil.ignore_patterns(*DRAWN, *OWN))
    for name in OURS:
        fill(copy / "overlays" / name)
    for name, path in OWN.items():
        shutil.copytree(path, copy / "overlays" / name)
    for name in OVERLAYS:
        if not (copy / "overlays" / name / "secret.env").exists():
            run("sh", copy / "draw-secrets", copy / "overlays" / name, env=GIVEN)
    return copy


def fill(overlay: Path) -> None:
    """Replace the example names in the files of an overlay."""
    for path in overlay.rglob("*"):
        if path.is_file():
            text = path.read_text()
            for example, own in FILLED.items():
                text = text.replace(example, own)
            path.write_text(text)


def rendered(overlay: Path) -> str:
    return run(tool("kubectl"), "kustomize", overlay)


def read(manifests: str) -> list[Resource]:
    resources: list[Resource] = json.loads(run(tool("python"), "-c", _AS_JSON, stdin=manifests))
    return resources
