"""What a schema lets through and a real cluster, or the shop, does not: each rule yields a sentence per mistake.

`test_refusals.py` breaks a good overlay once for every rule there is.
"""

# ruff: noqa: F401 - who is imported puts his rules into the list.
from tests.manifests import rules_of_disks, rules_of_names, rules_of_pods, rules_of_shop, rules_of_talk
from tests.manifests.cluster import Cluster
from tests.manifests.rule import RULES

__all__ = ["RULES", "refusals"]


def refusals(cluster: Cluster) -> list[str]:
    return [sentence for check in RULES for sentence in check(cluster)]
