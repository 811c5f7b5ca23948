"""What the shop asks of a cluster: a drain, one node, its settings and roles, its jobs, its streams."""

import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from opentelemetry.sdk import environment_variables
from pydantic import ValidationError

from shared.owners import OWNERS
from shared.service import CANCEL_S, DRAIN_S
from shared.settings import ServiceSettings, mistakes, variable_of
from tests.manifests.cluster import Cluster, pod_of
from tests.manifests.rule import OURS, SETTINGS, containers, rule, said

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WAITING = ["--wait-s", "60"]
OF_TRACES = {name for name in dir(environment_variables) if name.startswith("OTEL_")}  # Read by the SDK itself.
CLOSING_S = 15  # The bus, the database and the door, after the loops (`shared/service.py`).


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
def keys_lead_to_the_node_whatever_else_is_away(cluster: Cluster) -> Iterator[str]:
    for service in cluster.of("Service"):
        if service["spec"].get("type") != "NodePort":
            continue
        if not service["spec"].get("publishNotReadyAddresses"):
            yield f"{said(service)}: nobody gets in while the service beside the node waits"
        for pod in cluster.selected({"matchLabels": service["spec"]["selector"]}):
            if service["spec"].get("externalTrafficPolicy") == "Local" and not pod.spec.get("nodeSelector"):
                yield f"{pod.owner}: keys lead to one machine, and it may run on another"


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
        for variable in seen.keys() - set().union(*known.values()) - OF_TRACES:
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
        if job["spec"]["template"]["spec"]["restartPolicy"] != "Never":
            yield f"Job {name}: the log of its last failure goes with its pod"
        if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            yield f"Job {name}: its pod does not tell why it failed"
        if OURS in image and container.get("args") != WAITING:
            yield f"Job {name}: what is not there at once is waited for from pod to pod"
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
