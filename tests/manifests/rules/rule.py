"""The registry of rules, and the parts that most rules use."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from shared.contracts.owners import OWNERS
from shared.platform.settings import ServiceSettings
from tests.manifests.cluster import Cluster, Pod
from tests.manifests.kustomize import Resource

Rule = Callable[[Cluster], Iterator[str]]

SETTINGS: dict[str, type[ServiceSettings]] = {
    package.replace("_", "-"): import_module(f"{package}.settings").Settings
    for package in OWNERS.values()
}
OUR_IMAGES = "turnpike-"

RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    RULES.append(check)
    return check


def title(resource: Resource) -> str:
    """The kind and the name of a resource, with which a sentence begins."""
    return f"{resource['kind']} {resource['metadata']['name']}"


def containers(cluster: Cluster) -> Iterator[tuple[Pod, dict[str, Any]]]:
    for pod in our_pods(cluster):
        for container in pod.containers:
            yield pod, container


def our_pods(cluster: Cluster) -> list[Pod]:
    """Every pod except those of CloudNativePG, which the operator configures itself."""
    return [pod for pod in cluster.pods if pod.kind != "Cluster"]
