"""Every rule can say no: a good overlay, broken in one place, is refused with the sentence that names it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.manifests.cluster import Cluster
from tests.manifests.refusals import RULES

Break = Callable[[Cluster], object]


def spec(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.named(kind, name)["spec"]
    return found


def pod(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = spec(cluster, kind, name)["template"]["spec"]
    return found


def container(cluster: Cluster, name: str = "payments", kind: str = "Deployment") -> dict[str, Any]:
    found: dict[str, Any] = pod(cluster, kind, name)["containers"][0]
    return found


def job(cluster: Cluster, start: str) -> str:
    return next(name for name in cluster.names("Job") if name.startswith(start))


def variable(found: dict[str, Any], name: str) -> dict[str, Any]:
    one: dict[str, Any] = next(entry for entry in found["env"] if entry["name"] == name)
    return one


def secret_name(cluster: Cluster) -> str:
    return next(name for name in cluster.names("Secret") if name.startswith("turnpike-") and name != "turnpike-jobs")


BROKEN: list[tuple[str, Break, str]] = [
    (
        "names_are_dns_labels_and_met_once",
        lambda c: c.named("Service", "payments")["metadata"].update(name="pay_ments"),
        "Service pay_ments: the name is no DNS label",
    ),
    (
        "names_are_dns_labels_and_met_once",
        lambda c: c.resources.append(c.named("Service", "payments")),
        "Service payments is there 2 times",
    ),
    (
        "names_are_dns_labels_and_met_once",
        lambda c: c.named("Deployment", "payments").update(apiVersion="apps/v1beta1"),
        "apps/v1beta1 is served by no cluster",
    ),
    (
        "everything_is_in_the_one_namespace",
        lambda c: c.named("Secret", "turnpike-jobs")["metadata"].update(namespace="default"),
        "Secret turnpike-jobs: it is in another namespace",
    ),
    (
        "labels_are_well_formed",
        lambda c: c.named("Deployment", "payments")["metadata"]["labels"].update(note="two words"),
        "the label note cannot be 'two words'",
    ),
    (
        "selectors_match_their_own_pods_and_no_others",
        lambda c: spec(c, "Deployment", "payments")["template"]["metadata"]["labels"].update(
            {"app.kubernetes.io/name": "payment"}
        ),
        "Deployment payments: the selector does not match its own pods",
    ),
    (
        "selectors_match_their_own_pods_and_no_others",
        lambda c: spec(c, "Deployment", "payments")["template"]["metadata"]["labels"].update(
            {"app.kubernetes.io/name": "notifier"}
        ),
        "Deployment notifier: the selector matches pods of another workload",
    ),
    (
        "selectors_match_their_own_pods_and_no_others",
        lambda c: spec(c, "Deployment", "payments")["selector"]["matchLabels"].update({"version": "1"}),
        "a selector can never be changed",
    ),
    (
        "services_lead_to_pods_and_their_ports",
        lambda c: spec(c, "Service", "nats")["selector"].update({"app.kubernetes.io/name": "nat"}),
        "Service nats: it leads to no pod",
    ),
    (
        "services_lead_to_pods_and_their_ports",
        lambda c: spec(c, "Service", "payments")["ports"][0].update(targetPort="web"),
        "Service payments: payments has no port web",
    ),
    (
        "services_lead_to_pods_and_their_ports",
        lambda c: spec(c, "StatefulSet", "nats").update(serviceName="nats-node"),
        "StatefulSet nats: its service is missing",
    ),
    (
        "budgets_have_one_bound_and_pods",
        lambda c: spec(c, "PodDisruptionBudget", "payments").update(minAvailable=1),
        "PodDisruptionBudget payments: it has to have exactly one bound",
    ),
    (
        "budgets_have_one_bound_and_pods",
        lambda c: spec(c, "PodDisruptionBudget", "payments")["selector"].update(matchLabels={"app": "payments"}),
        "PodDisruptionBudget payments: it protects no pod",
    ),
    (
        "ingresses_lead_to_what_the_webhook_is_told",
        lambda c: spec(c, "Ingress", "telegram")["rules"][0].update(host="bots.example.org"),
        "Telegram is told 'https://bot.example.org/telegram', and this is another door",
    ),
    (
        "ingresses_lead_to_what_the_webhook_is_told",
        lambda c: spec(c, "Service", "bot-gateway")["ports"][0].update(name="web"),
        "there is no port {'name': 'http'} of a service bot-gateway",
    ),
    (
        "policies_say_what_they_rule",
        lambda c: spec(c, "NetworkPolicy", "nats").update(policyTypes=["Ingres"]),
        "policyTypes are Ingress and Egress, not ['Ingres']",
    ),
    (
        "policies_say_what_they_rule",
        lambda c: spec(c, "NetworkPolicy", "to-nats").update(policyTypes=["Ingress"]),
        "NetworkPolicy to-nats: it has rules for egress and does not rule it",
    ),
    (
        "policies_say_what_they_rule",
        lambda c: spec(c, "NetworkPolicy", "to-telegram")["egress"][0]["to"][0]["ipBlock"].update(cidr="8.0.0.0/8"),
        "10.0.0.0/8 is not within 8.0.0.0/8",
    ),
    (
        "policies_say_what_they_rule",
        lambda c: spec(c, "NetworkPolicy", "nats")["podSelector"].update(matchLabels={"app": "nats"}),
        "NetworkPolicy nats: it selects no pod",
    ),
    (
        "policies_say_what_they_rule",
        lambda c: spec(c, "NetworkPolicy", "to-nats")["egress"][0]["to"][0].update(
            podSelector={"matchLabels": {"app": "nats"}}
        ),
        "NetworkPolicy to-nats: a peer is no pod",
    ),
    (
        "policies_say_what_they_rule",
        lambda c: spec(c, "NetworkPolicy", "nats")["ingress"][0]["ports"][0].update(protocol="HTTP"),
        "NetworkPolicy nats: the protocol HTTP is none",
    ),
    (
        "policies_open_ports_that_somebody_listens_on",
        lambda c: spec(c, "NetworkPolicy", "nats")["ingress"][0]["ports"][0].update(port=4223),
        "NetworkPolicy nats: nats does not listen on 4223",
    ),
    (
        "nobody_may_talk_unless_it_was_allowed",
        lambda c: spec(c, "NetworkPolicy", "nobody").update(policyTypes=["Ingress"]),
        "no network policy refuses everything first",
    ),
    (
        "who_has_to_talk_may",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "to-nats")),
        "payments: no policy lets it to nats:4222",
    ),
    (
        "who_has_to_talk_may",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "to-telegram")),
        "notifier: no policy lets it to Telegram",
    ),
    (
        "who_has_to_talk_may",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "postgres")),
        "make-roles-unreleased: no policy lets it to postgres-rw:5432",
    ),
    (
        "who_has_to_talk_may",
        lambda c: c.named("Service", "nats")["metadata"].update(name="broker"),
        "TURNPIKE_NATS_URL leads to nats, which is nowhere",
    ),
    (
        "who_has_to_talk_may",
        lambda c: spec(c, "Service", "nats")["ports"][0].update(port=4333),
        "TURNPIKE_NATS_URL leads to port 4222 of nats",
    ),
    (
        "probes_ask_ports_that_are_there",
        lambda c: container(c)["readinessProbe"]["httpGet"].update(port="web"),
        "payments: its readinessProbe asks the port web",
    ),
    (
        "probes_ask_ports_that_are_there",
        lambda c: container(c)["livenessProbe"].update(successThreshold=2),
        "payments: the successThreshold of a livenessProbe is 1",
    ),
    (
        "probes_ask_ports_that_are_there",
        lambda c: container(c, "nats", "StatefulSet").pop("readinessProbe"),
        "nats: nats has no probes",
    ),
    (
        "probes_ask_ports_that_are_there",
        lambda c: container(c)["ports"][0].update(name="the-port-of-payments"),
        "a port's name is up to 15 small letters",
    ),
    (
        "services_are_asked_what_they_answer",
        lambda c: container(c)["readinessProbe"]["httpGet"].update(path="/healthz"),
        "payments: probes ask /livez, /livez and /readyz",
    ),
    (
        "services_are_asked_what_they_answer",
        lambda c: variable(container(c), "TURNPIKE_HTTP_HOST").update(value="127.0.0.1"),
        "payments: it does not listen where it is asked",
    ),
    (
        "volumes_are_there_and_used",
        lambda c: pod(c, "Deployment", "payments").pop("volumes"),
        "Deployment payments: the volume tmp is mounted or there, not both",
    ),
    (
        "volumes_are_there_and_used",
        lambda c: container(c)["volumeMounts"].append({"name": "tmp", "mountPath": "/tmp"}),
        "Deployment payments: two volumes are mounted at one path",
    ),
    (
        "what_is_referred_to_exists",
        lambda c: pod(c, "Deployment", "payments").update(serviceAccountName="payment"),
        "payments: there is no ServiceAccount payment",
    ),
    (
        "what_is_referred_to_exists",
        lambda c: c.named("Secret", secret_name(c))["data"].pop("TURNPIKE_NATS_URL"),
        "has no TURNPIKE_NATS_URL",
    ),
    (
        "what_is_referred_to_exists",
        lambda c: c.resources.remove(c.named("ConfigMap", "roles")),
        "make-roles-unreleased: there is no ConfigMap roles",
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
        lambda c: pod(c, "Job", job(c, "make-roles")).update(hostNetwork=True),
        "make-roles-unreleased: it is at home on its host",
    ),
    (
        "pods_are_restricted",
        lambda c: container(c)["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        "payments: service keeps capabilities",
    ),
    (
        "pods_are_restricted",
        lambda c: container(c)["securityContext"].pop("readOnlyRootFilesystem"),
        "payments: service may get rights, or write to its root",
    ),
    (
        "pods_are_restricted",
        lambda c: pod(c, "Deployment", "payments")["volumes"][0].update(hostPath={"path": "/"}),
        "payments: the volume tmp is of a kind that is refused",
    ),
    (
        "pods_are_restricted",
        lambda c: pod(c, "Deployment", "payments").pop("enableServiceLinks"),
        "payments: it is given a token, or variables of every service",
    ),
    (
        "requests_stay_below_limits",
        lambda c: container(c)["resources"]["requests"].update(memory="1Gi"),
        "payments: service asks for more memory than it may have",
    ),
    (
        "requests_stay_below_limits",
        lambda c: container(c).pop("resources"),
        "payments: service does not say what it needs",
    ),
    (
        "images_have_a_tag_and_ours_have_one",
        lambda c: container(c).update(image="ghcr.io/example/turnpike-payments:latest"),
        "payments: ghcr.io/example/turnpike-payments:latest can be another image tomorrow",
    ),
    (
        "images_have_a_tag_and_ours_have_one",
        lambda c: container(c).update(image="ghcr.io/example/turnpike-payments:another"),
        "our images are of different commits: ['another', 'unreleased']",
    ),
    (
        "a_stop_waits_for_the_drain",
        lambda c: pod(c, "Deployment", "payments").update(terminationGracePeriodSeconds=20),
        "payments: it is killed before it has drained",
    ),
    (
        "somebody_works_while_another_begins",
        lambda c: spec(c, "Deployment", "payments")["strategy"].update(rollingUpdate={"maxUnavailable": 1}),
        "payments: an update leaves nobody at work",
    ),
    (
        "somebody_works_while_another_begins",
        lambda c: spec(c, "Deployment", "vpn-provisioner").update(replicas=2),
        "vpn-provisioner: two pods would each take their own node for the one node",
    ),
    (
        "somebody_works_while_another_begins",
        lambda c: [
            c.named("ConfigMap", source["configMapRef"]["name"])["data"].update(TURNPIKE_TELEGRAM_MODE="polling")
            for source in container(c, "bot-gateway")["envFrom"]
        ],
        "bot-gateway: only one polls",
    ),
    (
        "settings_are_those_of_the_services",
        lambda c: container(c)["env"].append({"name": "TURNPIKE_BOT_TOKEN", "value": "1:a"}),
        "payments: it does not read TURNPIKE_BOT_TOKEN",
    ),
    (
        "settings_are_those_of_the_services",
        lambda c: variable(container(c), "TURNPIKE_PAYMENTS_DSN").update(name="TURNPIKE_PAYMENT_DSN"),
        "payments: TURNPIKE_PAYMENTS_DSN is not set.",
    ),
    (
        "settings_are_those_of_the_services",
        lambda c: container(c, "bot-gateway")["env"].remove(
            variable(container(c, "bot-gateway"), "TURNPIKE_TELEGRAM_WEBHOOK_SECRET")
        ),
        "bot-gateway: TURNPIKE_TELEGRAM_WEBHOOK_SECRET is not usable: the mode webhook needs a secret",
    ),
    (
        "settings_are_those_of_the_services",
        lambda c: [
            c.named("ConfigMap", source["configMapRef"]["name"])["data"].update(TURNPIKE_TELEGRAM_MOOD="polling")
            for source in container(c)["envFrom"]
        ],
        "payments: nobody reads TURNPIKE_TELEGRAM_MOOD",
    ),
    (
        "settings_are_those_of_the_services",
        lambda c: container(c)["env"].append({"name": "TURNPIKE_HTTP_PORT", "value": "8080"}),
        "payments: a variable is set twice",
    ),
    (
        "roles_are_those_of_their_dsn",
        lambda c: variable(container(c), "TURNPIKE_PAYMENTS_DSN")["valueFrom"].update(
            secretKeyRef={"name": "turnpike-jobs", "key": "TURNPIKE_PAYMENTS_OWNER_DSN"}
        ),
        "payments: its DSN is not of payments_app",
    ),
    (
        "roles_are_those_of_their_dsn",
        lambda c: container(c)["env"].append(variable(container(c, "referrals"), "TURNPIKE_REFERRALS_DSN")),
        "payments: it sees TURNPIKE_REFERRALS_DSN",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: c.named("Job", job(c, "migrate-vpn"))["metadata"].update(name="migrate-vpn"),
        "Job migrate-vpn: it cannot be applied with another image under the same name",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: c.resources.remove(c.named("Job", job(c, "migrate-vpn"))),
        "there is not one job for `turnpike migrate vpn`",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: container(c, job(c, "migrate-vpn"), "Job").update(image=container(c)["image"]),
        "another service's image does not know these migrations",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: pod(c, "Job", job(c, "make-streams")).update(restartPolicy="Always"),
        "a job's pods do not restart always",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: spec(c, "Job", job(c, "make-streams")).pop("ttlSecondsAfterFinished"),
        "Job make-streams-unreleased: it stays for ever",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: variable(container(c, job(c, "migrate-vpn"), "Job"), "TURNPIKE_VPN_OWNER_DSN")["valueFrom"].update(
            secretKeyRef={"name": "turnpike-jobs", "key": "TURNPIKE_VPN_DSN"}
        ),
        "Job migrate-vpn-unreleased: it does not run as vpn_owner",
    ),
    (
        "streams_have_as_many_servers_as_replicas",
        lambda c: spec(c, "StatefulSet", "nats").update(replicas=1),
        "payments: streams on 3 servers, and there are 1",
    ),
    (
        "streams_have_as_many_servers_as_replicas",
        lambda c: spec(c, "StatefulSet", "nats").update(replicas=4),
        "an even number of NATS servers",
    ),
]


@pytest.mark.parametrize(
    ("rule", "harm", "sentence"), BROKEN, ids=[f"{rule}-{i}" for i, (rule, *_) in enumerate(BROKEN)]
)
def test_what_is_broken_is_refused_with_the_sentence_that_names_it(
    cluster: Callable[[str], Cluster], rule: str, harm: Break, sentence: str
) -> None:
    broken = Cluster(copy.deepcopy(cluster("production").resources))
    harm(broken)
    (check,) = (check for check in RULES if check.__name__ == rule)
    said = list(check(broken))
    assert any(sentence in refusal for refusal in said), said


def test_every_rule_was_broken() -> None:
    assert {rule for rule, *_ in BROKEN} == {check.__name__ for check in RULES}
