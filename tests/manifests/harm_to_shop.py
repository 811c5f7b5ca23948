"""Good overlays broken in one place: what the shop asks for."""

from tests.manifests.harm import Harm, container, job, pod, spec, variable

HARMS: list[Harm] = [
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
        "keys_lead_to_the_node_whatever_else_is_away",
        lambda c: spec(c, "Service", "node").pop("publishNotReadyAddresses"),
        "Service node: nobody gets in while the service beside the node waits",
    ),
    (
        "keys_lead_to_the_node_whatever_else_is_away",
        lambda c: pod(c, "Deployment", "vpn-provisioner").pop("nodeSelector"),
        "vpn-provisioner: keys lead to one machine, and it may run on another",
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
        lambda c: [
            c.named("ConfigMap", source["configMapRef"]["name"])["data"].update(OTEL_EXPORTER_ENDPOINT="http://c:4318")
            for source in container(c)["envFrom"]
        ],
        "payments: nobody reads OTEL_EXPORTER_ENDPOINT",
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
        lambda c: pod(c, "Job", job(c, "make-streams")).update(restartPolicy="OnFailure"),
        "Job make-streams-unreleased: the log of its last failure goes with its pod",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: container(c, job(c, "make-roles"), "Job").pop("terminationMessagePolicy"),
        "Job make-roles-unreleased: its pod does not tell why it failed",
    ),
    (
        "every_service_is_prepared_by_jobs_of_its_own_image",
        lambda c: container(c, job(c, "migrate-bot"), "Job").pop("args"),
        "Job migrate-bot-unreleased: what is not there at once is waited for from pod to pod",
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
