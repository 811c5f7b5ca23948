"""Rendered resources as a cluster reads them: pods, selectors and allowed connections."""

import base64
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.manifests.kustomize import Resource

WORKLOADS = ("Deployment", "StatefulSet", "Job")
# CloudNativePG makes pods, services and a secret from its Cluster; no manifest contains them.
OPERATED = "postgresql.cnpg.io/v1"


def is_custom(api: str) -> bool:
    """Whether an operator serves this apiVersion, and not Kubernetes itself."""
    group = api.rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


@dataclass(frozen=True)
class Pod:
    """The pods of one workload."""

    owner: str
    kind: str
    labels: dict[str, str]
    spec: dict[str, Any]
    # The labels of its namespace; None means the namespace of the overlay.
    other_namespace: dict[str, str] | None = None

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Init containers first, then the others."""
        containers: list[dict[str, Any]] = [
            *self.spec.get("initContainers", ()),
            *self.spec["containers"],
        ]
        return containers

    @property
    def ports(self) -> dict[str | int, int]:
        """Every container port by its number and by its name."""
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
        """The operator's pods: PostgreSQL on 5432, their status on 8000, metrics on 9187."""
        for resource in self.of("Cluster"):
            assert resource["apiVersion"] == OPERATED
            name = resource["metadata"]["name"]
            ports = [{"containerPort": port} for port in (5432, 8000, 9187)]
            yield Pod(
                name,
                "Cluster",
                {"cnpg.io/cluster": name},
                {"containers": [{"name": "postgres", "ports": ports}]},
            )

    def selected(self, selector: dict[str, Any]) -> list[Pod]:
        return [pod for pod in self.pods if selects(selector, pod.labels)]

    def contents(self, kind: str, name: str) -> dict[str, str]:
        """The data of a ConfigMap or Secret, decoded."""
        resource = self.named(kind, name)
        data: dict[str, str] = dict(resource.get("data") or {})
        if kind == "Secret":
            data = {key: base64.b64decode(value).decode() for key, value in data.items()}
        return data

    def environment(self, container: dict[str, Any]) -> dict[str, str]:
        """The variables of a container, with each `$(NAME)` of an earlier variable replaced.

        Fields of the pod and secrets that no manifest contains are left out.
        """
        variables: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            variables |= self.contents("ConfigMap", source["configMapRef"]["name"])
        for variable in container.get("env", ()):
            if "value" in variable:
                variables[variable["name"]] = re.sub(
                    r"\$\((\w+)\)",
                    lambda found: variables.get(found[1], found[0]),
                    variable["value"],
                )
            elif "secretKeyRef" in variable["valueFrom"]:
                wanted = variable["valueFrom"]["secretKeyRef"]
                data = (
                    self.contents("Secret", wanted["name"])
                    if wanted["name"] in self.names("Secret")
                    else {}
                )
                if wanted["key"] in data:
                    variables[variable["name"]] = data[wanted["key"]]
        return variables

    def may_connect(self, client: Pod, server: Pod, port: int, protocol: str = "TCP") -> bool:
        """Whether the policies allow `client` to connect to `server`."""
        wanted = (port, protocol)
        return self._allows("egress", "to", client, server, wanted) and self._allows(
            "ingress", "from", server, client, wanted
        )

    def may_reach(self, pod: Pod, address: str, port: int, protocol: str = "TCP") -> bool:
        """Whether the policies allow a pod to connect to an address outside the cluster."""
        return any(
            any("ipBlock" in peer and _holds(peer["ipBlock"], address) for peer in rule["to"])
            and _covers(rule, (port, protocol))
            for policy in self._policies_of(pod, "Egress")
            for rule in policy["spec"].get("egress", ())
            if "to" in rule
        )

    def may_leave(self, pod: Pod, port: int) -> bool:
        """Whether the policies allow a pod to connect to some addresses outside the cluster."""
        return any(
            "ipBlock" in peer and _covers(rule, (port, "TCP"))
            for policy in self._policies_of(pod, "Egress")
            for rule in policy["spec"].get("egress", ())
            for peer in rule.get("to", ())
        )

    def _policies_of(self, pod: Pod, direction: str) -> list[Resource]:
        """The policies that apply to a pod; they apply in their own namespace only."""
        if pod.other_namespace is not None:
            return []
        return [
            policy
            for policy in self.of("NetworkPolicy")
            if direction in policy["spec"]["policyTypes"]
            and selects(policy["spec"]["podSelector"], pod.labels)
        ]

    def _allows(
        self, direction: str, end: str, pod: Pod, peer: Pod, wanted: tuple[int, str]
    ) -> bool:
        policies = self._policies_of(pod, direction.capitalize())
        return not policies or any(
            _covers(rule, wanted)
            and (not rule.get(end) or any(_matches(other, peer) for other in rule[end]))
            for policy in policies
            for rule in policy["spec"].get(direction, ())
        )


def pod_of(workload: Resource) -> Pod:
    template = workload["spec"]["template"]
    labels = template.get("metadata", {}).get("labels", {})
    return Pod(workload["metadata"]["name"], workload["kind"], labels, template["spec"])


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of matchLabels and matchExpressions matches; an empty one always does."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In", "only In is supported here"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def _covers(rule: dict[str, Any], wanted: tuple[int, str]) -> bool:
    port, protocol = wanted
    return not rule.get("ports") or any(
        entry["port"] <= port <= entry.get("endPort", entry["port"])
        and entry.get("protocol", "TCP") == protocol
        for entry in rule["ports"]
    )


def _holds(block: dict[str, Any], address: str) -> bool:
    """Whether an ipBlock holds an address; one of the other family is in no block."""
    there = ipaddress.ip_address(address)
    return there in ipaddress.ip_network(block["cidr"]) and not any(
        there in ipaddress.ip_network(excepted) for excepted in block.get("except", ())
    )


def _matches(peer: dict[str, Any], pod: Pod) -> bool:
    """Whether a peer of a policy selects a pod.

    Without a pod selector it selects all pods of its namespaces; without a namespace selector, pods
    of the overlay's namespace.
    """
    if "ipBlock" in peer:
        return False
    in_namespace = (
        selects(peer["namespaceSelector"], pod.other_namespace or {})
        if "namespaceSelector" in peer
        else pod.other_namespace is None
    )
    return in_namespace and selects(peer.get("podSelector", {}), pod.labels)


def size(quantity: str) -> float:
    """A Kubernetes quantity, such as 500m, 64Mi or 1Gi, as a number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(quantity))
    assert match, f"{quantity} is not a quantity"
    number, unit = match.groups()
    return (
        float(number)
        * {"": 1, "m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "MB": 1e6, "GB": 1e9}[unit]
    )
