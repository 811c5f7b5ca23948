"""Rules that a schema cannot express: each yields one sentence per violation.

A schema accepts these mistakes; a real cluster or the shop does not. `test_rules.py` breaks every
rule at least once.
"""

# ruff: noqa: F401 - the import of a module registers its rules.
from tests.manifests.cluster import Cluster
from tests.manifests.rules import disks, names, network, pods, shop
from tests.manifests.rules.rule import RULES

__all__ = ["RULES", "violations"]


def violations(cluster: Cluster) -> list[str]:
    return [sentence for rule in RULES for sentence in rule(cluster)]
