"""Good overlays broken in one place: where servers write. In `try`, which has a PostgreSQL of its own."""

from tests.manifests.cluster import Cluster
from tests.manifests.harm import Harm, container, pod


def mount(cluster: Cluster, server: str, volume: str, path: str) -> None:
    mounts = container(cluster, server, "StatefulSet")["volumeMounts"]
    next(entry for entry in mounts if entry["name"] == volume).update(mountPath=path)


HARMS: list[Harm] = [
    (
        "nats_writes_to_its_disk",
        lambda c: mount(c, "nats", "data", "/store"),
        "StatefulSet nats: it writes to /data, which is no disk of its own",
    ),
    (
        "nats_writes_to_its_disk",
        lambda c: mount(c, "nats", "nats", "/etc"),
        "StatefulSet nats: it is told --config /etc/nats/nats.conf, and that is mounted nowhere",
    ),
    (
        "nats_writes_to_its_disk",
        lambda c: pod(c, "StatefulSet", "nats")["securityContext"].pop("fsGroup"),
        "StatefulSet nats: its disk is another group's",
    ),
    (
        "postgres_writes_to_its_disk",
        lambda c: mount(c, "postgres", "data", "/var/lib/postgresql/data"),
        "StatefulSet postgres: it writes to /var/lib/postgresql/18/docker, which is no disk of its own",
    ),
    (
        "postgres_writes_to_its_disk",
        lambda c: container(c, "postgres", "StatefulSet")["env"].append({"name": "PGDATA", "value": "/tmp/data"}),
        "StatefulSet postgres: it writes to /tmp/data, which is no disk of its own",
    ),
    (
        "postgres_writes_to_its_disk",
        lambda c: container(c, "postgres", "StatefulSet").update(image="postgres:17.6"),
        "StatefulSet postgres: the image of 17 has its disk elsewhere",
    ),
    (
        "postgres_writes_to_its_disk",
        lambda c: container(c, "postgres", "StatefulSet")["args"].pop(0),
        "StatefulSet postgres: the image prepares the disk for `postgres` only",
    ),
    (
        "postgres_writes_to_its_disk",
        lambda c: pod(c, "StatefulSet", "postgres")["securityContext"].update(fsGroup=1),
        "StatefulSet postgres: its disk is another group's",
    ),
]
