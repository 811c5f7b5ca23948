"""Names of resources, labels and selectors."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.manifests.cluster import WORKLOADS, Cluster, is_custom, pod_of, selects
from tests.manifests.kustomize import Resource
from tests.manifests.rules.rule import rule, title

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")

SERVED = {
    *("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1"),
}
NOT_NAMESPACED = {"Namespace"}
STABLE_SELECTORS = {"app.kubernetes.io/name"}
RECOMMENDED = "app.kubernetes.io/"
OF_EVERY_RESOURCE = {"part-of", "instance", "managed-by"}
OF_EVERY_POD = OF_EVERY_RESOURCE | {"name", "component", "version"}


@rule
def names_are_unique_dns_labels(cluster: Cluster) -> Iterator[str]:
    for resource in cluster.resources:
        if not DNS_LABEL.fullmatch(resource["metadata"]["name"]):
            yield f"{title(resource)}: the name is not a DNS label"
        if resource["apiVersion"] not in SERVED and not is_custom(resource["apiVersion"]):
            yield f"{title(resource)}: no cluster serves {resource['apiVersion']}"
    for name, count in Counter(title(resource) for resource in cluster.resources).items():
        if count > 1:
            yield f"{name} exists {count} times"


@rule
def resources_share_one_namespace(cluster: Cluster) -> Iterator[str]:
    (name,) = cluster.names("Namespace")
    for resource in cluster.resources:
        wanted = None if resource["kind"] in NOT_NAMESPACED else name
        if resource["metadata"].get("namespace") != wanted:
            yield f"{title(resource)}: it is in another namespace than {wanted}"


@rule
def labels_are_well_formed(cluster: Cluster) -> Iterator[str]:
    for owner, labels in [
        *(
            (title(resource), resource["metadata"].get("labels", {}))
            for resource in cluster.resources
        ),
        *((pod.owner, pod.labels) for pod in cluster.pods),
    ]:
        for key, value in labels.items():
            if not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
                yield f"{owner}: the label {key} cannot be {value!r}"


@rule
def labels_are_complete(cluster: Cluster) -> Iterator[str]:
    """Every resource says what it is part of, every pod also its version: the tag of its image."""
    for resource in cluster.resources:
        for name in sorted(OF_EVERY_RESOURCE - _recommended(resource["metadata"])):
            yield f"{title(resource)}: it has no label {name}"
    for workload in cluster.of(*WORKLOADS):
        pod = pod_of(workload)
        metadata = workload["spec"]["template"]["metadata"]
        for name in sorted(OF_EVERY_POD - _recommended(metadata)):
            yield f"{title(workload)}: its pods have no label {name}"
        tag = pod.spec["containers"][0]["image"].rpartition(":")[2]
        labels = workload["metadata"].get("labels", {}), metadata.get("labels", {})
        if {one.get(f"{RECOMMENDED}version") for one in labels} != {tag}:
            yield f"{title(workload)}: its label version is not {tag}"


def _recommended(metadata: dict[str, Any]) -> set[str]:
    return {key.removeprefix(RECOMMENDED) for key in metadata.get("labels", {})}


@rule
def selectors_match_only_their_own_pods(cluster: Cluster) -> Iterator[str]:
    for workload in cluster.of("Deployment", "StatefulSet"):
        selector = workload["spec"]["selector"]
        if not selects(selector, pod_of(workload).labels):
            yield f"{title(workload)}: the selector does not match its own pods"
        if len(cluster.selected(selector)) > 1:
            yield f"{title(workload)}: the selector matches pods of another workload"
        if (
            set(selector.get("matchLabels", {})) != STABLE_SELECTORS
            or "matchExpressions" in selector
        ):
            yield f"{title(workload)}: a selector cannot be changed, so it holds the name only"


@rule
def services_select_pods_and_ports(cluster: Cluster) -> Iterator[str]:
    for service in cluster.of("Service"):
        pods = cluster.selected({"matchLabels": service["spec"]["selector"]})
        if not pods:
            yield f"{title(service)}: it selects no pod"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for pod in pods:
                if target not in pod.ports:
                    yield f"{title(service)}: {pod.owner} has no port {target}"
        counted = Counter(port.get("name") for port in service["spec"]["ports"])
        if any(count > 1 for count in counted.values()):
            yield f"{title(service)}: two ports have one name"
    for stateful in cluster.of("StatefulSet"):
        if stateful["spec"]["serviceName"] not in cluster.names("Service"):
            yield f"{title(stateful)}: its service is missing"


@rule
def disruption_budgets_have_bound_and_pods(cluster: Cluster) -> Iterator[str]:
    for budget in cluster.of("PodDisruptionBudget"):
        if len({"minAvailable", "maxUnavailable"} & budget["spec"].keys()) != 1:
            yield f"{title(budget)}: it must have exactly one bound"
        if not cluster.selected(budget["spec"]["selector"]):
            yield f"{title(budget)}: it protects no pod"


@rule
def ingress_matches_the_webhook_url(cluster: Cluster) -> Iterator[str]:
    settings = cluster.contents("ConfigMap", "turnpike-jobs")
    url = urlsplit(settings.get("TURNPIKE_TELEGRAM_WEBHOOK_URL", ""))
    for ingress, host, path in _paths(cluster):
        backend = path["backend"]["service"]
        services = [
            service
            for service in cluster.of("Service")
            if service["metadata"]["name"] == backend["name"]
        ]
        ports = [port.get("name") for service in services for port in service["spec"]["ports"]]
        if backend["port"].get("name") not in ports:
            yield f"{title(ingress)}: service {backend['name']} has no port {backend['port']}"
        if (host, path["path"]) != (url.hostname, url.path) or path["path"] != "/telegram":
            yield f"{title(ingress)}: it serves another address than {url.geturl()!r}"


def _paths(cluster: Cluster) -> Iterator[tuple[Resource, str, dict[str, Any]]]:
    for ingress in cluster.of("Ingress"):
        for entry in ingress["spec"]["rules"]:
            for path in entry["http"]["paths"]:
                yield ingress, entry["host"], path
