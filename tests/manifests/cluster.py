"""Rendered resources as a cluster would see them: which pods there are, whom a selector means, who may talk to whom."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.manifests.kustomize import Resource

WORKLOADS = ("Deployment", "StatefulSet", "Job")
# What CloudNativePG makes of its Cluster: pods, services and a secret that no manifest names.
OPERATED = "postgresql.cnpg.io/v1"


@dataclass(frozen=True)
class Pod:
    """The pods of one workload."""

    owner: str
    kind: str
    labels: dict[str, str]
    spec: dict[str, Any]
    # The labels of its namespace; none for the pods of this one.
    elsewhere: dict[str, str] | None = None

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Those that run one after the other before the others, too."""
        containers: list[dict[str, Any]] = [*self.spec.get("initContainers", ()), *self.spec["containers"]]
        return containers

    @property
    def ports(self) -> dict[str | int, int]:
        """Every container port, by its number and by its name."""
        ports = [port for container in self.containers for port in container.get("ports", ())]
        number = {port["containerPort"]: port["containerPort"] for port in ports}
        return number | {port["name"]: port["containerPort"] for port in ports if "name" in port}

    def container(self, name: str) -> dict[str, Any]:
        return next(container for container in self.containers if container["name"] == name)


class Cluster:
    """All resources of one overlay."""

    def __init__(self, resources: list[Resource]) -> None:
        self.resources = resources

    def of(self, *kinds: str) -> list[Resource]:
        return [resource for resource in self.resources if resource["kind"] in kinds]

    def named(self, kind: str, name: str) -> Resource:
        return next(resource for resource in self.of(kind) if resource["metadata"]["name"] == name)

    def names(self, kind: str) -> set[str]:
        return {resource["metadata"]["name"] for resource in self.of(kind)}

    @property
    def pods(self) -> list[Pod]:
        return [*(pod_of(resource) for resource in self.of(*WORKLOADS)), *self.operated]

    @property
    def operated(self) -> Iterator[Pod]:
        """The pods that the operator makes: PostgreSQL on 5432, its own door on 8000, metrics on 9187."""
        for resource in self.of("Cluster"):
            assert resource["apiVersion"] == OPERATED
            name = resource["metadata"]["name"]
            ports = [{"containerPort": port} for port in (5432, 8000, 9187)]
            yield Pod(
                name, "Cluster", {"cnpg.io/cluster": name}, {"containers": [{"name": "postgres", "ports": ports}]}
            )

    def selected(self, selector: dict[str, Any]) -> list[Pod]:
        return [pod for pod in self.pods if selects(selector, pod.labels)]

    def contents(self, kind: str, name: str) -> dict[str, str]:
        """What a ConfigMap or Secret holds, decoded."""
        resource = self.named(kind, name)
        held: dict[str, str] = dict(resource.get("data") or {})
        if kind == "Secret":
            held = {key: base64.b64decode(value).decode() for key, value in held.items()}
        return held

    def environment(self, container: dict[str, Any]) -> dict[str, str]:
        """The variables that a container sees, but those that nothing here holds: the pod's fields, others' secrets."""
        seen: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            seen |= self.contents("ConfigMap", source["configMapRef"]["name"])
        for variable in container.get("env", ()):
            if "value" in variable:
                seen[variable["name"]] = variable["value"]
            elif "secretKeyRef" in variable["valueFrom"]:
                wanted = variable["valueFrom"]["secretKeyRef"]
                held = self.contents("Secret", wanted["name"]) if wanted["name"] in self.names("Secret") else {}
                if wanted["key"] in held:
                    seen[variable["name"]] = held[wanted["key"]]
        return seen

    def may_talk(self, one: Pod, other: Pod, port: int, protocol: str = "TCP") -> bool:
        """Whether the policies let `one` begin a conversation with `other`."""
        wanted = (port, protocol)
        return self._lets("egress", "to", one, other, wanted) and self._lets("ingress", "from", other, one, wanted)

    def may_go_out(self, pod: Pod, port: int) -> bool:
        """Whether the policies let a pod begin a conversation with a public address."""
        return any(
            any("ipBlock" in peer for peer in rule.get("to", ())) and _covers(rule, (port, "TCP"))
            for policy in self._policies_of(pod, "Egress")
            for rule in policy["spec"].get("egress", ())
        )

    def _policies_of(self, pod: Pod, direction: str) -> list[Resource]:
        """Policies rule the pods of their own namespace."""
        if pod.elsewhere is not None:
            return []
        return [
            policy
            for policy in self.of("NetworkPolicy")
            if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod.labels)
        ]

    def _lets(self, direction: str, end: str, pod: Pod, peer: Pod, wanted: tuple[int, str]) -> bool:
        policies = self._policies_of(pod, direction.capitalize())
        return not policies or any(
            _covers(rule, wanted) and (not rule.get(end) or any(_means(other, peer) for other in rule[end]))
            for policy in policies
            for rule in policy["spec"].get(direction, ())
        )


def pod_of(workload: Resource) -> Pod:
    template = workload["spec"]["template"]
    labels = template.get("metadata", {}).get("labels", {})
    return Pod(workload["metadata"]["name"], workload["kind"], labels, template["spec"])


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A label selector of the full form: matchLabels and matchExpressions; an empty one selects everything."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In", "only In is used, and read, here"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def _covers(rule: dict[str, Any], wanted: tuple[int, str]) -> bool:
    return not rule.get("ports") or any(
        (entry.get("port"), entry.get("protocol", "TCP")) == wanted for entry in rule["ports"]
    )


def _means(peer: dict[str, Any], pod: Pod) -> bool:
    """A selector of namespaces alone means all their pods, one of pods alone those of this namespace."""
    if "ipBlock" in peer:
        return False
    there = (
        selects(peer["namespaceSelector"], pod.elsewhere or {})
        if "namespaceSelector" in peer
        else pod.elsewhere is None
    )
    return there and selects(peer.get("podSelector", {}), pod.labels)


def size(quantity: str) -> float:
    """A Kubernetes quantity as a number: 500m, 64Mi, 1Gi."""
    whole = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(quantity))
    assert whole, f"{quantity} is no quantity"
    number, unit = whole.groups()
    return float(number) * {"": 1, "m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "MB": 1e6, "GB": 1e9}[unit]
