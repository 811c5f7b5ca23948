"""The image without a container engine: the Dockerfile's own steps in a scratch folder, and what they made at work."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from shared.owners import OWNERS
from tests.kit.access import until
from tests.manifests.cluster import Cluster, pod_of
from tests.manifests.kustomize import ROOT, run, tool
from turnpike_local.ports import LOOPBACK, answers, free_port
from turnpike_local.postgres import Postgres
from turnpike_local.processes import Child

DOCKER = ROOT / "deploy/docker"
DOCKERFILE = DOCKER / "Dockerfile"
SERVICES = [package.replace("_", "-") for package in OWNERS.values()]
OF_THE_WORKSPACE = {"shared", "turnpike-cli", *SERVICES}
IN_EVERY_IMAGE = ("shared", "turnpike-cli")
ALL_COMMANDS = """
from importlib.metadata import entry_points
for command in entry_points(group="turnpike.commands"):
    print(command.load().name)
"""


def stage(name: str) -> list[str]:
    """A stage's instructions, each on one line."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    stages = re.split(r"(?m)^FROM ", text)[1:]
    (found,) = (lines for lines in stages if lines.split("\n")[0].endswith(f" AS {name}"))
    return [line for line in found.split("\n")[1:] if line and not line.startswith("#")]


def context(folder: Path) -> Path:
    """The files that a build sees: what .dockerignore lets through."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    kept = [pattern.removeprefix("!") for pattern in patterns[1:] if pattern.startswith("!")]
    dropped = [pattern.removeprefix("**/") for pattern in patterns[1:] if pattern.startswith("**/")]
    assert len(kept) + len(dropped) + 1 == len(patterns), "only these two forms are used, and read, here"
    for path in kept:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns(*dropped))
        else:
            shutil.copy(ROOT / path, folder / path)
    return folder


def built(folder: Path, name: str, service: str = "") -> Path:
    """/opt/turnpike as the stage's own RUN steps make it, in a folder of ours."""
    source, made = context(folder / "context"), folder / "opt/turnpike"
    python = Path(sys.executable).parent  # It has pip, as the image's has.
    for step in stage(name):
        if step.startswith("RUN "):
            command = step.removeprefix("RUN ").replace("/opt/turnpike", str(made))
            env = {"PATH": f"{python}:{os.environ['PATH']}", "SERVICE": service}
            run("sh", "-c", f"cd {source} && {command}", env=env)
    return made


@pytest.fixture(scope="module")
def payments(servers_dir: Path) -> Path:
    return built(servers_dir / "image", "build-service", "payments")


def test_the_dockerfile_is_lint_free() -> None:
    run(tool("hadolint"), "--failure-threshold", "info", DOCKERFILE)


def test_the_images_run_as_nobody_special_and_stop_when_told() -> None:
    ground = stage("ground")
    assert "USER 10001:10001" in ground
    assert "STOPSIGNAL SIGTERM" in ground
    for name in ("service", "node"):
        assert not [line for line in stage(name) if line.startswith(("RUN", "USER"))], "nothing is built in what runs"
    assert DOCKERFILE.read_text().rstrip().endswith('ENTRYPOINT ["serve"]'), "the last stage is what is built unasked"


def test_the_node_is_built_without_naming_a_service() -> None:
    """Also by a builder that makes every stage above."""
    above, _ = DOCKERFILE.read_text().split("FROM ground AS node")
    assert "SERVICE" not in re.sub(r"(?m)^#.*", "", above)


def test_what_python_brings_is_compiled(tmp_path: Path) -> None:
    library = tmp_path / "lib/python3.13"
    (library / "ensurepip").mkdir(parents=True)
    shutil.copytree(Path(json.__file__).parent, library / "json", ignore=shutil.ignore_patterns("__pycache__"))
    (steps,) = (line.removeprefix("RUN ") for line in stage("ground") if line.startswith("RUN "))
    _, others = steps.split(" && ", 1)
    run("sh", "-c", others.replace("/usr/local", str(tmp_path)), env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert {path.name for path in library.iterdir()} == {"json"}
    assert list(library.glob("json/__pycache__/decoder.*.pyc"))


def test_a_build_sees_no_secret_and_no_history(tmp_path: Path) -> None:
    seen = {str(path.relative_to(tmp_path)) for path in context(tmp_path).rglob("*") if path.is_file()}
    assert {name.split("/")[0] for name in seen} == {"requirements.lock", "shared", "services", "deploy"}
    assert not [name for name in seen if fnmatch(name, "*.env") or fnmatch(name, "*.pyc") or "kubernetes" in name]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_given_what_its_service_needs_and_nothing_else(service: str) -> None:
    """The part of the lock, against what the installed packages say of themselves."""
    locked = run(sys.executable, DOCKER / "locked.py", ROOT / "requirements.lock", service, *IN_EVERY_IMAGE)
    given = {normal(name) for name in re.findall(r"(?m)^([\w.-]+)==", locked)}
    assert given == needs([service, *IN_EVERY_IMAGE]) - OF_THE_WORKSPACE


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
        if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras}):
            yield further


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_not_locked_is_not_built() -> None:
    with pytest.raises(AssertionError, match="the lock has nothing for left-pad"):
        run(sys.executable, DOCKER / "locked.py", ROOT / "requirements.lock", "left-pad")


def test_an_image_holds_its_service_and_neither_its_neighbours_nor_what_built_it(payments: Path) -> None:
    installed = {normal(found.metadata["Name"]) for found in metadata.distributions(path=[str(site(payments))])}
    assert {"payments", *IN_EVERY_IMAGE, "asyncpg"} <= installed
    assert not installed & {"aiogram", "grpcio", "notifier", "turnpike-local", "hatchling", "uv", "pip", "setuptools"}
    assert not list(site(payments).glob("__editable__*")), "it would point back into the build"
    assert list(site(payments).glob("payments/__pycache__/*.pyc")), "nobody compiles it later: the root is read-only"


def test_an_image_has_every_command_of_an_operator(payments: Path) -> None:
    """With what its own service needs, and nothing else."""
    told = run(payments / "bin/python", "-I", "-c", ALL_COMMANDS)
    assert {"audit", "dead", "migrate", "restored", "streams", "why"} <= set(told.splitlines())


def site(image: Path) -> Path:
    (found,) = (image / "lib").glob("python3.*/site-packages")
    return found


def environment(image: Path, **variables: str) -> dict[str, str]:
    """What the Dockerfile sets, and what a pod adds."""
    (line,) = (line for line in stage("ground") if line.startswith("ENV "))
    fixed = dict(pair.split("=", 1) for pair in line.removeprefix("ENV ").split())
    return fixed | {"PATH": f"{image}/bin:/usr/bin:/bin"} | variables


async def test_an_image_prepares_serves_and_stops_as_the_manifests_ask(
    payments: Path, cluster: Callable[[str], Cluster], postgres: Postgres, nats_url: str, servers_dir: Path
) -> None:
    """Started before its jobs, ready after them (by their own commands), stopped when told; it writes no file."""
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
    seen = found.environment(container)
    log = servers_dir / "image.log"
    child = await Child.start(
        "payments",
        [str(payments / "bin/serve")],
        log=log,
        env=environment(payments, **seen | moved(here, seen)),
        cwd=Path("/"),
    )
    await until(lambda: '"service up"' in log.read_text() or not child.alive)
    assert not await answers(f"http://{LOOPBACK}:{port}/readyz")

    for start in ("make-streams", "migrate-payments"):
        (job,) = (job for job in found.of("Job") if job["metadata"]["name"].startswith(start))
        container = pod_of(job).container("job")
        seen = found.environment(container)
        await ended(
            payments,
            container["command"] + container["args"],
            servers_dir,
            environment(payments, **seen | moved(here, seen)),
        )

    await until(lambda: answers(f"http://{LOOPBACK}:{port}/readyz"))
    assert child.alive
    os.kill(child.pid, signal.SIGTERM)
    await until(lambda: not child.alive, within_s=300)
    assert '"service down"' in log.read_text()
    assert files(payments) == before


def moved(here: dict[str, str], seen: dict[str, str]) -> dict[str, str]:
    """The addresses of this machine for those variables that the manifest sets."""
    assert seen.keys() & here.keys()
    return {name: value for name, value in here.items() if name in seen}


async def ended(image: Path, command: list[str], folder: Path, known: dict[str, str]) -> None:
    """Run a job's command to its end."""
    program, *arguments = command
    argv = [str(image / "bin" / program), *arguments]
    process = await asyncio.create_subprocess_exec(*argv, env=known, cwd=folder, stderr=asyncio.subprocess.STDOUT)
    assert await asyncio.wait_for(process.wait(), 120) == 0


def files(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_the_node_s_image_holds_xray_alone(servers_dir: Path) -> None:
    """`test_servers.py` runs its program."""
    made = built(servers_dir / "node-image", "build-node")
    assert [found.metadata["Name"] for found in metadata.distributions(path=[str(site(made))])] == ["Xray-core"]
