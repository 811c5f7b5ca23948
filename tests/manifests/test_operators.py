"""What an operator does with an overlay: copy it, write another tag, change a password, grow."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.kit.servers import UNSYNCED
from tests.manifests.changes import after, changed, edited, recipe
from tests.manifests.cluster import Cluster, pod_of
from tests.manifests.jobs import PSQL, environment_on, job_of
from tests.manifests.kustomize import GIVEN, KUBERNETES, OURS, own_overlays, read, rendered, run
from tests.manifests.rules import violations
from turnpike_local.ports import LOOPBACK
from turnpike_local.postgres import Postgres

COMPONENT = "- ../../components/load-balancer"
BALANCED = [
    ("kustomization.yaml", f"# {COMPONENT}", COMPONENT),
    ("kustomization.yaml", "  - path: patches/node.yaml\n", ""),
]
LINK_ON_443 = ("vpn-provisioner.env", ":30443?", ":443?")


# Tags


@pytest.mark.parametrize("tag", ["a" * 45, "0123456", "1e5", "v2-rc-1"])
def test_every_allowed_tag_renders(overlays: Path, tmp_path: Path, tag: str) -> None:
    """W-52: the label of the tag stays a text, and no job's name is too long."""
    found = after(
        overlays, tmp_path, "production", ("kustomization.yaml", "unreleased", f'"{tag}"')
    )
    assert violations(found) == []
    assert {f"make-roles-{tag}-18-6", f"migrate-referrals-{tag}"} <= found.names("Job")


@pytest.mark.parametrize("tag", ["a" * 46, "V2", "2.0"])
def test_a_refused_tag_is_named(overlays: Path, tmp_path: Path, tag: str) -> None:
    """W-52: said here, before the cluster has changed half of the resources."""
    found = after(
        overlays, tmp_path, "production", ("kustomization.yaml", "unreleased", f'"{tag}"')
    )
    sentence = f"payments: the tag {tag} is not 1 to 45 of a-z, 0-9 and inner hyphens"
    assert sentence in violations(found)


@pytest.mark.parametrize("overlay", OURS)
def test_another_postgres_makes_one_new_job(
    cluster: Callable[[str], Cluster], overlays: Path, tmp_path: Path, overlay: str
) -> None:
    """W-52: PostgreSQL's tag changes while Turnpike's stays, and a job cannot be changed."""
    before = cluster(overlay)
    found = after(overlays, tmp_path, overlay, ("kustomization.yaml", '"18.6"', '"18.7"'))
    assert violations(found) == []
    assert found.names("Job") - before.names("Job") == {"make-roles-unreleased-18-7"}
    assert before.names("Job") - found.names("Job") == {"make-roles-unreleased-18-6"}
    for name in before.names("Job") & found.names("Job"):
        assert before.named("Job", name) == found.named("Job", name)


# An overlay of one's own


def test_own_overlays_are_found(tmp_path: Path) -> None:
    """W-53: folders beside ours, and the one that OVERLAY names."""
    for name in (*OURS, "shop", "elsewhere/shop"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "kustomization.yaml").touch()
    assert own_overlays(tmp_path, None) == {"shop": tmp_path / "shop"}
    assert own_overlays(tmp_path, str(tmp_path / "elsewhere/shop")) == {
        "shop": tmp_path / "shop",
        "own-shop": tmp_path / "elsewhere/shop",
    }
    with pytest.raises(AssertionError, match=r"kustomization\.yaml"):
        own_overlays(tmp_path, str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ([], "1 passed"),
        ([("settings.env", "=3", "=5")], "payments: streams need 5 servers, and there are 3"),
    ],
    ids=["sound", "broken"],
)
def test_an_own_overlay_is_checked(
    overlays: Path, tmp_path: Path, edits: list[tuple[str, str, str]], sentence: str
) -> None:
    """W-53: its own files are rendered, with its own secrets, and a mistake is named."""
    own = edited(overlays, tmp_path, "production", *edits)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0"]
    tests = Path(__file__).with_name("test_overlays.py")
    argv += [str(tests), "-k", "own-production and violate"]
    env = {"OVERLAY": str(own), "PYTEST_ADDOPTS": ""}
    if edits:
        with pytest.raises(AssertionError, match=sentence):
            run(*argv, env=env)
    else:
        assert sentence in run(*argv, env=env)


def test_examples_are_refused_in_production(tmp_path: Path) -> None:
    """W-53: the committed overlay fails only because its names are not an operator's."""
    copy = tmp_path / "kubernetes"
    drawn = shutil.ignore_patterns("*.env", "node.json")
    shutil.copytree(KUBERNETES, copy, ignore=drawn)
    overlay = copy / "overlays/production"
    shutil.copy(KUBERNETES / "overlays/production/settings.env", overlay)
    run("sh", copy / "draw-secrets", overlay, env=GIVEN)
    found = violations(Cluster(read(rendered(overlay))))
    assert [sentence for sentence in found if "is an example; write your own" not in sentence] == []
    assert {"@example_support", "bot.example.org"} <= set(re.findall(r": (\S+) is an", str(found)))


def test_a_load_balancer_serves_port_443(overlays: Path, tmp_path: Path) -> None:
    """The pod may run on any machine, and keys lead to the balancer."""
    found = after(overlays, tmp_path, "production", *BALANCED, LINK_ON_443)
    assert violations(found) == []
    service = found.named("Service", "node")["spec"]
    assert service["type"] == "LoadBalancer"
    assert service["externalTrafficPolicy"] == "Local"
    assert service["ports"] == [{"name": "vless", "port": 443, "targetPort": "vless"}]
    pod = pod_of(found.named("Deployment", "vpn-provisioner"))
    assert "nodeSelector" not in pod.spec


def test_a_forgotten_port_is_named(overlays: Path, tmp_path: Path) -> None:
    """W-53: keys would lead to a port that the balancer does not have."""
    found = after(overlays, tmp_path, "production", *BALANCED)
    assert violations(found) == [
        "Service node: keys lead to port 30443, and people reach 443",
    ]


# Recipes of the README


async def test_a_changed_password_takes_the_recipe(
    cluster: Callable[[str], Cluster], overlays: Path, tmp_path: Path, servers_dir: Path
) -> None:
    """D-17: the finished job of this tag is deleted and made again, and open sessions live on.

    Without the recipe nothing tells PostgreSQL: applying again changes no job.
    """
    before = cluster("try")
    found = after(overlays, tmp_path, "try", ("secret.env", "//payments_app:", "//payments_app:a"))
    assert changed(before, found, "Job") == set(), "applying alone runs no job"
    (selector,) = re.findall(r"delete job -l (\S+)", recipe("A password of the database"))
    key, value = selector.split("=")
    deleted = [job for job in found.of("Job") if job["metadata"]["labels"].get(key) == value]
    assert deleted == [job_of(found, "make-roles")]

    postgres = await Postgres.start(servers_dir / "manifests-password", settings=UNSYNCED)
    try:
        build_roles(postgres, before)
        old, new = (payments_dsn(postgres, one) for one in (before, found))
        session = await asyncpg.connect(old)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(new)

        build_roles(postgres, found)
        assert await session.fetchval("select 1") == 1
        await session.close()
        await (await asyncpg.connect(new)).close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(old)
    finally:
        await postgres.stop()


def build_roles(postgres: Postgres, found: Cluster) -> None:
    """Run the job's own script as the superuser of this PostgreSQL."""
    (password,) = re.findall(r":(\w+)@", postgres.dsn())
    env = environment_on(postgres, job_of(found, "make-roles"), found) | {
        "PGHOST": LOOPBACK,
        "PGPORT": str(postgres.port),
        "PGPASSWORD": password,
        "PATH": f"{PSQL}:{os.environ['PATH']}",
    }
    assert run("sh", KUBERNETES / "base/jobs/build-roles", env=env) == "all roles are ready\n"


def payments_dsn(postgres: Postgres, found: Cluster) -> str:
    return environment_on(postgres, job_of(found, "make-roles"), found)["TURNPIKE_PAYMENTS_DSN"]


def test_the_recipe_of_disks_fits(cluster: Callable[[str], Cluster]) -> None:
    """W-54: the claims of a StatefulSet are immutable; it is deleted without its pods."""
    commands = recipe("A larger disk for NATS")
    nats = cluster("production").named("StatefulSet", "nats")
    (claim,) = nats["spec"]["volumeClaimTemplates"]
    claims = {
        f"{claim['metadata']['name']}-nats-{number}" for number in range(nats["spec"]["replicas"])
    }
    assert set(re.findall(r"data-nats-\d", commands)) == claims
    (patch,) = re.findall(r"-p '(.*)'", commands)
    assert set(json.loads(patch)["spec"]["resources"]["requests"]) == set(
        claim["spec"]["resources"]["requests"]
    )
    assert "delete statefulset nats --cascade=orphan" in commands
    assert commands.index("patch") < commands.index("delete") < commands.index("apply -k")


def test_documents_name_one_operator_version() -> None:
    """1.28 has ended; the README and the overlay say the same."""
    texts = (
        (KUBERNETES / "README.md").read_text(),
        (KUBERNETES / "overlays/production/kustomization.yaml").read_text(),
    )
    named = [re.findall(r"CloudNativePG\S* (\d\.\d+)\s+or newer", text) for text in texts]
    assert named == [["1.30"], ["1.30"]]
