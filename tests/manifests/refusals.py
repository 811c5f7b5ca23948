"""What a schema lets through and a real cluster, or the shop, does not: each rule yields a sentence per mistake.

`test_refusals.py` breaks a good overlay once for every rule here.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from shared.owners import OWNERS
from shared.service import CANCEL_S, DRAIN_S
from shared.settings import ServiceSettings, mistakes, variable_of
from tests.manifests.cluster import OPERATED, Cluster, Pod, pod_of, selects, size
from tests.manifests.kustomize import Resource

Rule = Callable[[Cluster], Iterator[str]]

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

SERVED = {
    *("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1"),
    OPERATED,
}
NOT_NAMESPACED = {"Namespace"}
SETTINGS: dict[str, type[ServiceSettings]] = {
    package.replace("_", "-"): import_module(f"{package}.settings").Settings for package in OWNERS.values()
}
OURS = "turnpike-"
CLOSING_S = 15  # The bus, the database and the door, after the loops (`shared/service.py`).
STABLE_SELECTORS = {"app.kubernetes.io/name"}
# What the operator makes beside the pods of its Cluster `postgres`.
OPERATED_SERVICES = {"postgres-rw": 5432}
OPERATED_SECRETS = {"postgres-superuser": {"password", "username"}}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    RULES.append(check)
    return check


def refusals(cluster: Cluster) -> list[str]:
    return [sentence for check in RULES for sentence in check(cluster)]


def said(resource: Resource) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


def containers(cluster: Cluster) -> Iterator[tuple[Pod, dict[str, Any]]]:
    for pod in ours(cluster):
        for container in pod.containers:
            yield pod, container


def ours(cluster: Cluster) -> list[Pod]:
    """Every pod but the operator's, which it makes right itself."""
    return [pod for pod in cluster.pods if pod.kind != "Cluster"]


# Names


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


# Who is meant


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


# Network policies


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


# Pods


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
        lasting = pod.kind != "Job"
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


# The shop


@rule
def a_stop_waits_for_the_drain(cluster: Cluster) -> Iterator[str]:
    for name in SETTINGS:
        pod = pod_of(cluster.named("Deployment", name))
        pause = pod.container("service").get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod.spec.get("terminationGracePeriodSeconds", 30) < pause + DRAIN_S + CANCEL_S + CLOSING_S:
            yield f"{name}: it is killed before it has drained"


@rule
def somebody_works_while_another_begins(cluster: Cluster) -> Iterator[str]:
    for name in SETTINGS:
        deployment = cluster.named("Deployment", name)
        strategy = deployment["spec"]["strategy"]
        rolling = strategy.get("rollingUpdate", {})
        alone = any(container["name"] == "node" for container in pod_of(deployment).containers)
        if alone and (strategy != {"type": "Recreate"} or deployment["spec"]["replicas"] != 1):
            yield f"{name}: two pods would each take their own node for the one node"
        if not alone and (rolling.get("maxUnavailable") != 0 or not rolling.get("maxSurge")):
            yield f"{name}: an update leaves nobody at work"
        seen = cluster.environment(pod_of(deployment).container("service"))
        polls = name == "bot-gateway" and seen.get("TURNPIKE_TELEGRAM_MODE") == "polling"
        if polls and deployment["spec"]["replicas"] != 1:
            yield f"{name}: only one polls, the others would wait"


@rule
def settings_are_those_of_the_services(cluster: Cluster) -> Iterator[str]:
    """Every variable is one that the service reads, and with these values it starts."""
    known = {name: {variable_of(of, field) for field in of.model_fields} for name, of in SETTINGS.items()}
    for name, settings in SETTINGS.items():
        container = pod_of(cluster.named("Deployment", name)).container("service")
        seen = cluster.environment(container)
        for variable in [variable["name"] for variable in container["env"]]:
            if variable not in known[name]:
                yield f"{name}: it does not read {variable}"
        for variable in seen.keys() - set().union(*known.values()):
            yield f"{name}: nobody reads {variable}"
        try:
            settings.model_validate({variable: seen[variable] for variable in seen} | _by_field(settings, seen))
        except ValidationError as error:
            yield from (f"{name}: {sentence}" for sentence in mistakes(settings, error))
    for pod, container in containers(cluster):
        names = Counter(variable["name"] for variable in container.get("env", ()))
        if any(count > 1 or not ENV_NAME.fullmatch(variable) for variable, count in names.items()):
            yield f"{pod.owner}: a variable is set twice, or its name is none"


def _by_field(settings: type[ServiceSettings], seen: dict[str, str]) -> dict[str, str]:
    """The environment as the settings' own fields: what pydantic-settings would read."""
    variables = {field: variable_of(settings, field) for field in settings.model_fields}
    return {field: seen[variable] for field, variable in variables.items() if variable in seen}


@rule
def roles_are_those_of_their_dsn(cluster: Cluster) -> Iterator[str]:
    """A service runs as its app role and sees no owner's DSN; a migration runs as the owner."""
    for owner, package in OWNERS.items():
        token, service = owner.upper(), package.replace("_", "-")
        seen = cluster.environment(pod_of(cluster.named("Deployment", service)).container("service"))
        if urlsplit(seen.get(f"TURNPIKE_{token}_DSN", "")).username != f"{owner}_app":
            yield f"{service}: its DSN is not of {owner}_app"
        for variable in seen:
            if variable.endswith("_OWNER_DSN") or (variable.endswith("_DSN") and token not in variable):
                yield f"{service}: it sees {variable}"


@rule
def every_service_is_prepared_by_jobs_of_its_own_image(cluster: Cluster) -> Iterator[str]:
    jobs = {job["metadata"]["name"]: job for job in cluster.of("Job")}
    commands = {name: " ".join(pod_of(job).container("job")["command"]) for name, job in jobs.items()}
    for wanted in [*(f"turnpike migrate {owner}" for owner in OWNERS), "turnpike streams"]:
        if list(commands.values()).count(wanted) != 1:
            yield f"there is not one job for `{wanted}`"
    for name, job in jobs.items():
        container = pod_of(job).container("job")
        image, _, tag = container["image"].rpartition(":")
        if OURS in image and not name.endswith(f"-{tag}"):
            yield f"Job {name}: it cannot be applied with another image under the same name"
        if job["spec"]["template"]["spec"]["restartPolicy"] not in ("Never", "OnFailure"):
            yield f"Job {name}: a job's pods do not restart always"
        if not job["spec"].get("ttlSecondsAfterFinished"):
            yield f"Job {name}: it stays for ever"
        _, _, owner = commands[name].partition("turnpike migrate ")
        if owner in OWNERS:
            if not image.endswith(f"{OURS}{OWNERS[owner].replace('_', '-')}"):
                yield f"Job {name}: another service's image does not know these migrations"
            dsn = cluster.environment(container).get(f"TURNPIKE_{owner.upper()}_OWNER_DSN", "")
            if urlsplit(dsn).username != f"{owner}_owner":
                yield f"Job {name}: it does not run as {owner}_owner"


@rule
def streams_have_as_many_servers_as_replicas(cluster: Cluster) -> Iterator[str]:
    servers = cluster.named("StatefulSet", "nats")["spec"]["replicas"]
    for pod, container in containers(cluster):
        wanted = int(cluster.environment(container).get("TURNPIKE_NATS_REPLICAS", "1"))
        if wanted > servers:
            yield f"{pod.owner}: streams on {wanted} servers, and there are {servers}"
    if servers % 2 == 0:
        yield "an even number of NATS servers survives no more than one fewer"
