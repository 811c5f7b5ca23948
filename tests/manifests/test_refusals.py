"""Every rule can say no: a good overlay, broken in one place, is refused with the sentence that names it."""

import copy
from collections.abc import Callable, Iterator

import pytest

from tests.manifests import harm_to_disks, harm_to_names, harm_to_pods, harm_to_shop, harm_to_talk, rules_of_talk
from tests.manifests.cluster import Cluster
from tests.manifests.harm import Break
from tests.manifests.refusals import RULES

TALK = [check for check in RULES if check.__module__ == rules_of_talk.__name__]
IN_PRODUCTION = [*harm_to_names.HARMS, *harm_to_talk.HARMS, *harm_to_pods.HARMS, *harm_to_shop.HARMS]
BROKEN = [*(("production", *harm) for harm in IN_PRODUCTION), *(("try", *harm) for harm in harm_to_disks.HARMS)]


@pytest.mark.parametrize(
    ("overlay", "rule", "harm", "sentence"), BROKEN, ids=[f"{rule}-{i}" for i, (_, rule, *_) in enumerate(BROKEN)]
)
def test_what_is_broken_is_refused_with_the_sentence_that_names_it(
    cluster: Callable[[str], Cluster], overlay: str, rule: str, harm: Break, sentence: str
) -> None:
    broken = Cluster(copy.deepcopy(cluster(overlay).resources))
    harm(broken)
    (check,) = (check for check in RULES if check.__name__ == rule)
    said = list(check(broken))
    assert any(sentence in refusal for refusal in said), said


def test_no_line_of_a_policy_could_go_unnoticed(cluster: Callable[[str], Cluster]) -> None:
    """Each port, and each peer of a rule that names several, is needed by somebody."""
    unnoticed = []
    for name in cluster("production").names("NetworkPolicy"):
        for place in allowed(cluster("production"), name):
            broken = Cluster(copy.deepcopy(cluster("production").resources))
            way, number, kind, line = place
            rules = broken.named("NetworkPolicy", name)["spec"][way]
            rules[number][kind].pop(line)
            if not rules[number][kind]:  # An empty list would mean all there is.
                del rules[number]
            if not [sentence for check in TALK for sentence in check(broken)]:
                unnoticed.append((name, *place))
    assert unnoticed == []


def allowed(whole: Cluster, policy: str) -> Iterator[tuple[str, int, str, int]]:
    """Where each port and peer stands in a policy."""
    spec = whole.named("NetworkPolicy", policy)["spec"]
    for way in ("ingress", "egress"):
        for number, rule in enumerate(spec.get(way, ())):
            for kind in rule:
                yield from ((way, number, kind, line) for line in range(len(rule[kind])))


def test_every_rule_was_broken() -> None:
    assert {rule for _, rule, *_ in BROKEN} == {check.__name__ for check in RULES}
