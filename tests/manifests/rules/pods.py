"""Pods: probes, volumes, references, rights, resources, images."""

import re
from collections import Counter
from collections.abc import Iterator

from tests.manifests.cluster import Cluster, Pod, pod_of, selects, size
from tests.manifests.rules.rule import (
    OUR_IMAGES,
    SETTINGS,
    containers,
    our_pods,
    rule,
    title,
)

# The tag is a part of the jobs' names, which are labels of their pods. RFC 1123 allows 63
# characters, and `migrate-referrals-` has 18.
OUR_TAG = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
# CloudNativePG makes these secrets from the Cluster `postgres`.
OPERATED_SECRETS = {"postgres-superuser": {"password", "username"}}
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


@rule
def probes_use_declared_ports(cluster: Cluster) -> Iterator[str]:
    for pod, container in containers(cluster):
        ports = [port.get("name") for port in container.get("ports", ())]
        for name in ports:
            if not PORT_NAME.fullmatch(name or ""):
                yield f"{pod.owner}: a port's name has up to 15 lower case characters, not {name!r}"
        for name, probe in container.items():
            if not name.endswith("Probe"):
                continue
            target = probe.get("httpGet") or probe.get("tcpSocket")
            if target and target["port"] not in ports:
                yield f"{pod.owner}: its {name} uses port {target['port']}, which is not declared"
            if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
                yield f"{pod.owner}: the successThreshold of a {name} must be 1"
        lasting = pod.kind != "Job" and container in pod.spec["containers"]
        if lasting and not {"livenessProbe", "readinessProbe"} <= container.keys():
            yield f"{pod.owner}: {container['name']} has no probes"


@rule
def services_are_probed_on_their_endpoints(cluster: Cluster) -> Iterator[str]:
    for name in SETTINGS:
        container = pod_of(cluster.named("Deployment", name)).container("service")
        paths = [
            container[f"{kind}Probe"]["httpGet"]["path"]
            for kind in ("startup", "liveness", "readiness")
        ]
        if paths != ["/livez", "/livez", "/readyz"]:
            yield f"{name}: probes must use /livez, /livez and /readyz, not {paths}"
        (port,) = container["ports"]
        known = cluster.environment(container)
        address = known.get("TURNPIKE_HTTP_HOST"), known.get("TURNPIKE_HTTP_PORT")
        if address != ("0.0.0.0", str(port["containerPort"])):
            yield f"{name}: it does not listen where it is probed"


@rule
def volumes_are_declared_and_mounted(cluster: Cluster) -> Iterator[str]:
    for workload in cluster.of("Deployment", "StatefulSet", "Job"):
        pod = pod_of(workload)
        claimed = {
            claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())
        }
        declared = {volume["name"] for volume in pod.spec.get("volumes", ())} | claimed
        mounts = [
            mount for container in pod.containers for mount in container.get("volumeMounts", ())
        ]
        for name in {mount["name"] for mount in mounts} ^ declared:
            yield f"{title(workload)}: the volume {name} is not both declared and mounted"
        for container in pod.containers:
            paths = Counter(mount["mountPath"] for mount in container.get("volumeMounts", ()))
            if any(count > 1 for count in paths.values()):
                yield f"{title(workload)}: one path has two volumes"


@rule
def references_resolve(cluster: Cluster) -> Iterator[str]:
    for pod in our_pods(cluster):
        account = pod.spec.get("serviceAccountName")
        if account is not None and account not in cluster.names("ServiceAccount"):
            yield f"{pod.owner}: there is no ServiceAccount {account}"
        for kind, name, key in _references(pod):
            operated = (
                OPERATED_SECRETS.get(name, set())
                if kind == "Secret" and list(cluster.operated)
                else set()
            )
            if name in cluster.names(kind):
                if key is not None and key not in cluster.contents(kind, name):
                    yield f"{pod.owner}: the {kind} {name} has no {key}"
            elif key not in operated:
                yield f"{pod.owner}: there is no {kind} {name}"


def _references(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    for volume in pod.spec.get("volumes", ()):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
    for container in pod.containers:
        for source in container.get("envFrom", ()):
            yield "ConfigMap", source["configMapRef"]["name"], None
        for variable in container.get("env", ()):
            wanted = variable.get("valueFrom", {}).get("secretKeyRef")
            if wanted:
                yield "Secret", wanted["name"], wanted["key"]


@rule
def pods_are_restricted(cluster: Cluster) -> Iterator[str]:
    """Pods fit the profile `restricted`, and their root file systems are read-only."""
    (namespace,) = cluster.of("Namespace")
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce restricted pods"
    for pod in our_pods(cluster):
        wanted = pod.spec.get("securityContext", {})
        if not wanted.get("runAsNonRoot") or not wanted.get("runAsUser"):
            yield f"{pod.owner}: it may run as root"
        if wanted.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.owner}: it has no seccomp profile"
        if (
            pod.spec.get("automountServiceAccountToken") is not False
            or pod.spec.get("enableServiceLinks") is not False
        ):
            yield f"{pod.owner}: it gets a token of the API, or variables of every service"
        if any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{pod.owner}: it uses namespaces of its host"
        for volume in pod.spec.get("volumes", ()):
            if not volume.keys() - {"name"} <= VOLUMES:
                yield f"{pod.owner}: the volume {volume['name']} has a forbidden kind"
    for pod, container in containers(cluster):
        context = container.get("securityContext", {})
        if (
            context.get("allowPrivilegeEscalation") is not False
            or context.get("readOnlyRootFilesystem") is not True
        ):
            yield f"{pod.owner}: {container['name']} may gain rights, or write to its root"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{pod.owner}: {container['name']} keeps capabilities"
        if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            yield f"{pod.owner}: {container['name']} may run as root"


@rule
def requests_stay_below_limits(cluster: Cluster) -> Iterator[str]:
    for pod, container in containers(cluster):
        resources = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
            yield f"{pod.owner}: {container['name']} lacks a request or a limit"
        for resource in requests.keys() & limits.keys():
            if size(requests[resource]) > size(limits[resource]):
                yield f"{pod.owner}: {container['name']} requests more {resource} than its limit"


@rule
def nats_collects_garbage_in_time(cluster: Cluster) -> Iterator[str]:
    """Go's limit leaves a tenth of the pod's memory to what is not on its heap."""
    container = pod_of(cluster.named("StatefulSet", "nats")).container("nats")
    limit = size(container["resources"]["limits"]["memory"])
    ours = cluster.environment(container).get("GOMEMLIMIT")
    if ours is None or size(ours.removesuffix("B")) > 0.9 * limit:
        yield f"nats: GOMEMLIMIT is {ours}, not a tenth below the limit of its memory"


@rule
def pods_spread_over_usable_nodes(cluster: Cluster) -> Iterator[str]:
    """Spread constraints count own pods, and only nodes that accept them.

    By default a tainted node is counted as well. It stays empty, so no other node could take a
    second pod.
    """
    for pod in our_pods(cluster):
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            if not selects(spread["labelSelector"], pod.labels):
                yield f"{pod.owner}: its spread counts other pods than its own"
            if (
                spread["whenUnsatisfiable"] == "DoNotSchedule"
                and spread.get("nodeTaintsPolicy") != "Honor"
            ):
                yield f"{pod.owner}: its spread counts nodes that accept no pod"


@rule
def images_have_fixed_tags(cluster: Cluster) -> Iterator[str]:
    tags = set()
    for pod, container in containers(cluster):
        _, _, tag = container["image"].rpartition(":")
        if "/" in tag or tag in ("", "latest") or ":" not in container["image"]:
            yield f"{pod.owner}: {container['image']} is not a fixed image"
        if OUR_IMAGES in container["image"]:
            tags.add(tag)
            if not OUR_TAG.fullmatch(tag):
                yield f"{pod.owner}: the tag {tag} is not 1 to 45 of a-z, 0-9 and inner hyphens"
    if len(tags) > 1:
        yield f"Turnpike images have different tags: {sorted(tags)}"
