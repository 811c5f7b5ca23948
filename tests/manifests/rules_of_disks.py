"""What is written stays: each server writes to its own disk, and may."""

import re
from collections.abc import Iterator

from tests.manifests.cluster import Cluster, Pod, pod_of
from tests.manifests.kustomize import Resource
from tests.manifests.rule import rule, said

# The image's own folders: its PGDATA is one for each version, within what is to be mounted. Before 18 it was another.
POSTGRES_DATA = "/var/lib/postgresql/{major}/docker"
OLDEST_MAJOR = 18


@rule
def nats_writes_to_its_disk(cluster: Cluster) -> Iterator[str]:
    nats = cluster.named("StatefulSet", "nats")
    pod = pod_of(nats)
    told, file = pod.container("nats")["args"][:2]
    folder, _, name = file.rpartition("/")
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    source = volumes.get(mounted(pod, "nats").get(folder, ""), {}).get("configMap")
    held = cluster.contents("ConfigMap", source["name"]) if source else {}
    if told != "--config" or name not in held:
        yield f"{said(nats)}: it is told {told} {file}, and that is mounted nowhere"
        return
    (store,) = re.findall(r"store_dir: (\S+)", held[name])
    yield from _no_disk(nats, mounted(pod, "nats").get(store), store)


@rule
def postgres_writes_to_its_disk(cluster: Cluster) -> Iterator[str]:
    for postgres in cluster.of("StatefulSet"):
        if postgres["metadata"]["name"] != "postgres":
            continue
        pod = pod_of(postgres)
        container = pod.container("postgres")
        major = int(container["image"].rpartition(":")[2].split(".")[0])
        if major < OLDEST_MAJOR:
            yield f"{said(postgres)}: the image of {major} has its disk elsewhere"
        if container["args"][0] != "postgres" or "command" in container:
            yield f"{said(postgres)}: the image prepares the disk for `postgres` only"
        data = cluster.environment(container).get("PGDATA", POSTGRES_DATA.format(major=major))
        around = [name for path, name in mounted(pod, "postgres").items() if data.startswith(f"{path}/")]
        yield from _no_disk(postgres, around[0] if len(around) == 1 else None, data)


def mounted(pod: Pod, container: str) -> dict[str, str]:
    """The volume at each path."""
    return {mount["mountPath"]: mount["name"] for mount in pod.container(container)["volumeMounts"]}


def _no_disk(workload: Resource, volume: str | None, path: str) -> Iterator[str]:
    claimed = {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    if volume not in claimed:
        yield f"{said(workload)}: it writes to {path}, which is no disk of its own"
    rights = workload["spec"]["template"]["spec"]["securityContext"]
    if rights.get("fsGroup") != rights.get("runAsGroup"):
        yield f"{said(workload)}: its disk is another group's"
