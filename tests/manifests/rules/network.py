"""Connections between pods: policies allow all that are needed, and no other."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.manifests.cluster import Cluster, Pod, selects
from tests.manifests.kustomize import Resource
from tests.manifests.rules.rule import containers, rule, title

# CloudNativePG makes this service from the Cluster `postgres`.
OPERATED_SERVICES = {"postgres-rw": 5432}

COMPONENT, NAME, NAMESPACE = (
    "app.kubernetes.io/component",
    "app.kubernetes.io/name",
    "kubernetes.io/metadata.name",
)
ALL_PODS: dict[str, str] = {}
SERVICES = {COMPONENT: "service"}
BROKERS = {COMPONENT: "broker"}
POSTGRES = {"cnpg.io/cluster": "postgres"}
NODE = {NAME: "vpn-provisioner"}


def outside(name: str, namespace: dict[str, str], **labels: str) -> Pod:
    """A pod of another namespace, or a machine outside the cluster."""
    return Pod(
        name,
        "outside",
        {key.replace("_", "-"): value for key, value in labels.items()},
        {},
        namespace,
    )


DNS = outside("DNS", {NAMESPACE: "kube-system"}, k8s_app="kube-dns")
METRICS = outside("the metrics reader", {"turnpike/metrics": "yes"})
TRACES = outside("the trace collector", {"turnpike/traces": "yes"})
INGRESS = outside("the ingress controller", {"turnpike/ingress": "yes"})
OPERATOR = outside("the operator", {NAMESPACE: "cnpg-system"})
KUBERNETES_API = outside("the Kubernetes API", {})
PEOPLE = outside("people", {})

# Client, server, port, protocol. A client or server is a pod, or the labels of pods.
Connection = tuple[dict[str, str] | Pod, dict[str, str] | Pod, int, str]

# Connections that no variable names: those of every overlay, and those with CloudNativePG.
REQUIRED: list[Connection] = [
    (ALL_PODS, DNS, 53, "UDP"),
    (ALL_PODS, DNS, 53, "TCP"),
    (PEOPLE, NODE, 8443, "TCP"),
    (SERVICES, TRACES, 4318, "TCP"),
    (METRICS, SERVICES, 8080, "TCP"),
    (METRICS, BROKERS, 8222, "TCP"),
]
REQUIRED_IN_PRODUCTION: list[Connection] = [
    (BROKERS, BROKERS, 6222, "TCP"),
    (INGRESS, {NAME: "bot-gateway"}, 8080, "TCP"),
    (METRICS, POSTGRES, 9187, "TCP"),
    (POSTGRES, POSTGRES, 5432, "TCP"),
    (POSTGRES, POSTGRES, 8000, "TCP"),
    (OPERATOR, POSTGRES, 5432, "TCP"),
    (OPERATOR, POSTGRES, 8000, "TCP"),
    (POSTGRES, KUBERNETES_API, 443, "TCP"),
    (POSTGRES, KUBERNETES_API, 6443, "TCP"),
]


# One address of each family, and one of each range that a person with a key may not reach.
PUBLIC = ("1.1.1.1", "2606:4700:4700::1111")
PRIVATE = (
    *("10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.0.1"),
    *("::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
)
MAIL = (25, 465, 587)
# The ends of the ranges between the ports of mail, and common ports.
FOR_PEOPLE = (
    *((port, "TCP") for port in (1, 22, 24, 26, 80, 443, 464, 466, 586, 588, 993, 65535)),
    *((port, "UDP") for port in (1, 53, 443, 65535)),
)
OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@rule
def policies_are_well_formed(cluster: Cluster) -> Iterator[str]:
    for policy in cluster.of("NetworkPolicy"):
        spec = policy["spec"]
        types = set(spec["policyTypes"])
        if not types <= {"Ingress", "Egress"}:
            yield f"{title(policy)}: policyTypes are Ingress and Egress, not {sorted(types)}"
        for direction in ("ingress", "egress"):
            if direction in spec and direction.capitalize() not in types:
                yield f"{title(policy)}: it has rules for {direction}, but not that type"
        if spec["podSelector"] and not cluster.selected(spec["podSelector"]):
            yield f"{title(policy)}: it selects no pod"
        for entry in [entry for way in ("ingress", "egress") for entry in spec.get(way, ())]:
            yield from (f"{title(policy)}: {sentence}" for sentence in _peers(cluster, entry))


def _peers(cluster: Cluster, entry: dict[str, Any]) -> Iterator[str]:
    for peer in [*entry.get("from", ()), *entry.get("to", ())]:
        if "ipBlock" in peer:
            for excepted in peer["ipBlock"].get("except", ()):
                if not _within(excepted, peer["ipBlock"]["cidr"]):
                    yield f"{excepted} is not within {peer['ipBlock']['cidr']}"
        elif "namespaceSelector" not in peer and not cluster.selected(peer["podSelector"]):
            yield f"a peer selects no pod: {peer['podSelector']}"
    for port in entry.get("ports", ()):
        if port.get("protocol", "TCP") not in ("TCP", "UDP", "SCTP"):
            yield f"{port['protocol']} is not a protocol of policies"


def _within(inner: str, outer: str) -> bool:
    inside, block = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    if inside.version != block.version:
        return False
    return inside.subnet_of(block)  # type: ignore[arg-type]  # Both have one version.


@rule
def policies_allow_listening_ports(cluster: Cluster) -> Iterator[str]:
    for policy in cluster.of("NetworkPolicy"):
        for entry in policy["spec"].get("ingress", ()):
            pods = cluster.selected(policy["spec"]["podSelector"])
            yield from _unused_ports(policy, pods, entry)
        for entry in policy["spec"].get("egress", ()):
            inside = [
                peer["podSelector"] for peer in entry.get("to", ()) if set(peer) == {"podSelector"}
            ]
            for selector in inside:
                yield from _unused_ports(policy, cluster.selected(selector), entry)


def _unused_ports(policy: Resource, pods: list[Pod], entry: dict[str, Any]) -> Iterator[str]:
    for port in entry.get("ports", ()):
        for pod in pods:
            if port["port"] not in pod.ports:
                yield f"{title(policy)}: {pod.owner} does not listen on {port['port']}"


@rule
def traffic_is_denied_by_default(cluster: Cluster) -> Iterator[str]:
    of_all_pods = [
        policy["spec"]
        for policy in cluster.of("NetworkPolicy")
        if policy["spec"]["podSelector"] == {}
    ]
    denying = [
        spec
        for spec in of_all_pods
        if set(spec["policyTypes"]) == {"Ingress", "Egress"} and len(spec) == 2
    ]
    if not denying:
        yield "no network policy denies all traffic by default"


@rule
def configured_connections_are_allowed(cluster: Cluster) -> Iterator[str]:
    """A container may connect to every address in its environment, and to Telegram with a token."""
    for pod, container in containers(cluster):
        environment = cluster.environment(container)
        for variable, value in environment.items():
            if re.match(r"(postgresql|nats)://", value) or variable == "PGHOST":
                yield from _connects(cluster, pod, variable, value)
        if "TURNPIKE_BOT_TOKEN" in environment:
            for address in PUBLIC:
                if not cluster.may_reach(pod, address, 443):
                    yield f"{pod.owner}: no policy allows Telegram, at {address}"


@rule
def traces_are_allowed(cluster: Cluster) -> Iterator[str]:
    """A collector in another namespace has the label of `to-traces`; another is a public host."""
    for pod in _pods(cluster, SERVICES):
        environment = cluster.environment(pod.container("service"))
        for variable in OTLP_ENDPOINTS:
            address = urlsplit(environment.get(variable, ""))
            if address.hostname is None:
                continue
            port = address.port or {"http": 80, "https": 443}[address.scheme]
            inside = cluster.may_connect(pod, TRACES, port)
            if not inside and not all(cluster.may_reach(pod, there, port) for there in PUBLIC):
                yield f"{pod.owner}: no policy allows {variable}, {address.hostname}:{port}"


def _connects(cluster: Cluster, pod: Pod, variable: str, value: str) -> Iterator[str]:
    services = {service["metadata"]["name"]: service for service in cluster.of("Service")}
    address = urlsplit(value if "://" in value else f"postgresql://{value}:5432")
    host = address.hostname
    assert host is not None
    if host in OPERATED_SERVICES and list(cluster.operated):
        servers, port = list(cluster.operated), OPERATED_SERVICES[host]
    elif host in services:
        servers = cluster.selected({"matchLabels": services[host]["spec"]["selector"]})
        port = next((entry["port"] for entry in services[host]["spec"]["ports"]), 0)
    elif "." in host:  # A server outside the cluster, such as a managed PostgreSQL.
        if not cluster.may_leave(pod, address.port or 0):
            yield f"{pod.owner}: no policy allows {host}:{address.port} outside the cluster"
        return
    else:
        yield f"{pod.owner}: {variable} names {host}, which does not exist"
        return
    if address.port != port:
        yield f"{pod.owner}: {variable} names port {address.port} of {host}, which is not open"
    for server in servers:
        if not cluster.may_connect(pod, server, port):
            yield f"{pod.owner}: no policy allows {host}:{port}"


@rule
def implicit_connections_are_allowed(cluster: Cluster) -> Iterator[str]:
    required = REQUIRED + (REQUIRED_IN_PRODUCTION if list(cluster.operated) else [])
    for one, other, port, protocol in required:
        for client in _pods(cluster, one):
            for server in _pods(cluster, other):
                if not cluster.may_connect(client, server, port, protocol):
                    yield f"{client.owner}: no policy allows {server.owner} on {protocol} {port}"
    for pod in _pods(cluster, NODE):
        for address in PUBLIC:
            for port, protocol in FOR_PEOPLE:
                if not cluster.may_reach(pod, address, port, protocol):
                    yield f"{pod.owner}: no policy allows {address} on {protocol} {port}"


@rule
def nodes_reach_no_mail_and_no_private_address(cluster: Cluster) -> Iterator[str]:
    for pod in _pods(cluster, NODE):
        for address in PUBLIC:
            for port in MAIL:
                if cluster.may_reach(pod, address, port):
                    yield f"{pod.owner}: people could send mail to {address} on port {port}"
        for address in PRIVATE:
            if any(cluster.may_reach(pod, address, *target) for target in FOR_PEOPLE):
                yield f"{pod.owner}: people could reach {address}"


def _pods(cluster: Cluster, end: dict[str, str] | Pod) -> list[Pod]:
    if isinstance(end, Pod):
        return [end]
    return [pod for pod in cluster.pods if selects({"matchLabels": end}, pod.labels)]
