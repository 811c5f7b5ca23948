"""Mutations of network policies."""

from typing import Any

from tests.manifests.cluster import Cluster
from tests.manifests.mutations.mutation import Mutation, container, job, settings, spec, variable


def peers(cluster: Cluster, policy: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec(cluster, "NetworkPolicy", policy)["egress"][0]["to"]
    return found


def close_traces(cluster: Cluster) -> None:
    settings(cluster, container(cluster)).update(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://collector.traces:4318/v1/traces"
    )
    cluster.resources.remove(cluster.named("NetworkPolicy", "to-traces"))


MUTATIONS: list[Mutation] = [
    (
        "policies_are_well_formed",
        lambda c: spec(c, "NetworkPolicy", "nats").update(policyTypes=["Ingres"]),
        "policyTypes are Ingress and Egress, not ['Ingres']",
    ),
    (
        "policies_are_well_formed",
        lambda c: spec(c, "NetworkPolicy", "to-nats").update(policyTypes=["Ingress"]),
        "NetworkPolicy to-nats: it has rules for egress, but not that type",
    ),
    (
        "policies_are_well_formed",
        lambda c: spec(c, "NetworkPolicy", "to-telegram")["egress"][0]["to"][0]["ipBlock"].update(
            cidr="8.0.0.0/8"
        ),
        "10.0.0.0/8 is not within 8.0.0.0/8",
    ),
    (
        "policies_are_well_formed",
        lambda c: spec(c, "NetworkPolicy", "nats")["podSelector"].update(
            matchLabels={"app": "nats"}
        ),
        "NetworkPolicy nats: it selects no pod",
    ),
    (
        "policies_are_well_formed",
        lambda c: spec(c, "NetworkPolicy", "to-nats")["egress"][0]["to"][0].update(
            podSelector={"matchLabels": {"app": "nats"}}
        ),
        "NetworkPolicy to-nats: a peer selects no pod",
    ),
    (
        "policies_are_well_formed",
        lambda c: spec(c, "NetworkPolicy", "nats")["ingress"][0]["ports"][0].update(
            protocol="HTTP"
        ),
        "NetworkPolicy nats: HTTP is not a protocol of policies",
    ),
    (
        "policies_allow_listening_ports",
        lambda c: spec(c, "NetworkPolicy", "nats")["ingress"][0]["ports"][0].update(port=4223),
        "NetworkPolicy nats: nats does not listen on 4223",
    ),
    (
        "traffic_is_denied_by_default",
        lambda c: spec(c, "NetworkPolicy", "nobody").update(policyTypes=["Ingress"]),
        "no network policy denies all traffic by default",
    ),
    (
        "configured_connections_are_allowed",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "to-nats")),
        "payments: no policy allows nats:4222",
    ),
    (
        "configured_connections_are_allowed",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "to-telegram")),
        "notifier: no policy allows Telegram, at 1.1.1.1",
    ),
    (
        "configured_connections_are_allowed",
        lambda c: peers(c, "to-telegram").pop(),
        "notifier: no policy allows Telegram, at 2606:4700:4700::1111",
    ),
    (
        "traces_are_allowed",
        lambda c: settings(c, container(c)).update(
            OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.traces:4317"
        ),
        "payments: no policy allows OTEL_EXPORTER_OTLP_ENDPOINT, collector.traces:4317",
    ),
    (
        "traces_are_allowed",
        close_traces,
        "referrals: no policy allows OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, collector.traces:4318",
    ),
    (
        "configured_connections_are_allowed",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "postgres")),
        "make-roles-unreleased-18-6: no policy allows postgres-rw:5432",
    ),
    (
        "configured_connections_are_allowed",
        lambda c: c.named("Service", "nats")["metadata"].update(name="broker"),
        "TURNPIKE_NATS_URL names nats, which does not exist",
    ),
    (
        "configured_connections_are_allowed",
        lambda c: spec(c, "Service", "nats")["ports"][0].update(port=4333),
        "TURNPIKE_NATS_URL names port 4222 of nats, which is not open",
    ),
    (
        "configured_connections_are_allowed",
        lambda c: variable(container(c, job(c, "make-roles"), "Job"), "PGHOST").update(
            value="pg.cloud.test"
        ),
        "make-roles-unreleased-18-6: no policy allows pg.cloud.test:5432 outside the cluster",
    ),
    (
        "implicit_connections_are_allowed",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "names")),
        "nats: no policy allows DNS on UDP 53",
    ),
    (
        "implicit_connections_are_allowed",
        lambda c: spec(c, "NetworkPolicy", "names")["egress"][0]["ports"].pop(),
        "payments: no policy allows DNS on TCP 53",
    ),
    (
        "implicit_connections_are_allowed",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "nats-cluster")),
        "nats: no policy allows nats on TCP 6222",
    ),
    (
        "implicit_connections_are_allowed",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "node")),
        "vpn-provisioner: no policy allows 1.1.1.1 on TCP 80",
    ),
    (
        "implicit_connections_are_allowed",
        lambda c: peers(c, "node").pop(),
        "vpn-provisioner: no policy allows 2606:4700:4700::1111 on UDP 443",
    ),
    (
        "nodes_reach_no_mail_and_no_private_address",
        lambda c: spec(c, "NetworkPolicy", "node")["egress"][0]["ports"][1].update(port=25),
        "vpn-provisioner: people could send mail to 1.1.1.1 on port 25",
    ),
    (
        "nodes_reach_no_mail_and_no_private_address",
        lambda c: spec(c, "NetworkPolicy", "node")["egress"][0].pop("ports"),
        "vpn-provisioner: people could send mail to 2606:4700:4700::1111 on port 587",
    ),
    (
        "nodes_reach_no_mail_and_no_private_address",
        lambda c: peers(c, "node")[0]["ipBlock"]["except"].remove("169.254.0.0/16"),
        "vpn-provisioner: people could reach 169.254.169.254",
    ),
    (
        "nodes_reach_no_mail_and_no_private_address",
        lambda c: peers(c, "node")[1]["ipBlock"].pop("except"),
        "vpn-provisioner: people could reach fd00:ec2::254",
    ),
]
