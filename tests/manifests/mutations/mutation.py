"""Parts of an overlay that the mutations change."""

from collections.abc import Callable
from typing import Any

from tests.manifests.cluster import Cluster

Change = Callable[[Cluster], object]
# The name of the rule, the change that breaks it, and a part of the rule's sentence.
Mutation = tuple[str, Change, str]


def spec(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.named(kind, name)["spec"]
    return found


def pod(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = spec(cluster, kind, name)["template"]["spec"]
    return found


def container(cluster: Cluster, name: str = "payments", kind: str = "Deployment") -> dict[str, Any]:
    found: dict[str, Any] = pod(cluster, kind, name)["containers"][0]
    return found


def job(cluster: Cluster, prefix: str) -> str:
    return next(name for name in cluster.names("Job") if name.startswith(prefix))


def variable(found: dict[str, Any], name: str) -> dict[str, Any]:
    one: dict[str, Any] = next(entry for entry in found["env"] if entry["name"] == name)
    return one


def settings(cluster: Cluster, container: dict[str, Any]) -> dict[str, str]:
    """The data of the one ConfigMap that a container reads its variables from."""
    (source,) = container["envFrom"]
    data: dict[str, str] = cluster.named("ConfigMap", source["configMapRef"]["name"])["data"]
    return data


def secret_name(cluster: Cluster) -> str:
    return next(
        name
        for name in cluster.names("Secret")
        if name.startswith("turnpike-") and name != "turnpike-jobs"
    )
