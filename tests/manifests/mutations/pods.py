"""Mutations of pods."""

from functools import partial

from tests.manifests.cluster import Cluster
from tests.manifests.mutations.mutation import (
    Mutation,
    container,
    job,
    pod,
    secret_name,
    variable,
)


def retag(cluster: Cluster, tag: str) -> None:
    container(cluster).update(image=f"ghcr.io/shop/turnpike-payments:{tag}")


MUTATIONS: list[Mutation] = [
    (
        "probes_use_declared_ports",
        lambda c: container(c)["readinessProbe"]["httpGet"].update(port="web"),
        "payments: its readinessProbe uses port web",
    ),
    (
        "probes_use_declared_ports",
        lambda c: container(c)["livenessProbe"].update(successThreshold=2),
        "payments: the successThreshold of a livenessProbe must be 1",
    ),
    (
        "probes_use_declared_ports",
        lambda c: container(c, "nats", "StatefulSet").pop("readinessProbe"),
        "nats: nats has no probes",
    ),
    (
        "probes_use_declared_ports",
        lambda c: container(c)["ports"][0].update(name="the-port-of-payments"),
        "a port's name has up to 15 lower case characters",
    ),
    (
        "services_are_probed_on_their_endpoints",
        lambda c: container(c)["readinessProbe"]["httpGet"].update(path="/healthz"),
        "payments: probes must use /livez, /livez and /readyz",
    ),
    (
        "services_are_probed_on_their_endpoints",
        lambda c: variable(container(c), "TURNPIKE_HTTP_HOST").update(value="127.0.0.1"),
        "payments: it does not listen where it is probed",
    ),
    (
        "volumes_are_declared_and_mounted",
        lambda c: pod(c, "Deployment", "payments").pop("volumes"),
        "Deployment payments: the volume tmp is not both declared and mounted",
    ),
    (
        "volumes_are_declared_and_mounted",
        lambda c: container(c)["volumeMounts"].append({"name": "tmp", "mountPath": "/tmp"}),
        "Deployment payments: one path has two volumes",
    ),
    (
        "references_resolve",
        lambda c: pod(c, "Deployment", "payments").update(serviceAccountName="payment"),
        "payments: there is no ServiceAccount payment",
    ),
    (
        "references_resolve",
        lambda c: c.named("Secret", secret_name(c))["data"].pop("TURNPIKE_BOT_TOKEN"),
        "has no TURNPIKE_BOT_TOKEN",
    ),
    (
        "references_resolve",
        lambda c: c.resources.remove(c.named("ConfigMap", "roles")),
        "make-roles-unreleased-18-6: there is no ConfigMap roles",
    ),
    (
        "pods_are_restricted",
        lambda c: c.named("Namespace", "turnpike")["metadata"]["labels"].clear(),
        "the namespace does not enforce restricted pods",
    ),
    (
        "pods_are_restricted",
        lambda c: pod(c, "Deployment", "payments").pop("securityContext"),
        "payments: it may run as root",
    ),
    (
        "pods_are_restricted",
        lambda c: pod(c, "Deployment", "payments").update(
            initContainers=[
                {"name": "first", "image": "busybox:1", "securityContext": {"runAsUser": 0}}
            ]
        ),
        "payments: first may gain rights, or write to its root",
    ),
    (
        "pods_are_restricted",
        lambda c: container(c)["securityContext"].update(runAsUser=0),
        "payments: service may run as root",
    ),
    (
        "pods_are_restricted",
        lambda c: pod(c, "Job", job(c, "make-roles")).update(hostNetwork=True),
        "make-roles-unreleased-18-6: it uses namespaces of its host",
    ),
    (
        "pods_are_restricted",
        lambda c: container(c)["securityContext"].update(
            capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}
        ),
        "payments: service keeps capabilities",
    ),
    (
        "pods_are_restricted",
        lambda c: container(c)["securityContext"].pop("readOnlyRootFilesystem"),
        "payments: service may gain rights, or write to its root",
    ),
    (
        "pods_are_restricted",
        lambda c: pod(c, "Deployment", "payments")["volumes"][0].update(hostPath={"path": "/"}),
        "payments: the volume tmp has a forbidden kind",
    ),
    (
        "pods_are_restricted",
        lambda c: pod(c, "Deployment", "payments").pop("enableServiceLinks"),
        "payments: it gets a token of the API, or variables of every service",
    ),
    (
        "requests_stay_below_limits",
        lambda c: container(c)["resources"]["requests"].update(memory="1Gi"),
        "payments: service requests more memory than its limit",
    ),
    (
        "requests_stay_below_limits",
        lambda c: container(c).pop("resources"),
        "payments: service lacks a request or a limit",
    ),
    (
        "nats_collects_garbage_in_time",
        lambda c: variable(container(c, "nats", "StatefulSet"), "GOMEMLIMIT").update(value="1GiB"),
        "nats: GOMEMLIMIT is 1GiB, not a tenth below",
    ),
    (
        "nats_collects_garbage_in_time",
        lambda c: container(c, "nats", "StatefulSet")["env"].remove(
            variable(container(c, "nats", "StatefulSet"), "GOMEMLIMIT")
        ),
        "nats: GOMEMLIMIT is None, not a tenth below",
    ),
    (
        "pods_spread_over_usable_nodes",
        lambda c: pod(c, "StatefulSet", "nats")["topologySpreadConstraints"][0].pop(
            "nodeTaintsPolicy"
        ),
        "nats: its spread counts nodes that accept no pod",
    ),
    (
        "pods_spread_over_usable_nodes",
        lambda c: pod(c, "Deployment", "payments")["topologySpreadConstraints"][0].update(
            labelSelector={"matchLabels": {"app": "payments"}}
        ),
        "payments: its spread counts other pods than its own",
    ),
    (
        "images_have_fixed_tags",
        lambda c: container(c).update(image="ghcr.io/example/turnpike-payments:latest"),
        "payments: ghcr.io/example/turnpike-payments:latest is not a fixed image",
    ),
    (
        "images_have_fixed_tags",
        lambda c: container(c).update(image="ghcr.io/example/turnpike-payments:another"),
        "Turnpike images have different tags: ['another', 'unreleased']",
    ),
    *(
        (
            "images_have_fixed_tags",
            partial(retag, tag=tag),
            f"payments: the tag {tag} is not 1 to 45 of a-z, 0-9 and inner hyphens",
        )
        for tag in ("V2", "1.2", "a_b", "a-", "-a", "a" * 46)
    ),
]
