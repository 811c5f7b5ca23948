"""Every overlay renders, fits the schemas, passes the linters and violates no rule."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.platform import roles
from tests.manifests.changes import after, changed
from tests.manifests.cluster import OPERATED, Cluster, is_custom
from tests.manifests.kustomize import (
    DRAWN,
    GIVEN,
    KUBERNETES,
    OURS,
    OVERLAYS,
    ROOT,
    read,
    rendered,
    run,
    tool,
)
from tests.manifests.rules import violations

OLDEST, NEWEST = "1.30", "1.37"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_overlay_fits_the_strict_schemas(
    render: Callable[[str], str], tmp_path: Path, version: str
) -> None:
    validate = tool("kubernetes-validate")
    files = written(render, tmp_path)
    lines = run(
        validate, "--strict", "--kubernetes-version", version, *files, errors=True
    ).splitlines()
    unknown = [line for line in lines if "Couldn't find schema" in line]
    assert all(is_custom(re.findall(r"api version (\S+)", line)[0]) for line in unknown), unknown
    resources = sum(len(read(file.read_text())) for file in files)
    assert sum(" passed for resource " in line for line in lines) + len(unknown) == resources


def test_every_overlay_passes_checkov(render: Callable[[str], str], tmp_path: Path) -> None:
    config = Path(__file__).with_name("checkov.yaml")
    files = [part for file in written(render, tmp_path) for part in ("--file", file)]
    run(tool("checkov"), "--config-file", config, *files)


def written(render: Callable[[str], str], folder: Path) -> list[Path]:
    files = [folder / f"{overlay}.yaml" for overlay in OVERLAYS]
    for file in files:
        file.write_text(render(file.stem))
    return files


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_violate_no_rule(cluster: Callable[[str], Cluster], overlay: str) -> None:
    found = violations(cluster(overlay))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("port", "sentences"),
    [
        ("4318", []),
        ("4317", ["no policy allows OTEL_EXPORTER_OTLP_ENDPOINT, collector.traces:4317"]),
    ],
)
def test_settings_may_enable_traces(
    overlays: Path, tmp_path: Path, port: str, sentences: list[str]
) -> None:
    """W-55: a policy lets traces leave, in `try` too, and another port is named."""
    before = "TURNPIKE_NATS_REPLICAS=1"
    traces = f"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.traces:{port}"
    sampler = "OTEL_TRACES_SAMPLER_ARG=0.1"
    _, found = renderings(
        overlays, tmp_path, "settings.env", before, f"{before}\n{traces}\n{sampler}"
    )
    assert sorted({one.partition(": ")[2] for one in violations(found)}) == sentences


def test_registry_component_gives_every_pod_the_secret(overlays: Path, tmp_path: Path) -> None:
    before, found = renderings(
        overlays, tmp_path, "kustomization.yaml", "# - ../../comp", "- ../../comp"
    )
    assert {
        pod.owner
        for pod in found.pods
        if pod.spec.get("imagePullSecrets") == [{"name": "registry"}]
    } == {pod.owner for pod in before.pods}


def test_only_production_needs_an_operator(cluster: Callable[[str], Cluster]) -> None:
    custom = {
        overlay: [
            found["kind"] for found in cluster(overlay).resources if found["apiVersion"] == OPERATED
        ]
        for overlay in OURS
    }
    assert custom == {"try": [], "production": ["Cluster"]}


def test_new_tag_makes_new_jobs_and_rolls_services(overlays: Path, tmp_path: Path) -> None:
    """A job cannot be changed after it was created, so a new image needs a job with a new name."""
    before, found = renderings(
        overlays, tmp_path, "kustomization.yaml", "newTag: unreleased", "newTag: 0a1b2c3"
    )
    assert before.names("Job").isdisjoint(found.names("Job"))
    assert len(found.names("Job")) == len(before.names("Job"))
    assert changed(before, found, "Deployment") == before.names("Deployment")


@pytest.mark.parametrize(
    ("file", "old", "new", "rolled"),
    [
        (
            "settings.env",
            "=polling",
            "=webhook",
            {"bot-gateway", "payments", "referrals", "notifier"},
        ),
        (
            "secret.env",
            "//bot_app:",
            "//bot_app:a",
            {"bot-gateway", "payments", "referrals", "notifier"},
        ),
        ("vpn-provisioner.env", "//vpn_app:", "//vpn_app:a", {"vpn-provisioner"}),
        ("node.json", "www.large-site.test", "another.test", {"vpn-provisioner"}),
        (
            "nats.env",
            "NATS_PASSWORD=",
            "NATS_PASSWORD=a",
            {"bot-gateway", "payments", "referrals", "notifier", "vpn-provisioner", "nats"},
        ),
    ],
)
def test_change_rolls_only_the_readers(
    overlays: Path, tmp_path: Path, file: str, old: str, new: str, rolled: set[str]
) -> None:
    """A new node pod interrupts people's connections, so only its own settings may cause one.

    Jobs stay unchanged: they cannot be applied again, and a job that waits with a wrong password
    must be able to take the new one.
    """
    before, found = renderings(overlays, tmp_path, file, old, new)
    assert changed(before, found, "Job") == set()
    assert changed(before, found, "Deployment") | changed(before, found, "StatefulSet") == rolled


def renderings(
    overlays: Path, folder: Path, file: str, old: str, new: str
) -> tuple[Cluster, Cluster]:
    """The overlay `try` before and after a change in one of its files."""
    before = Cluster(read(rendered(overlays / "try")))
    return before, after(overlays, folder, "try", (file, old, new))


def test_roles_sql_matches_the_shared_code() -> None:
    """`python -m shared.platform.roles turnpike` prints the file."""
    assert (KUBERNETES / "base/jobs/roles.sql").read_text() == roles.separation("turnpike")


def test_manifests_pass_yamllint() -> None:
    run(
        tool("yamllint"),
        "--strict",
        "--config-file",
        Path(__file__).with_name("yamllint.yaml"),
        KUBERNETES,
    )


def test_scripts_pass_shellcheck() -> None:
    scripts = [
        path
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.read_bytes()[:9] == b"#!/bin/sh"
    ]
    assert KUBERNETES / "base/jobs/build-roles" in scripts
    run(tool("shellcheck"), *scripts, ROOT / ".ci/run")


def test_existing_secrets_are_never_overwritten(tmp_path: Path) -> None:
    """A value that only the operator knows must be set; everything else is drawn at random."""
    shutil.copytree(KUBERNETES, tmp_path / "k", ignore=shutil.ignore_patterns(*DRAWN))
    draw, overlay = tmp_path / "k/draw-secrets", tmp_path / "k/overlays/production"
    without_token = {name: GIVEN[name] for name in GIVEN if name != "TURNPIKE_BOT_TOKEN"}
    with pytest.raises(AssertionError, match="TURNPIKE_BOT_TOKEN is not set"):
        run("sh", draw, overlay, env=without_token)
    assert not [name for name in DRAWN if (overlay / name).exists()]
    run("sh", draw, overlay, env=GIVEN | {"TURNPIKE_BOT_TOKEN": "1:a"})
    first = {name: (overlay / name).read_text() for name in DRAWN}
    with pytest.raises(AssertionError, match="exists already"):
        run("sh", draw, overlay, env=GIVEN | {"TURNPIKE_BOT_TOKEN": "1:b"})
    assert {name: (overlay / name).read_text() for name in DRAWN} == first
    assert not [name for name in DRAWN if (overlay / name).stat().st_mode & 0o077]
    passwords = re.findall(r"(?m)_DSN=postgresql://\w+:(\w+)@", "".join(first.values()))
    assert len(passwords) == len(set(passwords)) == 10
