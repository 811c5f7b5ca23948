"""Mutations of names, labels and selectors."""

from tests.manifests.mutations.mutation import Mutation, job, spec

MUTATIONS: list[Mutation] = [
    (
        "names_are_unique_dns_labels",
        lambda c: c.named("Service", "payments")["metadata"].update(name="pay_ments"),
        "Service pay_ments: the name is not a DNS label",
    ),
    (
        "names_are_unique_dns_labels",
        lambda c: c.resources.append(c.named("Service", "payments")),
        "Service payments exists 2 times",
    ),
    (
        "names_are_unique_dns_labels",
        lambda c: c.named("Deployment", "payments").update(apiVersion="apps/v1beta1"),
        "no cluster serves apps/v1beta1",
    ),
    (
        "resources_share_one_namespace",
        lambda c: c.named("Secret", "turnpike-jobs")["metadata"].update(namespace="default"),
        "Secret turnpike-jobs: it is in another namespace",
    ),
    (
        "labels_are_well_formed",
        lambda c: c.named("Deployment", "payments")["metadata"]["labels"].update(note="two words"),
        "the label note cannot be 'two words'",
    ),
    (
        "labels_are_well_formed",
        lambda c: spec(c, "Job", job(c, "make-roles"))["template"]["metadata"]["labels"].update(
            {"app.kubernetes.io/version": 18.6}
        ),
        "the label app.kubernetes.io/version cannot be 18.6",
    ),
    (
        "labels_are_complete",
        lambda c: c.named("Secret", "turnpike-jobs")["metadata"]["labels"].pop(
            "app.kubernetes.io/instance"
        ),
        "Secret turnpike-jobs: it has no label instance",
    ),
    (
        "labels_are_complete",
        lambda c: spec(c, "StatefulSet", "nats")["template"]["metadata"]["labels"].pop(
            "app.kubernetes.io/managed-by"
        ),
        "StatefulSet nats: its pods have no label managed-by",
    ),
    (
        "labels_are_complete",
        lambda c: c.named("Deployment", "payments")["metadata"]["labels"].update(
            {"app.kubernetes.io/version": "tag"}
        ),
        "Deployment payments: its label version is not unreleased",
    ),
    (
        "selectors_match_only_their_own_pods",
        lambda c: spec(c, "Deployment", "payments")["template"]["metadata"]["labels"].update(
            {"app.kubernetes.io/name": "payment"}
        ),
        "Deployment payments: the selector does not match its own pods",
    ),
    (
        "selectors_match_only_their_own_pods",
        lambda c: spec(c, "Deployment", "payments")["template"]["metadata"]["labels"].update(
            {"app.kubernetes.io/name": "notifier"}
        ),
        "Deployment notifier: the selector matches pods of another workload",
    ),
    (
        "selectors_match_only_their_own_pods",
        lambda c: spec(c, "Deployment", "payments")["selector"]["matchLabels"].update(
            {"version": "1"}
        ),
        "a selector cannot be changed",
    ),
    (
        "services_select_pods_and_ports",
        lambda c: spec(c, "Service", "nats")["selector"].update({"app.kubernetes.io/name": "nat"}),
        "Service nats: it selects no pod",
    ),
    (
        "services_select_pods_and_ports",
        lambda c: spec(c, "Service", "payments")["ports"][0].update(targetPort="web"),
        "Service payments: payments has no port web",
    ),
    (
        "services_select_pods_and_ports",
        lambda c: spec(c, "StatefulSet", "nats").update(serviceName="nats-node"),
        "StatefulSet nats: its service is missing",
    ),
    (
        "disruption_budgets_have_bound_and_pods",
        lambda c: spec(c, "PodDisruptionBudget", "payments").update(minAvailable=1),
        "PodDisruptionBudget payments: it must have exactly one bound",
    ),
    (
        "disruption_budgets_have_bound_and_pods",
        lambda c: spec(c, "PodDisruptionBudget", "payments")["selector"].update(
            matchLabels={"app": "payments"}
        ),
        "PodDisruptionBudget payments: it protects no pod",
    ),
    (
        "ingress_matches_the_webhook_url",
        lambda c: spec(c, "Ingress", "telegram")["rules"][0].update(host="bots.shop.test"),
        "it serves another address than 'https://bot.shop.test/telegram'",
    ),
    (
        "ingress_matches_the_webhook_url",
        lambda c: spec(c, "Service", "bot-gateway")["ports"][0].update(name="web"),
        "service bot-gateway has no port {'name': 'http'}",
    ),
]
