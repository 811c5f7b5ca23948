"""Every rule refuses a good overlay that was broken in one place."""

import copy
from collections.abc import Callable, Iterator

import pytest

from tests.manifests.cluster import Cluster
from tests.manifests.mutations import MUTATIONS
from tests.manifests.mutations.mutation import Change
from tests.manifests.rules import RULES, network

NETWORK_RULES = [rule for rule in RULES if rule.__module__ == network.__name__]


@pytest.mark.parametrize(
    ("overlay", "name", "change", "sentence"),
    [(overlay, *mutation) for overlay, mutation in MUTATIONS],
    ids=[f"{name}-{i}" for i, (_, (name, *_)) in enumerate(MUTATIONS)],
)
def test_a_broken_overlay_is_refused(
    cluster: Callable[[str], Cluster], overlay: str, name: str, change: Change, sentence: str
) -> None:
    """The sentence names the mistake."""
    broken = Cluster(copy.deepcopy(cluster(overlay).resources))
    change(broken)
    (rule,) = (rule for rule in RULES if rule.__name__ == name)
    sentences = list(rule(broken))
    assert any(sentence in violation for violation in sentences), sentences


def test_every_part_of_a_policy_is_needed(cluster: Callable[[str], Cluster]) -> None:
    """A connection needs each port, and each peer of a policy that lists several."""
    unneeded = []
    for name in cluster("production").names("NetworkPolicy"):
        for part in parts(cluster("production"), name):
            broken = Cluster(copy.deepcopy(cluster("production").resources))
            direction, number, kind, line = part
            entries = broken.named("NetworkPolicy", name)["spec"][direction]
            entries[number][kind].pop(line)
            if not entries[number][kind]:  # An empty list would allow everything.
                del entries[number]
            if not [sentence for rule in NETWORK_RULES for sentence in rule(broken)]:
                unneeded.append((name, *part))
    assert unneeded == []


def parts(cluster: Cluster, policy: str) -> Iterator[tuple[str, int, str, int]]:
    """The path of each port and peer in a policy."""
    spec = cluster.named("NetworkPolicy", policy)["spec"]
    for direction in ("ingress", "egress"):
        for number, entry in enumerate(spec.get(direction, ())):
            for kind in entry:
                yield from ((direction, number, kind, line) for line in range(len(entry[kind])))


def test_every_rule_has_a_mutation() -> None:
    assert {name for _, (name, *_) in MUTATIONS} == {rule.__name__ for rule in RULES}
