"""What resources are called, and whom selectors mean."""

import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.manifests.cluster import OPERATED, Cluster, pod_of, selects
from tests.manifests.rule import rule, said

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")

SERVED = {
    *("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1"),
    OPERATED,
}
NOT_NAMESPACED = {"Namespace"}
STABLE_SELECTORS = {"app.kubernetes.io/name"}


@rule
def names_are_dns_labels_and_met_once(cluster: Cluster) -> Iterator[str]:
    for resource in cluster.resources:
        if not DNS_LABEL.fullmatch(resource["metadata"]["name"]):
            yield f"{said(resource)}: the name is no DNS label"
        if resource["apiVersion"] not in SERVED:
            yield f"{said(resource)}: {resource['apiVersion']} is served by no cluster that we know of"
    for name, count in Counter(said(resource) for resource in cluster.resources).items():
        if count > 1:
            yield f"{name} is there {count} times"


@rule
def everything_is_in_the_one_namespace(cluster: Cluster) -> Iterator[str]:
    (there,) = cluster.names("Namespace")
    for resource in cluster.resources:
        wanted = None if resource["kind"] in NOT_NAMESPACED else there
        if resource["metadata"].get("namespace") != wanted:
            yield f"{said(resource)}: it is in another namespace than {wanted}"


@rule
def labels_are_well_formed(cluster: Cluster) -> Iterator[str]:
    for owner, labels in [
        *((said(resource), resource["metadata"].get("labels", {})) for resource in cluster.resources),
        *((pod.owner, pod.labels) for pod in cluster.pods),
    ]:
        for key, value in labels.items():
            if not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
                yield f"{owner}: the label {key} cannot be {value!r}"


@rule
def selectors_match_their_own_pods_and_no_others(cluster: Cluster) -> Iterator[str]:
    for workload in cluster.of("Deployment", "StatefulSet"):
        selector = workload["spec"]["selector"]
        if not selects(selector, pod_of(workload).labels):
            yield f"{said(workload)}: the selector does not match its own pods"
        if len(cluster.selected(selector)) > 1:
            yield f"{said(workload)}: the selector matches pods of another workload"
        if set(selector.get("matchLabels", {})) != STABLE_SELECTORS or "matchExpressions" in selector:
            yield f"{said(workload)}: a selector can never be changed, so it holds the name only"


@rule
def services_lead_to_pods_and_their_ports(cluster: Cluster) -> Iterator[str]:
    for service in cluster.of("Service"):
        pods = cluster.selected({"matchLabels": service["spec"]["selector"]})
        if not pods:
            yield f"{said(service)}: it leads to no pod"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for pod in pods:
                if target not in pod.ports:
                    yield f"{said(service)}: {pod.owner} has no port {target}"
        counted = Counter(port.get("name") for port in service["spec"]["ports"])
        if any(count > 1 for count in counted.values()):
            yield f"{said(service)}: two ports have one name"
    for stateful in cluster.of("StatefulSet"):
        if stateful["spec"]["serviceName"] not in cluster.names("Service"):
            yield f"{said(stateful)}: its service is missing"


@rule
def budgets_have_one_bound_and_pods(cluster: Cluster) -> Iterator[str]:
    for budget in cluster.of("PodDisruptionBudget"):
        if len({"minAvailable", "maxUnavailable"} & budget["spec"].keys()) != 1:
            yield f"{said(budget)}: it has to have exactly one bound"
        if not cluster.selected(budget["spec"]["selector"]):
            yield f"{said(budget)}: it protects no pod"


@rule
def ingresses_lead_to_what_the_webhook_is_told(cluster: Cluster) -> Iterator[str]:
    for ingress in cluster.of("Ingress"):
        for host in ingress["spec"]["rules"]:
            for path in host["http"]["paths"]:
                backend = path["backend"]["service"]
                services = [known for known in cluster.of("Service") if known["metadata"]["name"] == backend["name"]]
                ports = [port.get("name") for service in services for port in service["spec"]["ports"]]
                if backend["port"].get("name") not in ports:
                    yield f"{said(ingress)}: there is no port {backend['port']} of a service {backend['name']}"
                told = urlsplit(cluster.contents("ConfigMap", "turnpike-jobs").get("TURNPIKE_TELEGRAM_WEBHOOK_URL", ""))
                if (host["host"], path["path"]) != (told.hostname, told.path) or path["path"] != "/telegram":
                    yield f"{said(ingress)}: Telegram is told {told.geturl()!r}, and this is another door"
