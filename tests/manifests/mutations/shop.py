"""Mutations of the shop's needs."""

from base64 import b64encode

from tests.manifests.cluster import Cluster
from tests.manifests.mutations.mutation import (
    Mutation,
    container,
    job,
    pod,
    settings,
    spec,
    variable,
)


def settings_of_jobs(cluster: Cluster) -> dict[str, str]:
    data: dict[str, str] = cluster.named("ConfigMap", "turnpike-jobs")["data"]
    return data


def rewrite(cluster: Cluster, prefix: str, old: str, new: str) -> None:
    """Replace a word in every value of the secret whose name begins so."""
    (name,) = (name for name in cluster.names("Secret") if name.startswith(prefix))
    data = cluster.named("Secret", name)["data"]
    for key, value in cluster.contents("Secret", name).items():
        data[key] = b64encode(value.replace(old, new).encode()).decode()


MUTATIONS: list[Mutation] = [
    (
        "grace_period_covers_the_drain",
        lambda c: pod(c, "Deployment", "payments").update(terminationGracePeriodSeconds=20),
        "payments: it is killed before it has drained",
    ),
    (
        "updates_keep_services_running",
        lambda c: spec(c, "Deployment", "payments")["strategy"].update(
            rollingUpdate={"maxUnavailable": 1}
        ),
        "payments: an update leaves no pod running",
    ),
    (
        "updates_keep_services_running",
        lambda c: spec(c, "Deployment", "vpn-provisioner").update(replicas=2),
        "vpn-provisioner: with two pods, each would treat its own node as the only one",
    ),
    (
        "updates_keep_services_running",
        lambda c: settings(c, container(c, "bot-gateway")).update(TURNPIKE_TELEGRAM_MODE="polling"),
        "bot-gateway: only one replica can poll",
    ),
    (
        "node_is_reachable_by_itself",
        lambda c: spec(c, "Service", "node").pop("publishNotReadyAddresses"),
        "Service node: the node is unreachable while its service waits",
    ),
    (
        "node_is_reachable_by_itself",
        lambda c: pod(c, "Deployment", "vpn-provisioner").pop("nodeSelector"),
        "vpn-provisioner: keys lead to one machine, and the pod may run on another",
    ),
    (
        "node_is_reachable_by_itself",
        lambda c: (
            spec(c, "Service", "node").update(type="LoadBalancer"),
            spec(c, "Service", "node").pop("publishNotReadyAddresses"),
        ),
        "Service node: the node is unreachable while its service waits",
    ),
    (
        "keys_lead_to_the_node",
        lambda c: spec(c, "Service", "node")["ports"][0].update(nodePort=30444),
        "Service node: keys lead to port 30443, and people reach 30444",
    ),
    (
        "keys_lead_to_the_node",
        lambda c: spec(c, "Service", "node").update(type="LoadBalancer"),
        "Service node: keys lead to port 30443, and people reach 443",
    ),
    (
        "keys_lead_to_the_node",
        lambda c: rewrite(c, "node-", "www.large-site.test", "another.test"),
        "vpn-provisioner: keys show the name 'www.large-site.test', which the node does not know",
    ),
    (
        "production_has_no_example_names",
        lambda c: settings_of_jobs(c).update(TURNPIKE_SUPPORT_CONTACT="@example_support"),
        "TURNPIKE_SUPPORT_CONTACT: @example_support is an example; write your own",
    ),
    (
        "production_has_no_example_names",
        lambda c: spec(c, "Ingress", "telegram")["rules"][0].update(host="bot.example.org"),
        "Ingress telegram: bot.example.org is an example; write your own",
    ),
    (
        "production_has_no_example_names",
        lambda c: container(c, "notifier").update(image="ghcr.io/example/turnpike-notifier:1"),
        "notifier: ghcr.io/example/turnpike-notifier:1 is an example; write your own",
    ),
    (
        "production_has_no_example_names",
        lambda c: rewrite(c, "vpn-provisioner-", "vpn.shop.test", "vpn.example.org"),
        "TURNPIKE_VPN_XRAY_LINK: vpn.example.org is an example; write your own",
    ),
    (
        "production_has_no_example_names",
        lambda c: rewrite(c, "node-", "www.large-site.test", "www.example.com"),
        "node.json: www.example.com is an example; write your own",
    ),
    (
        "variables_fit_the_settings",
        lambda c: container(c)["env"].append({"name": "TURNPIKE_BOT_TOKEN", "value": "1:a"}),
        "payments: it does not read TURNPIKE_BOT_TOKEN",
    ),
    (
        "variables_fit_the_settings",
        lambda c: variable(container(c), "TURNPIKE_PAYMENTS_DSN").update(
            name="TURNPIKE_PAYMENT_DSN"
        ),
        "payments: TURNPIKE_PAYMENTS_DSN is not set.",
    ),
    (
        "variables_fit_the_settings",
        lambda c: container(c, "bot-gateway")["env"].remove(
            variable(container(c, "bot-gateway"), "TURNPIKE_TELEGRAM_WEBHOOK_SECRET")
        ),
        "TURNPIKE_TELEGRAM_WEBHOOK_SECRET is not usable: the mode webhook needs a secret",
    ),
    (
        "variables_fit_the_settings",
        lambda c: settings(c, container(c)).update(TURNPIKE_TELEGRAM_MOOD="polling"),
        "payments: no service reads TURNPIKE_TELEGRAM_MOOD",
    ),
    (
        "variables_fit_the_settings",
        lambda c: settings(c, container(c)).update(OTEL_EXPORTER_ENDPOINT="http://c:4318"),
        "payments: no service reads OTEL_EXPORTER_ENDPOINT",
    ),
    (
        "variables_fit_the_settings",
        lambda c: container(c)["env"].append({"name": "TURNPIKE_HTTP_PORT", "value": "8080"}),
        "payments: a variable is set twice",
    ),
    (
        "services_use_their_own_role",
        lambda c: variable(container(c), "TURNPIKE_PAYMENTS_DSN")["valueFrom"].update(
            secretKeyRef={"name": "turnpike-jobs", "key": "TURNPIKE_PAYMENTS_OWNER_DSN"}
        ),
        "payments: its DSN is not that of payments_app",
    ),
    (
        "services_use_their_own_role",
        lambda c: container(c)["env"].append(
            variable(container(c, "referrals"), "TURNPIKE_REFERRALS_DSN")
        ),
        "payments: it sees TURNPIKE_REFERRALS_DSN",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: c.named("Job", job(c, "migrate-vpn"))["metadata"].update(name="migrate-vpn"),
        "Job migrate-vpn: its name must change with its image",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: c.named("Job", job(c, "make-roles"))["metadata"].update(
            name="make-roles-unreleased"
        ),
        "Job make-roles-unreleased: its name must change with its image",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: c.resources.remove(c.named("Job", job(c, "migrate-vpn"))),
        "`turnpike migrate vpn-provisioner` needs exactly one job",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: container(c, job(c, "migrate-vpn"), "Job").update(image=container(c)["image"]),
        "the image of another service lacks these migrations",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: pod(c, "Job", job(c, "make-streams")).update(restartPolicy="OnFailure"),
        "Job make-streams-unreleased: the log of its last failure is lost with its pod",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: container(c, job(c, "make-roles"), "Job").pop("terminationMessagePolicy"),
        "Job make-roles-unreleased-18-6: its pod does not show the reason of a failure",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: container(c, job(c, "migrate-bot"), "Job").pop("args"),
        "Job migrate-bot-unreleased: it must wait for its dependencies before it fails",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: spec(c, "Job", job(c, "make-streams")).pop("ttlSecondsAfterFinished"),
        "Job make-streams-unreleased: it is never removed",
    ),
    (
        "jobs_prepare_every_service",
        lambda c: variable(container(c, job(c, "migrate-vpn"), "Job"), "TURNPIKE_VPN_OWNER_DSN")[
            "valueFrom"
        ].update(secretKeyRef={"name": "turnpike-jobs", "key": "TURNPIKE_VPN_DSN"}),
        "Job migrate-vpn-unreleased: it does not run as vpn_owner",
    ),
    (
        "nats_has_enough_servers",
        lambda c: spec(c, "StatefulSet", "nats").update(replicas=1),
        "payments: streams need 3 servers, and there are 1",
    ),
    (
        "nats_has_enough_servers",
        lambda c: spec(c, "StatefulSet", "nats").update(replicas=4),
        "an even number of NATS servers",
    ),
]
