"""The overlays, rendered once a run."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.manifests.cluster import Cluster
from tests.manifests.kustomize import prepared, read, rendered

Render = Callable[[str], str]


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all overlays, secrets drawn."""
    return prepared(tmp_path_factory.mktemp("manifests")) / "overlays"


@pytest.fixture(scope="session")
def render(overlays: Path) -> Render:
    """What `kubectl kustomize` makes of an overlay."""
    return cache(lambda overlay: rendered(overlays / overlay))


@pytest.fixture(scope="session")
def cluster(render: Render) -> Callable[[str], Cluster]:
    """An overlay as a cluster would see it."""
    return cache(lambda overlay: Cluster(read(render(overlay))))
