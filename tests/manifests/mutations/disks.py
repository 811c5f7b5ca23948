"""Mutations of disks, for the overlay `try`, which has its own PostgreSQL."""

from tests.manifests.cluster import Cluster
from tests.manifests.mutations.mutation import Mutation, container, pod


def mount(cluster: Cluster, server: str, volume: str, path: str) -> None:
    mounts = container(cluster, server, "StatefulSet")["volumeMounts"]
    next(entry for entry in mounts if entry["name"] == volume).update(mountPath=path)


MUTATIONS: list[Mutation] = [
    (
        "nats_writes_to_its_volume",
        lambda c: mount(c, "nats", "data", "/store"),
        "StatefulSet nats: it writes to /data, which is no persistent volume",
    ),
    (
        "nats_writes_to_its_volume",
        lambda c: mount(c, "nats", "nats", "/etc"),
        "its arguments are --config /etc/nats/nats.conf, and that file is not mounted",
    ),
    (
        "nats_writes_to_its_volume",
        lambda c: pod(c, "StatefulSet", "nats")["securityContext"].pop("fsGroup"),
        "StatefulSet nats: its volume belongs to another group",
    ),
    (
        "postgres_writes_to_its_volume",
        lambda c: mount(c, "postgres", "data", "/var/lib/postgresql/data"),
        "it writes to /var/lib/postgresql/18/docker, which is no persistent volume",
    ),
    (
        "postgres_writes_to_its_volume",
        lambda c: container(c, "postgres", "StatefulSet")["env"].append(
            {"name": "PGDATA", "value": "/tmp/data"}
        ),
        "StatefulSet postgres: it writes to /tmp/data, which is no persistent volume",
    ),
    (
        "postgres_writes_to_its_volume",
        lambda c: container(c, "postgres", "StatefulSet").update(image="postgres:17.6"),
        "StatefulSet postgres: the image of 17 has its data elsewhere",
    ),
    (
        "postgres_writes_to_its_volume",
        lambda c: container(c, "postgres", "StatefulSet")["args"].pop(0),
        "StatefulSet postgres: the image prepares its data for the program postgres only",
    ),
    (
        "postgres_writes_to_its_volume",
        lambda c: pod(c, "StatefulSet", "postgres")["securityContext"].update(fsGroup=1),
        "StatefulSet postgres: its volume belongs to another group",
    ),
]
