"""Where an overlay is taken hold of to break it."""

from collections.abc import Callable
from typing import Any

from tests.manifests.cluster import Cluster

Break = Callable[[Cluster], object]
# The rule, what is done, and the sentence that names it.
Harm = tuple[str, Break, str]


def spec(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.named(kind, name)["spec"]
    return found


def pod(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = spec(cluster, kind, name)["template"]["spec"]
    return found


def container(cluster: Cluster, name: str = "payments", kind: str = "Deployment") -> dict[str, Any]:
    found: dict[str, Any] = pod(cluster, kind, name)["containers"][0]
    return found


def job(cluster: Cluster, start: str) -> str:
    return next(name for name in cluster.names("Job") if name.startswith(start))


def variable(found: dict[str, Any], name: str) -> dict[str, Any]:
    one: dict[str, Any] = next(entry for entry in found["env"] if entry["name"] == name)
    return one


def secret_name(cluster: Cluster) -> str:
    return next(name for name in cluster.names("Secret") if name.startswith("turnpike-") and name != "turnpike-jobs")
