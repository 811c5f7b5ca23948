"""What pods are made of: probes, volumes, references, rights, sizes, images."""

import re
from collections import Counter
from collections.abc import Iterator

from tests.manifests.cluster import Cluster, Pod, pod_of, selects, size
from tests.manifests.rule import OURS, SETTINGS, containers, ours, rule, said

PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
# What the operator makes beside the pods of its Cluster `postgres`.
OPERATED_SECRETS = {"postgres-superuser": {"password", "username"}}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


@rule
def probes_ask_ports_that_are_there(cluster: Cluster) -> Iterator[str]:
    for pod, container in containers(cluster):
        ports = [port.get("name") for port in container.get("ports", ())]
        for name in ports:
            if not PORT_NAME.fullmatch(name or ""):
                yield f"{pod.owner}: a port's name is up to 15 small letters, not {name!r}"
        for name, probe in container.items():
            if not name.endswith("Probe"):
                continue
            asked = probe.get("httpGet") or probe.get("tcpSocket")
            if asked and asked["port"] not in ports:
                yield f"{pod.owner}: its {name} asks the port {asked['port']}, which is not there"
            if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
                yield f"{pod.owner}: the successThreshold of a {name} is 1"
        lasting = pod.kind != "Job" and container in pod.spec["containers"]
        if lasting and not {"livenessProbe", "readinessProbe"} <= container.keys():
            yield f"{pod.owner}: {container['name']} has no probes"


@rule
def services_are_asked_what_they_answer(cluster: Cluster) -> Iterator[str]:
    for name in SETTINGS:
        container = pod_of(cluster.named("Deployment", name)).container("service")
        paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
        if paths != ["/livez", "/livez", "/readyz"]:
            yield f"{name}: probes ask /livez, /livez and /readyz, not {paths}"
        (port,) = container["ports"]
        seen = cluster.environment(container)
        if (seen.get("TURNPIKE_HTTP_HOST"), seen.get("TURNPIKE_HTTP_PORT")) != ("0.0.0.0", str(port["containerPort"])):
            yield f"{name}: it does not listen where it is asked"


@rule
def volumes_are_there_and_used(cluster: Cluster) -> Iterator[str]:
    for workload in cluster.of("Deployment", "StatefulSet", "Job"):
        pod = pod_of(workload)
        claimed = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        there = {volume["name"] for volume in pod.spec.get("volumes", ())} | claimed
        mounts = [mount for container in pod.containers for mount in container.get("volumeMounts", ())]
        for name in {mount["name"] for mount in mounts} ^ there:
            yield f"{said(workload)}: the volume {name} is mounted or there, not both"
        for container in pod.containers:
            paths = Counter(mount["mountPath"] for mount in container.get("volumeMounts", ()))
            if any(count > 1 for count in paths.values()):
                yield f"{said(workload)}: two volumes are mounted at one path"


@rule
def what_is_referred_to_exists(cluster: Cluster) -> Iterator[str]:
    for pod in ours(cluster):
        account = pod.spec.get("serviceAccountName")
        if account is not None and account not in cluster.names("ServiceAccount"):
            yield f"{pod.owner}: there is no ServiceAccount {account}"
        for kind, name, key in _references(pod):
            operated = OPERATED_SECRETS.get(name, set()) if kind == "Secret" and list(cluster.operated) else set()
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
    """The profile `restricted` that the namespace enforces, and a root that nobody writes to."""
    (namespace,) = cluster.of("Namespace")
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce restricted pods"
    for pod in ours(cluster):
        wanted = pod.spec.get("securityContext", {})
        if not wanted.get("runAsNonRoot") or not wanted.get("runAsUser"):
            yield f"{pod.owner}: it may run as root"
        if wanted.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.owner}: it has no seccomp profile"
        if pod.spec.get("automountServiceAccountToken") is not False or pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.owner}: it is given a token, or variables of every service"
        if any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{pod.owner}: it is at home on its host"
        for volume in pod.spec.get("volumes", ()):
            if not volume.keys() - {"name"} <= VOLUMES:
                yield f"{pod.owner}: the volume {volume['name']} is of a kind that is refused"
    for pod, container in containers(cluster):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("readOnlyRootFilesystem") is not True:
            yield f"{pod.owner}: {container['name']} may get rights, or write to its root"
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
            yield f"{pod.owner}: {container['name']} does not say what it needs"
        for what in requests.keys() & limits.keys():
            if size(requests[what]) > size(limits[what]):
                yield f"{pod.owner}: {container['name']} asks for more {what} than it may have"


@rule
def pods_are_spread_over_nodes_that_would_take_them(cluster: Cluster) -> Iterator[str]:
    """A tainted node is counted unless one says otherwise: it is for ever empty, so no other may take a second pod."""
    for pod in ours(cluster):
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            if not selects(spread["labelSelector"], pod.labels):
                yield f"{pod.owner}: it is spread among others than its own"
            if spread["whenUnsatisfiable"] == "DoNotSchedule" and spread.get("nodeTaintsPolicy") != "Honor":
                yield f"{pod.owner}: it waits for a node that takes nobody"


@rule
def images_have_a_tag_and_ours_have_one(cluster: Cluster) -> Iterator[str]:
    tags = set()
    for pod, container in containers(cluster):
        _, _, tag = container["image"].rpartition(":")
        if "/" in tag or tag in ("", "latest") or ":" not in container["image"]:
            yield f"{pod.owner}: {container['image']} can be another image tomorrow"
        if OURS in container["image"]:
            tags.add(tag)
    if len(tags) > 1:
        yield f"our images are of different commits: {sorted(tags)}"
