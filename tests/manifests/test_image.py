"""The images without a container engine: the Dockerfile's steps in a folder, and their results."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import venv
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from shared.contracts.owners import OWNERS
from tests.kit.waiting import until
from tests.manifests.cluster import Cluster, pod_of
from tests.manifests.kustomize import ROOT, run, tool
from turnpike_local.ports import LOOPBACK, answers, free_port
from turnpike_local.postgres import Postgres
from turnpike_local.processes import Child

DOCKER = ROOT / "deploy/docker"
DOCKERFILE = DOCKER / "Dockerfile"
SERVICES = [package.replace("_", "-") for package in OWNERS.values()]
WORKSPACE = {"shared", "turnpike-cli", *SERVICES}
IN_EVERY_IMAGE = ("shared", "turnpike-cli")
START_WITHIN_S = 300.0
ALL_COMMANDS = """
from importlib.metadata import entry_points
for command in entry_points(group="turnpike.commands"):
    print(command.load().name)
"""


def stage(name: str) -> list[str]:
    """The instructions of a stage, one per line."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    stages = re.split(r"(?m)^FROM ", text)[1:]
    (found,) = (lines for lines in stages if lines.split("\n")[0].endswith(f" AS {name}"))
    return [line for line in found.split("\n")[1:] if line and not line.startswith("#")]


def health_check(name: str) -> list[str]:
    """The command of a stage's health check."""
    (line,) = (line for line in stage(name) if line.startswith("HEALTHCHECK "))
    command: list[str] = json.loads(line.partition(" CMD ")[2])
    return command


def context(folder: Path) -> Path:
    """A folder with the files that .dockerignore allows in a build."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert patterns[0] == "*"
    kept = [pattern.removeprefix("!") for pattern in patterns[1:] if pattern.startswith("!")]
    dropped = [pattern.removeprefix("**/") for pattern in patterns[1:] if pattern.startswith("**/")]
    assert len(kept) + len(dropped) + 1 == len(patterns), "only these two forms are supported here"
    for path in kept:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns(*dropped))
        else:
            shutil.copy(ROOT / path, folder / path)
    return folder


def built(folder: Path, name: str, service: str = "") -> Path:
    """Run the RUN steps of a stage, and return the folder that stands for /opt/turnpike."""
    source, made = context(folder / "context"), folder / "opt/turnpike"
    python = folder / "python"
    venv.create(python, with_pip=True)  # The image's Python has pip too.
    for step in stage(name):
        if step.startswith("RUN "):
            command = step.removeprefix("RUN ").replace("/opt/turnpike", str(made))
            env = {"PATH": f"{python}/bin:{os.environ['PATH']}", "SERVICE": service}
            run("sh", "-c", f"cd {source} && {command}", env=env)
    return made


@pytest.fixture(scope="module")
def payments(servers_dir: Path) -> Path:
    return built(servers_dir / "image", "build-service", "payments")


def test_dockerfile_passes_hadolint() -> None:
    run(tool("hadolint"), "--failure-threshold", "info", DOCKERFILE)


def test_images_run_unprivileged_and_build_nothing() -> None:
    runtime = stage("runtime")
    assert "USER 10001:10001" in runtime
    assert "STOPSIGNAL SIGTERM" in runtime
    for name in ("service", "node"):
        assert not [line for line in stage(name) if line.startswith(("RUN", "USER"))], (
            "the final stages build nothing"
        )
    assert DOCKERFILE.read_text().rstrip().endswith('ENTRYPOINT ["serve"]'), (
        "the last stage is the default target"
    )


def test_node_builds_without_a_service() -> None:
    """A builder other than BuildKit builds every stage above its target."""
    above, _ = DOCKERFILE.read_text().split("FROM runtime AS node")
    assert "SERVICE" not in re.sub(r"(?m)^#.*", "", above)


def test_the_standard_library_is_compiled(tmp_path: Path) -> None:
    library = tmp_path / "lib/python3.13"
    (library / "ensurepip").mkdir(parents=True)
    shutil.copytree(
        Path(json.__file__).parent, library / "json", ignore=shutil.ignore_patterns("__pycache__")
    )
    (steps,) = (line.removeprefix("RUN ") for line in stage("runtime") if line.startswith("RUN "))
    _, without_pip = steps.split(" && ", 1)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # The image has a `python`.
    run(
        "sh",
        "-c",
        without_pip.replace("/usr/local", str(tmp_path)),
        env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": path},
    )
    assert {path.name for path in library.iterdir()} == {"json"}
    assert list(library.glob("json/__pycache__/decoder.*.pyc"))


def test_build_context_has_no_secrets_and_no_history(tmp_path: Path) -> None:
    seen = {
        str(path.relative_to(tmp_path)) for path in context(tmp_path).rglob("*") if path.is_file()
    }
    assert {name.split("/")[0] for name in seen} == {
        "requirements.lock",
        "shared",
        "services",
        "deploy",
    }
    assert not [
        name
        for name in seen
        if fnmatch(name, "*.env") or fnmatch(name, "*.pyc") or "kubernetes" in name
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_image_gets_exactly_its_dependencies(service: str) -> None:
    """The entries of the lock, compared with the metadata of the installed packages."""
    locked = run(
        sys.executable, DOCKER / "locked.py", ROOT / "requirements.lock", service, *IN_EVERY_IMAGE
    )
    given = {normal(name) for name in re.findall(r"(?m)^([\w.-]+)==", locked)}
    assert given == needs([service, *IN_EVERY_IMAGE]) - WORKSPACE


def needs(names: list[str]) -> set[str]:
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        found.add(normal(wanted.name))
        waiting += required(wanted)
    return found


def required(wanted: Requirement) -> Iterator[Requirement]:
    for line in metadata.requires(wanted.name) or ():
        further = Requirement(line)
        if further.marker is None or any(
            further.marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras}
        ):
            yield further


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_unlocked_package_fails_the_build() -> None:
    with pytest.raises(AssertionError, match="the lock has nothing for left-pad"):
        run(sys.executable, DOCKER / "locked.py", ROOT / "requirements.lock", "left-pad")


def test_image_holds_no_other_service_or_build_tool(payments: Path) -> None:
    installed = {
        normal(found.metadata["Name"])
        for found in metadata.distributions(path=[str(site(payments))])
    }
    assert {"payments", *IN_EVERY_IMAGE, "asyncpg"} <= installed
    assert not installed & {
        "aiogram",
        "grpcio",
        "notifier",
        "turnpike-local",
        "hatchling",
        "uv",
        "pip",
        "setuptools",
    }
    assert not list(site(payments).glob("__editable__*")), (
        "an editable package would point into the build"
    )
    assert list(site(payments).glob("payments/__pycache__/*.pyc")), (
        "the root is read-only, so nothing can be compiled later"
    )


def test_image_has_every_operator_command(payments: Path) -> None:
    """Its commands load with the dependencies of its own service."""
    names = run(payments / "bin/python", "-I", "-c", ALL_COMMANDS)
    assert {"audit", "dead-letters", "migrate", "restored", "streams", "why"} <= set(
        names.splitlines()
    )


def site(image: Path) -> Path:
    (found,) = (image / "lib").glob("python3.*/site-packages")
    return found


def environment(image: Path, **variables: str) -> dict[str, str]:
    """The variables of the Dockerfile, and those that a pod adds."""
    (line,) = (line for line in stage("runtime") if line.startswith("ENV "))
    fixed = dict(pair.split("=", 1) for pair in line.removeprefix("ENV ").split())
    return fixed | {"PATH": f"{image}/bin:/usr/bin:/bin"} | variables


async def test_image_runs_as_the_manifests_configure_it(
    payments: Path,
    cluster: Callable[[str], Cluster],
    postgres: Postgres,
    nats_url: str,
    servers_dir: Path,
) -> None:
    """W-56: it starts before its jobs, is ready and healthy after them, and stops at SIGTERM.

    The jobs run with their own commands. No file of the image changes.
    """
    found, port = cluster("try"), free_port()
    database = await postgres.fresh_database()
    here = {
        "TURNPIKE_NATS_URL": nats_url,
        "TURNPIKE_PAYMENTS_OWNER_DSN": postgres.dsn("payments_owner", database),
        "TURNPIKE_PAYMENTS_DSN": postgres.dsn("payments_app", database),
        "TURNPIKE_HTTP_PORT": str(port),
    }
    before = files(payments)

    container = pod_of(found.named("Deployment", "payments")).container("service")
    assert "command" not in container
    assert "args" not in container
    variables = found.environment(container)
    log = servers_dir / "image.log"
    child = await Child.start(
        "payments",
        [str(payments / "bin/serve")],
        log=log,
        env=environment(payments, **variables | moved(here, variables)),
        cwd=Path("/"),
    )
    await until(
        lambda: '"service up"' in log.read_text() or not child.alive, within_s=START_WITHIN_S
    )
    assert not await answers(f"http://{LOOPBACK}:{port}/readyz")

    for start in ("make-streams", "migrate-payments"):
        (job,) = (job for job in found.of("Job") if job["metadata"]["name"].startswith(start))
        container = pod_of(job).container("job")
        variables = found.environment(container)
        await ended(
            payments,
            container["command"] + container["args"],
            servers_dir,
            environment(payments, **variables | moved(here, variables)),
        )

    await until(lambda: answers(f"http://{LOOPBACK}:{port}/readyz"), within_s=START_WITHIN_S)
    assert child.alive
    check = [str(payments / "bin/python"), "-I", str(DOCKER / "healthy.py")]
    assert health_check("service") == ["python", "-I", "/opt/turnpike/healthy.py"]
    run(*check, env={"TURNPIKE_HTTP_HOST": "0.0.0.0", "TURNPIKE_HTTP_PORT": str(port)})
    os.kill(child.pid, signal.SIGTERM)
    await until(lambda: not child.alive, within_s=START_WITHIN_S)
    assert '"service down"' in log.read_text()
    with pytest.raises(AssertionError, match="not healthy: "):
        run(*check, env={"TURNPIKE_HTTP_PORT": str(port)})
    assert files(payments) == before


def moved(here: dict[str, str], variables: dict[str, str]) -> dict[str, str]:
    """The addresses of this machine, for the variables that a manifest sets."""
    assert variables.keys() & here.keys()
    return {name: value for name, value in here.items() if name in variables}


async def ended(image: Path, command: list[str], folder: Path, variables: dict[str, str]) -> None:
    """Run a job's command until it ends successfully."""
    program, *arguments = command
    argv = [str(image / "bin" / program), *arguments]
    process = await asyncio.create_subprocess_exec(
        *argv, env=variables, cwd=folder, stderr=asyncio.subprocess.STDOUT
    )
    assert await asyncio.wait_for(process.wait(), START_WITHIN_S) == 0


def files(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_node_image_holds_xray_and_grpc_only(servers_dir: Path) -> None:
    """`test_servers.py` runs its program."""
    made = built(servers_dir / "node-image", "build-node")
    found = metadata.distributions(path=[str(site(made))])
    assert {one.metadata["Name"] for one in found} == {"Xray-core", "grpcio", "typing_extensions"}


def test_node_checks_the_file_that_it_runs(cluster: Callable[[str], Cluster]) -> None:
    """W-56: `test_servers.py` runs the check against a node."""
    (file,) = (
        json.loads(line.removeprefix("CMD ")) for line in stage("node") if line[:4] == "CMD "
    )
    assert health_check("node") == ["python", "-I", "/opt/turnpike/healthy.py", *file]
    node = pod_of(cluster("try").named("Deployment", "vpn-provisioner")).container("node")
    assert [f"{mount['mountPath']}/node.json" for mount in node["volumeMounts"]] == file


@pytest.mark.parametrize("service", SERVICES)
def test_only_screens_and_messages_bring_babel(service: str) -> None:
    """Its locales are 33 MB: only the services with texts have them."""
    locked = run(
        sys.executable, DOCKER / "locked.py", ROOT / "requirements.lock", service, *IN_EVERY_IMAGE
    )
    package = ROOT / "services" / service
    writes = any("platform.texts" in file.read_text() for file in package.rglob("*.py"))
    assert ("babel==" in locked) is writes
    assert writes is (service in ("bot-gateway", "notifier"))
