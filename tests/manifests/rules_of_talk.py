"""Who may talk to whom: what policies say, and what has to be possible all the same."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.manifests.cluster import Cluster, Pod, selects
from tests.manifests.kustomize import Resource
from tests.manifests.rule import containers, rule, said

# What the operator makes beside the pods of its Cluster `postgres`.
OPERATED_SERVICES = {"postgres-rw": 5432}

COMPONENT, NAME, NAMESPACE = "app.kubernetes.io/component", "app.kubernetes.io/name", "kubernetes.io/metadata.name"
EVERYBODY: dict[str, str] = {}
SERVICES = {COMPONENT: "service"}
BROKERS = {COMPONENT: "broker"}
POSTGRES = {"cnpg.io/cluster": "postgres"}
NODE = {NAME: "vpn-provisioner"}


def outside(name: str, namespace: dict[str, str], **labels: str) -> Pod:
    """Somebody of another namespace, or of none."""
    return Pod(name, "outside", {key.replace("_", "-"): value for key, value in labels.items()}, {}, namespace)


DNS = outside("DNS", {NAMESPACE: "kube-system"}, k8s_app="kube-dns")
METRICS = outside("whoever reads metrics", {"turnpike/metrics": "yes"})
TRACES = outside("the collector", {"turnpike/traces": "yes"})
INGRESS = outside("the ingress controller", {"turnpike/ingress": "yes"})
OPERATOR = outside("the operator", {NAMESPACE: "cnpg-system"})
KUBERNETES_API = outside("the Kubernetes API", {})
PEOPLE = outside("people", {})

Talk = tuple[dict[str, str] | Pod, dict[str, str] | Pod, int, str]

# What no variable names: who begins, with whom, where. In every overlay, and where CloudNativePG is.
REQUIRED: list[Talk] = [
    (EVERYBODY, DNS, 53, "UDP"),
    (EVERYBODY, DNS, 53, "TCP"),
    (PEOPLE, NODE, 8443, "TCP"),
]
REQUIRED_IN_PRODUCTION: list[Talk] = [
    (BROKERS, BROKERS, 6222, "TCP"),
    (INGRESS, {NAME: "bot-gateway"}, 8080, "TCP"),
    (SERVICES, TRACES, 4318, "TCP"),
    (METRICS, SERVICES, 8080, "TCP"),
    (METRICS, BROKERS, 8222, "TCP"),
    (METRICS, POSTGRES, 9187, "TCP"),
    (POSTGRES, POSTGRES, 5432, "TCP"),
    (POSTGRES, POSTGRES, 8000, "TCP"),
    (OPERATOR, POSTGRES, 5432, "TCP"),
    (OPERATOR, POSTGRES, 8000, "TCP"),
    (POSTGRES, KUBERNETES_API, 443, "TCP"),
    (POSTGRES, KUBERNETES_API, 6443, "TCP"),
]


@rule
def policies_say_what_they_rule(cluster: Cluster) -> Iterator[str]:
    for policy in cluster.of("NetworkPolicy"):
        spec = policy["spec"]
        types = set(spec["policyTypes"])
        if not types <= {"Ingress", "Egress"}:
            yield f"{said(policy)}: policyTypes are Ingress and Egress, not {sorted(types)}"
        for direction in ("ingress", "egress"):
            if direction in spec and direction.capitalize() not in types:
                yield f"{said(policy)}: it has rules for {direction} and does not rule it"
        if spec["podSelector"] and not cluster.selected(spec["podSelector"]):
            yield f"{said(policy)}: it selects no pod"
        for entry in [entry for way in ("ingress", "egress") for entry in spec.get(way, ())]:
            yield from (f"{said(policy)}: {sentence}" for sentence in _peers(cluster, entry))


def _peers(cluster: Cluster, entry: dict[str, Any]) -> Iterator[str]:
    for peer in [*entry.get("from", ()), *entry.get("to", ())]:
        if "ipBlock" in peer:
            block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
            for hole in peer["ipBlock"].get("except", ()):
                inner = ipaddress.ip_network(hole)
                if inner.version != block.version or not inner.subnet_of(block):  # type: ignore[arg-type]  # Of one version.
                    yield f"{hole} is not within {block}"
        elif "namespaceSelector" not in peer and not cluster.selected(peer["podSelector"]):
            yield f"a peer is no pod: {peer['podSelector']}"
    for port in entry.get("ports", ()):
        if port.get("protocol", "TCP") not in ("TCP", "UDP", "SCTP"):
            yield f"the protocol {port['protocol']} is none"


@rule
def policies_open_ports_that_somebody_listens_on(cluster: Cluster) -> Iterator[str]:
    for policy in cluster.of("NetworkPolicy"):
        for entry in policy["spec"].get("ingress", ()):
            pods = cluster.selected(policy["spec"]["podSelector"])
            yield from _deaf(policy, pods, entry)
        for entry in policy["spec"].get("egress", ()):
            inside = [peer["podSelector"] for peer in entry.get("to", ()) if set(peer) == {"podSelector"}]
            for selector in inside:
                yield from _deaf(policy, cluster.selected(selector), entry)


def _deaf(policy: Resource, pods: list[Pod], entry: dict[str, Any]) -> Iterator[str]:
    for port in entry.get("ports", ()):
        for pod in pods:
            if port["port"] not in pod.ports:
                yield f"{said(policy)}: {pod.owner} does not listen on {port['port']}"


@rule
def nobody_may_talk_unless_it_was_allowed(cluster: Cluster) -> Iterator[str]:
    everybody = [policy for policy in cluster.of("NetworkPolicy") if policy["spec"]["podSelector"] == {}]
    closed = [p for p in everybody if set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"} and len(p["spec"]) == 2]
    if not closed:
        yield "no network policy refuses everything first"


@rule
def who_has_to_talk_may(cluster: Cluster) -> Iterator[str]:
    """Every address in the environment of a container, and what no variable names."""
    services = {service["metadata"]["name"]: service for service in cluster.of("Service")}
    for pod, container in containers(cluster):
        for variable, value in cluster.environment(container).items():
            if not re.match(r"(postgresql|nats)://", value) and variable != "PGHOST":
                continue
            address = urlsplit(value if "://" in value else f"postgresql://{value}:5432")
            assert address.hostname is not None
            if address.hostname in OPERATED_SERVICES and list(cluster.operated):
                others, port = list(cluster.operated), OPERATED_SERVICES[address.hostname]
            elif address.hostname in services:
                others = cluster.selected({"matchLabels": services[address.hostname]["spec"]["selector"]})
                port = next((p["port"] for p in services[address.hostname]["spec"]["ports"]), 0)
            else:
                yield f"{pod.owner}: {variable} leads to {address.hostname}, which is nowhere"
                continue
            if address.port != port:
                yield f"{pod.owner}: {variable} leads to port {address.port} of {address.hostname}"
            for other in others:
                if not cluster.may_talk(pod, other, port):
                    yield f"{pod.owner}: no policy lets it to {address.hostname}:{port}"
        if "TURNPIKE_BOT_TOKEN" in cluster.environment(container) and not cluster.may_go_out(pod, 443):
            yield f"{pod.owner}: no policy lets it to Telegram"


@rule
def who_has_to_talk_without_being_told_may(cluster: Cluster) -> Iterator[str]:
    for one, other, port, protocol in REQUIRED + (REQUIRED_IN_PRODUCTION if list(cluster.operated) else []):
        for begins in _those(cluster, one):
            for answers in _those(cluster, other):
                if not cluster.may_talk(begins, answers, port, protocol):
                    yield f"{begins.owner}: no policy lets it to {answers.owner} on {protocol} {port}"
    for pod in _those(cluster, NODE):
        if not cluster.may_go_out(pod, 80):
            yield f"{pod.owner}: no policy lets people out through the node"


def _those(cluster: Cluster, whom: dict[str, str] | Pod) -> list[Pod]:
    if isinstance(whom, Pod):
        return [whom]
    return [pod for pod in cluster.pods if selects({"matchLabels": whom}, pod.labels)]
