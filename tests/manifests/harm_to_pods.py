"""Good overlays broken in one place: pods."""

from tests.manifests.harm import Harm, container, job, pod, secret_name, variable

HARMS: list[Harm] = [
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
        lambda c: c.named("Secret", secret_name(c))["data"].pop("TURNPIKE_BOT_TOKEN"),
        "has no TURNPIKE_BOT_TOKEN",
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
        lambda c: pod(c, "Deployment", "payments").update(
            initContainers=[{"name": "first", "image": "busybox:1", "securityContext": {"runAsUser": 0}}]
        ),
        "payments: first may get rights, or write to its root",
    ),
    (
        "pods_are_restricted",
        lambda c: container(c)["securityContext"].update(runAsUser=0),
        "payments: service may run as root",
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
        "pods_are_spread_over_nodes_that_would_take_them",
        lambda c: pod(c, "StatefulSet", "nats")["topologySpreadConstraints"][0].pop("nodeTaintsPolicy"),
        "nats: it waits for a node that takes nobody",
    ),
    (
        "pods_are_spread_over_nodes_that_would_take_them",
        lambda c: pod(c, "Deployment", "payments")["topologySpreadConstraints"][0].update(
            labelSelector={"matchLabels": {"app": "payments"}}
        ),
        "payments: it is spread among others than its own",
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
]
