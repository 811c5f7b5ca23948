"""What every rule is made of: the list it stands in, and whom it speaks of."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from shared.owners import OWNERS
from shared.settings import ServiceSettings
from tests.manifests.cluster import Cluster, Pod
from tests.manifests.kustomize import Resource

Rule = Callable[[Cluster], Iterator[str]]

SETTINGS: dict[str, type[ServiceSettings]] = {
    package.replace("_", "-"): import_module(f"{package}.settings").Settings for package in OWNERS.values()
}
OURS = "turnpike-"

RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    RULES.append(check)
    return check


def said(resource: Resource) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


def containers(cluster: Cluster) -> Iterator[tuple[Pod, dict[str, Any]]]:
    for pod in ours(cluster):
        for container in pod.containers:
            yield pod, container


def ours(cluster: Cluster) -> list[Pod]:
    """Every pod but the operator's, which it makes right itself."""
    return [pod for pod in cluster.pods if pod.kind != "Cluster"]
