"""Good overlays broken in one place: who may talk to whom."""

from tests.manifests.harm import Harm, spec

HARMS: list[Harm] = [
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
        "who_has_to_talk_without_being_told_may",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "names")),
        "nats: no policy lets it to DNS on UDP 53",
    ),
    (
        "who_has_to_talk_without_being_told_may",
        lambda c: spec(c, "NetworkPolicy", "names")["egress"][0]["ports"].pop(),
        "payments: no policy lets it to DNS on TCP 53",
    ),
    (
        "who_has_to_talk_without_being_told_may",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "nats-cluster")),
        "nats: no policy lets it to nats on TCP 6222",
    ),
    (
        "who_has_to_talk_without_being_told_may",
        lambda c: c.resources.remove(c.named("NetworkPolicy", "node")),
        "vpn-provisioner: no policy lets people out through the node",
    ),
]
