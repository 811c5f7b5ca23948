"""Changes that each break a good overlay in one place, and the sentence that must refuse them."""

from tests.manifests.mutations import disks, names, network, pods, shop
from tests.manifests.mutations.mutation import Mutation

# The overlay that each mutation changes, and the mutation.
MUTATIONS: list[tuple[str, Mutation]] = [
    *(
        ("production", mutation)
        for module in (names, network, pods, shop)
        for mutation in module.MUTATIONS
    ),
    *(("try", mutation) for mutation in disks.MUTATIONS),
]
