"""Every rule can say no: a good overlay, broken in one place, is refused with the sentence that names it."""

import copy
from collections.abc import Callable

import pytest

from tests.manifests import harm_to_names, harm_to_pods, harm_to_shop, harm_to_talk
from tests.manifests.cluster import Cluster
from tests.manifests.harm import Break
from tests.manifests.refusals import RULES

BROKEN = [*harm_to_names.HARMS, *harm_to_talk.HARMS, *harm_to_pods.HARMS, *harm_to_shop.HARMS]


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
