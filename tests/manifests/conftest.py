"""The overlays, rendered once per run."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.manifests.cluster import Cluster
from tests.manifests.kustomize import prepared, read, rendered

Render = Callable[[str], str]


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all overlays, with drawn secrets."""
    return prepared(tmp_path_factory.mktemp("manifests")) / "overlays"


@pytest.fixture(scope="session")
def render(overlays: Path) -> Render:
    """The output of `kubectl kustomize` for an overlay."""
    return cache(lambda overlay: rendered(overlays / overlay))


@pytest.fixture(scope="session")
def cluster(render: Render) -> Callable[[str], Cluster]:
    """The resources of an overlay, with their pods and policies."""
    return cache(lambda overlay: Cluster(read(render(overlay))))
