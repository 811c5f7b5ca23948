"""Every overlay renders, fits the schemas, is lint-free, and breaks none of the rules that a schema does not know."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.roles import wall
from tests.manifests.cluster import OPERATED, Cluster
from tests.manifests.kustomize import DRAWN, GIVEN, KUBERNETES, OVERLAYS, ROOT, read, rendered, run, tool
from tests.manifests.refusals import refusals

OLDEST, NEWEST = "1.30", "1.37"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_overlay_fits_the_strict_schemas(render: Callable[[str], str], tmp_path: Path, version: str) -> None:
    validate = tool("kubernetes-validate")
    files = written(render, tmp_path)
    told = run(validate, "--strict", "--kubernetes-version", version, *files, errors=True).splitlines()
    without = [line for line in told if "Couldn't find schema" in line]
    assert all(f"api version {OPERATED}" in line for line in without), without
    resources = sum(len(read(file.read_text())) for file in files)
    assert sum(" passed for resource " in line for line in told) + len(without) == resources


def test_every_overlay_has_the_marks_of_a_guarded_one(render: Callable[[str], str], tmp_path: Path) -> None:
    config = Path(__file__).with_name("checkov.yaml")
    files = [part for file in written(render, tmp_path) for part in ("--file", file)]
    run(tool("checkov"), "--config-file", config, *files)


def written(render: Callable[[str], str], folder: Path) -> list[Path]:
    files = [folder / f"{overlay}.yaml" for overlay in OVERLAYS]
    for file in files:
        file.write_text(render(file.stem))
    return files


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_in_an_overlay_would_be_refused(cluster: Callable[[str], Cluster], overlay: str) -> None:
    assert refusals(cluster(overlay)) == []


def test_traces_may_be_asked_for_in_settings(overlays: Path, tmp_path: Path) -> None:
    wanted = "TURNPIKE_NATS_REPLICAS=1\nOTEL_EXPORTER_OTLP_ENDPOINT=http://collector.traces:4318\nOTEL_TRACES_SAMPLER_ARG=0.1"
    _, after = renderings(overlays, tmp_path, "settings.env", "TURNPIKE_NATS_REPLICAS=1", wanted)
    assert refusals(after) == []


def test_every_pod_may_have_a_registry_s_password(overlays: Path, tmp_path: Path) -> None:
    before, after = renderings(overlays, tmp_path, "kustomization.yaml", "# - ../../comp", "- ../../comp")
    assert {pod.owner for pod in after.pods if pod.spec.get("imagePullSecrets") == [{"name": "registry"}]} == {
        pod.owner for pod in before.pods
    }


def test_only_production_needs_an_operator(cluster: Callable[[str], Cluster]) -> None:
    needing = {
        overlay: [found["kind"] for found in cluster(overlay).resources if found["apiVersion"] == OPERATED]
        for overlay in OVERLAYS
    }
    assert needing == {"try": [], "production": ["Cluster"]}


def test_another_tag_makes_other_jobs_and_rolls_every_service(overlays: Path, tmp_path: Path) -> None:
    """A job that was made cannot be changed: under one name it could never be applied again."""
    before, after = renderings(overlays, tmp_path, "kustomization.yaml", "newTag: unreleased", "newTag: 0a1b2c3")
    assert before.names("Job").isdisjoint(after.names("Job"))
    assert len(after.names("Job")) == len(before.names("Job"))
    assert changed(before, after, "Deployment") == before.names("Deployment")


@pytest.mark.parametrize(
    ("file", "old", "new", "rolled"),
    [
        ("settings.env", "=polling", "=webhook", {"bot-gateway", "payments", "referrals", "notifier"}),
        ("secret.env", "//bot_app:", "//bot_app:a", {"bot-gateway", "payments", "referrals", "notifier"}),
        ("vpn.env", "//vpn_app:", "//vpn_app:a", {"vpn-provisioner"}),
        ("node.json", "www.example.com", "www.example.org", {"vpn-provisioner"}),
        (
            "nats.env",
            "NATS_PASSWORD=",
            "NATS_PASSWORD=a",
            {"bot-gateway", "payments", "referrals", "notifier", "vpn-provisioner", "nats"},
        ),
    ],
)
def test_what_changes_rolls_who_reads_it_and_nobody_else(
    overlays: Path, tmp_path: Path, file: str, old: str, new: str, rolled: set[str]
) -> None:
    """Whoever rolls the node cuts people's connections. A job that waits with a wrong password has to take the right
    one, and cannot be changed."""
    before, after = renderings(overlays, tmp_path, file, old, new)
    assert changed(before, after, "Job") == set()
    assert changed(before, after, "Deployment") | changed(before, after, "StatefulSet") == rolled


def renderings(overlays: Path, folder: Path, file: str, old: str, new: str) -> tuple[Cluster, Cluster]:
    """The overlay `try` as it is, and with a change in one of its files."""
    shutil.copytree(overlays.parent, folder / "kubernetes")
    overlay = folder / "kubernetes/overlays/try"
    before = Cluster(read(rendered(overlay)))
    text = (overlay / file).read_text()
    assert old in text
    (overlay / file).write_text(text.replace(old, new))
    return before, Cluster(read(rendered(overlay)))


def changed(before: Cluster, after: Cluster, kind: str) -> set[str]:
    return {name for name in before.names(kind) if before.named(kind, name) != after.named(kind, name)}


def test_the_wall_is_the_one_that_the_services_expect() -> None:
    """`python -m shared.roles turnpike > deploy/kubernetes/base/jobs/wall.sql` writes it anew."""
    assert (KUBERNETES / "base/jobs/wall.sql").read_text() == wall("turnpike")


def test_what_people_wrote_is_plain_yaml() -> None:
    run(tool("yamllint"), "--strict", "--config-file", Path(__file__).with_name("yamllint.yaml"), KUBERNETES)


def test_scripts_are_plain_sh_and_have_no_traps() -> None:
    scripts = [
        path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.read_bytes()[:9] == b"#!/bin/sh"
    ]
    assert KUBERNETES / "base/jobs/build-roles" in scripts
    run(tool("shellcheck"), *scripts, ROOT / ".ci/run")


def test_secrets_are_drawn_once_and_asked_for(tmp_path: Path) -> None:
    """What is in use is never overwritten; what only a person knows is not invented."""
    shutil.copytree(KUBERNETES, tmp_path / "k", ignore=shutil.ignore_patterns(*DRAWN))
    draw, overlay = tmp_path / "k/draw-secrets", tmp_path / "k/overlays/try"
    with pytest.raises(AssertionError, match="TURNPIKE_BOT_TOKEN is not set"):
        run("sh", draw, overlay, env={"TURNPIKE_NODE_HOST": "vpn.example.org"})
    assert not [name for name in DRAWN if (overlay / name).exists()]
    run("sh", draw, overlay, env=GIVEN | {"TURNPIKE_BOT_TOKEN": "1:a"})
    first = {name: (overlay / name).read_text() for name in DRAWN}
    with pytest.raises(AssertionError, match="there already"):
        run("sh", draw, overlay, env=GIVEN | {"TURNPIKE_BOT_TOKEN": "1:b"})
    assert {name: (overlay / name).read_text() for name in DRAWN} == first
    assert not [name for name in DRAWN if (overlay / name).stat().st_mode & 0o077]
    passwords = re.findall(r"(?m)_DSN=postgresql://\w+:(\w+)@", "".join(first.values()))
    assert len(passwords) == len(set(passwords)) == 10
