"""Servers write to their own persistent volumes, and may do so."""

import re
from collections.abc import Iterator

from tests.manifests.cluster import Cluster, Pod, pod_of
from tests.manifests.kustomize import Resource
from tests.manifests.rules.rule import rule, title

# The image keeps the data of each major version in a folder of its own, below the mounted one.
# Before version 18 it used another folder.
POSTGRES_DATA = "/var/lib/postgresql/{major}/docker"
OLDEST_MAJOR = 18


@rule
def nats_writes_to_its_volume(cluster: Cluster) -> Iterator[str]:
    nats = cluster.named("StatefulSet", "nats")
    pod = pod_of(nats)
    option, file = pod.container("nats")["args"][:2]
    folder, _, name = file.rpartition("/")
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    source = volumes.get(mounted(pod, "nats").get(folder, ""), {}).get("configMap")
    files = cluster.contents("ConfigMap", source["name"]) if source else {}
    if option != "--config" or name not in files:
        yield f"{title(nats)}: its arguments are {option} {file}, and that file is not mounted"
        return
    (store,) = re.findall(r"store_dir: (\S+)", files[name])
    yield from _not_persistent(nats, mounted(pod, "nats").get(store), store)


@rule
def postgres_writes_to_its_volume(cluster: Cluster) -> Iterator[str]:
    for postgres in cluster.of("StatefulSet"):
        if postgres["metadata"]["name"] != "postgres":
            continue
        pod = pod_of(postgres)
        container = pod.container("postgres")
        major = int(container["image"].rpartition(":")[2].split(".")[0])
        if major < OLDEST_MAJOR:
            yield f"{title(postgres)}: the image of {major} has its data elsewhere"
        if container["args"][0] != "postgres" or "command" in container:
            yield f"{title(postgres)}: the image prepares its data for the program postgres only"
        data = cluster.environment(container).get("PGDATA", POSTGRES_DATA.format(major=major))
        around = [
            name for path, name in mounted(pod, "postgres").items() if data.startswith(f"{path}/")
        ]
        yield from _not_persistent(postgres, around[0] if len(around) == 1 else None, data)


def mounted(pod: Pod, container: str) -> dict[str, str]:
    """The volume at each path."""
    return {mount["mountPath"]: mount["name"] for mount in pod.container(container)["volumeMounts"]}


def _not_persistent(workload: Resource, volume: str | None, path: str) -> Iterator[str]:
    claimed = {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    if volume not in claimed:
        yield f"{title(workload)}: it writes to {path}, which is no persistent volume"
    context = workload["spec"]["template"]["spec"]["securityContext"]
    if context.get("fsGroup") != context.get("runAsGroup"):
        yield f"{title(workload)}: its volume belongs to another group"
