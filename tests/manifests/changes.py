"""An overlay before and after an operator's change to its files."""

import re
import shutil
from pathlib import Path

from tests.manifests.cluster import Cluster
from tests.manifests.kustomize import KUBERNETES, read, rendered

README = KUBERNETES / "README.md"


def edited(overlays: Path, folder: Path, overlay: str, *edits: tuple[str, str, str]) -> Path:
    """A copy of an overlay; each edit replaces a text in a file by another."""
    shutil.copytree(overlays.parent, folder / "kubernetes")
    copy = folder / "kubernetes/overlays" / overlay
    for file, old, new in edits:
        text = (copy / file).read_text()
        assert old in text, f"{file} has no {old}"
        (copy / file).write_text(text.replace(old, new))
    return copy


def after(overlays: Path, folder: Path, overlay: str, *edits: tuple[str, str, str]) -> Cluster:
    return Cluster(read(rendered(edited(overlays, folder, overlay, *edits))))


def changed(before: Cluster, after: Cluster, kind: str) -> set[str]:
    return {
        name for name in before.names(kind) if before.named(kind, name) != after.named(kind, name)
    }


def recipe(heading: str) -> str:
    """The first block of shell below a heading of the README."""
    below = README.read_text().partition(f"\n### {heading}\n")[2]
    found = re.search(r"```sh\n(.*?)```", below, re.DOTALL)
    assert found, f"the README has no recipe below {heading!r}"
    return found[1]
