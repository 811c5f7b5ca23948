"""Who may talk to whom: what policies say, and what has to be possible all the same."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.manifests.cluster import Cluster, Pod
from tests.manifests.kustomize import Resource
from tests.manifests.rule import containers, rule, said

# What the operator makes beside the pods of its Cluster `postgres`.
OPERATED_SERVICES = {"postgres-rw": 5432}


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
                if inner.version != block.version or not inner.subnet_of(block):  # type: ignore[arg-type]
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
