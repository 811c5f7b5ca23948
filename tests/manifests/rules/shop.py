"""The shop's needs of a cluster: drain, node, settings, roles, jobs and streams."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from opentelemetry.sdk import environment_variables
from pydantic import ValidationError

from shared.contracts.owners import OWNERS
from shared.platform.settings import ServiceSettings, mistakes, variable_of
from shared.service import CANCEL_S, DRAIN_S
from tests.manifests.cluster import Cluster, pod_of
from tests.manifests.rules.rule import OUR_IMAGES, SETTINGS, containers, rule, title
from turnpike_cli.services import OWNER_OF

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NODE_LINK = "TURNPIKE_VPN_XRAY_LINK"
WAITING = ["--wait-s", "60"]
# OpenTelemetry's SDK reads these variables itself.
OTEL_VARIABLES = {name for name in dir(environment_variables) if name.startswith("OTEL_")}
# For NATS, the database and the HTTP server, after the loops (`shared/service.py`).
CLOSING_S = 15


@rule
def grace_period_covers_the_drain(cluster: Cluster) -> Iterator[str]:
    for name in SETTINGS:
        pod = pod_of(cluster.named("Deployment", name))
        lifecycle = pod.container("service").get("lifecycle", {})
        pause_s = lifecycle.get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace_s = pod.spec.get("terminationGracePeriodSeconds", 30)
        if grace_s < pause_s + DRAIN_S + CANCEL_S + CLOSING_S:
            yield f"{name}: it is killed before it has drained"


@rule
def updates_keep_services_running(cluster: Cluster) -> Iterator[str]:
    for name in SETTINGS:
        deployment = cluster.named("Deployment", name)
        strategy = deployment["spec"]["strategy"]
        rolling = strategy.get("rollingUpdate", {})
        alone = any(container["name"] == "node" for container in pod_of(deployment).containers)
        if alone and (strategy != {"type": "Recreate"} or deployment["spec"]["replicas"] != 1):
            yield f"{name}: with two pods, each would treat its own node as the only one"
        if not alone and (rolling.get("maxUnavailable") != 0 or not rolling.get("maxSurge")):
            yield f"{name}: an update leaves no pod running"
        environment = cluster.environment(pod_of(deployment).container("service"))
        polls = name == "bot-gateway" and environment.get("TURNPIKE_TELEGRAM_MODE") == "polling"
        if polls and deployment["spec"]["replicas"] != 1:
            yield f"{name}: only one replica can poll"


@rule
def node_is_reachable_by_itself(cluster: Cluster) -> Iterator[str]:
    for service in cluster.of("Service"):
        kind = service["spec"].get("type")
        if kind not in ("NodePort", "LoadBalancer"):
            continue
        if not service["spec"].get("publishNotReadyAddresses"):
            yield f"{title(service)}: the node is unreachable while its service waits"
        for pod in cluster.selected({"matchLabels": service["spec"]["selector"]}):
            local = service["spec"].get("externalTrafficPolicy") == "Local"
            if kind == "NodePort" and local and not pod.spec.get("nodeSelector"):
                yield f"{pod.owner}: keys lead to one machine, and the pod may run on another"


@rule
def keys_lead_to_the_node(cluster: Cluster) -> Iterator[str]:
    """The link of keys has the port that people reach, and a name that the node answers to."""
    pod = pod_of(cluster.named("Deployment", "vpn-provisioner"))
    link = urlsplit(cluster.environment(pod.container("service")).get(NODE_LINK, ""))
    for service in cluster.of("Service"):
        if service["metadata"]["name"] != "node":
            continue
        (port,) = service["spec"]["ports"]
        balanced = service["spec"]["type"] == "LoadBalancer"
        reached = port["port"] if balanced else port.get("nodePort")
        if link.port != reached:
            yield f"{title(service)}: keys lead to port {link.port}, and people reach {reached}"
        shown = parse_qs(link.query).get("sni", [""])[0]
        if shown not in _node_names(cluster):
            yield f"{pod.owner}: keys show the name {shown!r}, which the node does not know"


def _node_names(cluster: Cluster) -> list[str]:
    """The names that the node's REALITY answers to."""
    secrets = [name for name in cluster.names("Secret") if re.fullmatch(r"node(-\w+)?", name)]
    return [
        shown
        for secret in secrets
        for inbound in json.loads(cluster.contents("Secret", secret)["node.json"])["inbounds"]
        for shown in inbound["streamSettings"]["realitySettings"]["serverNames"]
    ]


@rule
def production_has_no_example_names(cluster: Cluster) -> Iterator[str]:
    """Telegram, buyers and registries would look for these names; REALITY would show them."""
    settings = cluster.contents("ConfigMap", "turnpike-jobs")
    if settings.get("TURNPIKE_TELEGRAM_MODE") != "webhook":
        return
    pod = pod_of(cluster.named("Deployment", "vpn-provisioner"))
    link = urlsplit(cluster.environment(pod.container("service")).get(NODE_LINK, ""))
    places = [
        *settings.items(),
        *(
            (title(ingress), entry["host"])
            for ingress in cluster.of("Ingress")
            for entry in ingress["spec"]["rules"]
        ),
        *((pod.owner, container["image"]) for pod, container in containers(cluster)),
        (NODE_LINK, link.hostname or ""),
        *(("node.json", shown) for shown in _node_names(cluster)),
    ]
    for place, name in places:
        if re.search(r"(?i)\bexample(_|\b)", name):
            yield f"{place}: {name} is an example; write your own"


@rule
def variables_fit_the_settings(cluster: Cluster) -> Iterator[str]:
    """A service reads every variable that it gets, and it starts with these values."""
    known = {
        name: {variable_of(of, field) for field in of.model_fields} for name, of in SETTINGS.items()
    }
    for name, settings in SETTINGS.items():
        container = pod_of(cluster.named("Deployment", name)).container("service")
        environment = cluster.environment(container)
        for variable in [variable["name"] for variable in container["env"]]:
            if variable not in known[name]:
                yield f"{name}: it does not read {variable}"
        for variable in environment.keys() - set().union(*known.values()) - OTEL_VARIABLES:
            yield f"{name}: no service reads {variable}"
        try:
            settings.model_validate(environment | _by_field(settings, environment))
        except ValidationError as error:
            yield from (f"{name}: {sentence}" for sentence in mistakes(settings, error))
    for pod, container in containers(cluster):
        names = Counter(variable["name"] for variable in container.get("env", ()))
        if any(count > 1 or not ENV_NAME.fullmatch(variable) for variable, count in names.items()):
            yield f"{pod.owner}: a variable is set twice, or its name is not valid"


def _by_field(settings: type[ServiceSettings], environment: dict[str, str]) -> dict[str, str]:
    """The environment by the fields of the settings, as pydantic-settings reads it."""
    variables = {field: variable_of(settings, field) for field in settings.model_fields}
    return {
        field: environment[variable]
        for field, variable in variables.items()
        if variable in environment
    }


@rule
def services_use_their_own_role(cluster: Cluster) -> Iterator[str]:
    """A service has the DSN of its application role, and no other DSN."""
    for owner, package in OWNERS.items():
        token, service = owner.upper(), package.replace("_", "-")
        container = pod_of(cluster.named("Deployment", service)).container("service")
        environment = cluster.environment(container)
        if urlsplit(environment.get(f"TURNPIKE_{token}_DSN", "")).username != f"{owner}_app":
            yield f"{service}: its DSN is not that of {owner}_app"
        for variable in environment:
            if variable.endswith("_OWNER_DSN") or (
                variable.endswith("_DSN") and token not in variable
            ):
                yield f"{service}: it sees {variable}"


@rule
def jobs_prepare_every_service(cluster: Cluster) -> Iterator[str]:
    """Each service has one migration job, of its own image, that runs as the schema's owner."""
    jobs = {job["metadata"]["name"]: job for job in cluster.of("Job")}
    commands = {
        name: " ".join(pod_of(job).container("job")["command"]) for name, job in jobs.items()
    }
    for wanted in [*(f"turnpike migrate {name}" for name in OWNER_OF), "turnpike streams"]:
        if list(commands.values()).count(wanted) != 1:
            yield f"`{wanted}` needs exactly one job"
    ours = pod_of(cluster.named("Deployment", "payments")).containers[0]["image"].split(":")[-1]
    for name, job in jobs.items():
        container = pod_of(job).container("job")
        image, _, tag = container["image"].rpartition(":")
        of_postgres = "" if OUR_IMAGES in image else "-" + "-".join(tag.split("."))
        if not name.endswith(f"-{ours}{of_postgres}"):
            yield f"Job {name}: its name must change with its image, and with the services'"
        if job["spec"]["template"]["spec"]["restartPolicy"] != "Never":
            yield f"Job {name}: the log of its last failure is lost with its pod"
        if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            yield f"Job {name}: its pod does not show the reason of a failure"
        if OUR_IMAGES in image and container.get("args") != WAITING:
            yield f"Job {name}: it must wait for its dependencies before it fails"
        if not job["spec"].get("ttlSecondsAfterFinished"):
            yield f"Job {name}: it is never removed"
        _, _, service = commands[name].partition("turnpike migrate ")
        if owner := OWNER_OF.get(service):
            if not image.endswith(f"{OUR_IMAGES}{service}"):
                yield f"Job {name}: the image of another service lacks these migrations"
            dsn = cluster.environment(container).get(f"TURNPIKE_{owner.upper()}_OWNER_DSN", "")
            if urlsplit(dsn).username != f"{owner}_owner":
                yield f"Job {name}: it does not run as {owner}_owner"


@rule
def nats_has_enough_servers(cluster: Cluster) -> Iterator[str]:
    servers = cluster.named("StatefulSet", "nats")["spec"]["replicas"]
    for pod, container in containers(cluster):
        wanted = int(cluster.environment(container).get("TURNPIKE_NATS_REPLICAS", "1"))
        if wanted > servers:
            yield f"{pod.owner}: streams need {wanted} servers, and there are {servers}"
    if servers % 2 == 0:
        yield "an even number of NATS servers survives no more failures than one fewer"
