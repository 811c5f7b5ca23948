"""Good overlays broken in one place: names and selectors."""

from tests.manifests.harm import Harm, spec

HARMS: list[Harm] = [
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
]
