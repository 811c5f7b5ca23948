"""The real NATS accepts the configuration of the overlays, and nobody without a password."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from shared.messaging.jetstream import BrokerError, create_streams
from tests.kit.waiting import until
from tests.manifests.cluster import Cluster, pod_of, size
from tests.manifests.kustomize import OVERLAYS
from turnpike_local.ports import LOOPBACK, accepts, answers, fetch, free_port
from turnpike_local.processes import Child, program

ELECTION_WITHIN_S = 120.0


def nats_file(cluster: Cluster) -> tuple[str, dict[str, str]]:
    """The brokers' configuration file, and the environment of their pods."""
    pod = pod_of(cluster.named("StatefulSet", "nats"))
    (volume,) = (volume for volume in pod.spec["volumes"] if "configMap" in volume)
    data = cluster.contents("ConfigMap", volume["configMap"]["name"])
    return data["nats.conf"], cluster.environment(pod.containers[0])


@dataclass(frozen=True)
class Brokers:
    ports: list[int]
    monitors: list[int]
    routes: list[int]
    children: list[Child]


@asynccontextmanager
async def brokers(
    cluster: Cluster, folder: Path, secrets: Mapping[str, str] | None = None
) -> AsyncIterator[Brokers]:
    """Start the servers of an overlay on loopback; only addresses and folders differ.

    `secrets` maps drawn secrets to others.
    """
    text, environment = nats_file(cluster)
    names = [
        f"nats-{number}"
        for number in range(cluster.named("StatefulSet", "nats")["spec"]["replicas"])
    ]
    routes = [free_port() for _ in names]
    peers = {
        f"{name}.nats-nodes:6222": f"{LOOPBACK}:{port}"
        for name, port in zip(names, routes, strict=True)
    }
    everything = text + "".join(environment.values())
    assert len(names) == 1 or all(peer in everything for peer in peers), (
        "every server must be a route of the others"
    )
    changes = peers | dict(secrets or {})
    environment = {name: replaced(value, changes) for name, value in environment.items()}
    started = Brokers([free_port() for _ in names], [free_port() for _ in names], routes, [])
    try:
        for name, port, monitor, peer in zip(
            names, started.ports, started.monitors, peers.values(), strict=True
        ):
            own = {
                "0.0.0.0:4222": f"{LOOPBACK}:{port}",
                "0.0.0.0:8222": f"{LOOPBACK}:{monitor}",
                "0.0.0.0:6222": peer,
                "store_dir: /data": f"store_dir: {folder}/{name}",
            }
            file = folder / f"{name}.conf"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(replaced(text, peers | own))
            env = environment | {"POD_NAME": name, "PATH": os.environ["PATH"]}
            argv = [program("nats-server"), "--config", str(file)]
            ready = partial(accepts, port)
            started.children.append(
                await Child.start(name, argv, log=folder / f"{name}.log", env=env, ready=ready)
            )
        yield started
    finally:
        for child in started.children:
            await child.stop()


def replaced(text: str, changes: Mapping[str, str]) -> str:
    return reduce(lambda changed, change: changed.replace(*change), changes.items(), text)


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_nats_accepts_its_file_and_every_stream(
    cluster: Callable[[str], Cluster], servers_dir: Path, overlay: str
) -> None:
    """The services' address and replicas work, and another password is refused."""
    found = cluster(overlay)
    service = pod_of(found.named("Deployment", "payments")).container("service")
    variables = found.environment(service)
    async with brokers(found, servers_dir / f"manifests-{overlay}") as started:
        port = started.ports[0]
        url = variables["TURNPIKE_NATS_URL"].replace("nats:4222", f"{LOOPBACK}:{port}")
        assert await greeting(port, "turnpike", urlsplit(url).password) == "PONG"
        assert await greeting(port, "turnpike", "another") == "-ERR 'Authorization Violation'"
        replicas = int(variables["TURNPIKE_NATS_REPLICAS"])
        await until(
            lambda: created(url, replicas=replicas), within_s=ELECTION_WITHIN_S, every_s=0.5
        )
        await check_probes(found, started)


async def check_probes(cluster: Cluster, started: Brokers) -> None:
    """A server has started once there is a leader. Without one it stays alive and ready."""
    container = pod_of(cluster.named("StatefulSet", "nats")).container("nats")
    url = f"http://{LOOPBACK}:{started.monitors[0]}"
    startup, alive, ready = (
        f"{url}{container[f'{kind}Probe']['httpGet']['path']}"
        for kind in ("startup", "liveness", "readiness")
    )
    await until(lambda: answers(startup), within_s=ELECTION_WITHIN_S, every_s=0.1)
    assert [await answers(alive), await answers(ready)] == [True, True]
    for child in started.children[1:]:
        await child.stop()
    if len(started.children) > 1:
        await until(lambda: fails(startup), within_s=ELECTION_WITHIN_S, every_s=0.1)
    assert [await answers(alive), await answers(ready)] == [True, True]


async def fails(url: str) -> bool:
    return not await answers(url)


async def greeting(port: int, user: str, password: str | None) -> str:
    """The server's answer to a client that logs in."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    await reader.readline()
    login = json.dumps({"user": user, "pass": password, "verbose": False})
    writer.write(f"CONNECT {login}\r\nPING\r\n".encode())
    answer = await reader.readline()
    writer.close()
    return answer.decode().strip()


async def created(url: str, replicas: int) -> bool:
    """Create the streams. False while the servers still elect a leader."""
    try:
        await create_streams(url, replicas=replicas)
    except BrokerError as error:
        if "does not answer" not in str(error):
            raise
        return False
    return True


async def test_a_strange_server_joins_no_cluster(
    cluster: Callable[[str], Cluster], servers_dir: Path
) -> None:
    """S-15: a route without the password reads nothing; the three servers have their routes."""
    found, folder = cluster("production"), servers_dir / "manifests-routes"
    async with brokers(found, folder) as started:
        for monitor in started.monitors:
            await until(partial(has_routes_to, monitor, {"nats-0", "nats-1", "nats-2"}))
        url = f"nats://{LOOPBACK}:{started.routes[0]}"
        wrong = url.replace("//", "//turnpike:another@")
        for name, route in (("unknown", url), ("guesser", wrong)):
            monitor = free_port()
            file, log = folder / f"{name}.conf", folder / f"{name}.log"
            file.write_text(
                f"server_name: {name}\nlisten: {LOOPBACK}:{free_port()}\n"
                f"http: {LOOPBACK}:{monitor}\n"
                f"cluster {{ name: turnpike, listen: {LOOPBACK}:{free_port()}, "
                f"routes: [{route}] }}\n"
            )
            argv = [program("nats-server"), "--config", str(file)]
            ready = partial(accepts, monitor)
            child = await Child.start(name, argv, log=log, ready=ready)
            try:
                await until(partial(refused, log))
                assert await names_of_routes(monitor) == set()
            finally:
                await child.stop()
        for monitor in started.monitors:
            assert await has_routes_to(monitor, {"nats-0", "nats-1", "nats-2"})


def refused(log: Path) -> bool:
    return log.exists() and "Authorization Violation" in log.read_text()


async def names_of_routes(monitor: int) -> set[str]:
    """The servers that a server has routes to."""
    answer = json.loads(await fetch(f"http://{LOOPBACK}:{monitor}/routez") or b"{}")
    return {route["remote_name"] for route in answer.get("routes", ())}


async def has_routes_to(monitor: int, names: set[str]) -> bool:
    """Whether a server has routes to all of these, but for itself."""
    found = await names_of_routes(monitor)
    return found < names and len(names - found) == 1


# Each would be a number, a truth value, a list or a syntax error, were it not quoted.
WORDS = (
    "0123456789",
    "true",
    "5k",
    "3gb",
    "on",
    "a,b",
    "pa ss",
    "$HOME",
    "a#b",
    "[x]",
    'q"q',
    "\\",
)


@pytest.mark.parametrize("word", WORDS)
async def test_any_password_is_a_word(
    cluster: Callable[[str], Cluster], servers_dir: Path, word: str
) -> None:
    """S-15: NATS parses the values of variables, so passwords are quoted."""
    found = cluster("production")
    _, environment = nats_file(found)
    routes = environment["NATS_ROUTES_PASSWORD"]
    changes = {
        environment["NATS_PASSWORD"]: word,
        f"turnpike:{routes}": f"turnpike:{quote(word, safe='')}",
        routes: word,
    }
    folder = servers_dir / f"manifests-word-{WORDS.index(word)}"
    async with brokers(found, folder, changes) as started:
        assert await greeting(started.ports[0], "turnpike", word) == "PONG"
        for monitor in started.monitors:
            await until(partial(has_routes_to, monitor, {"nats-0", "nats-1", "nats-2"}))


def test_nats_volume_holds_its_limit(cluster: Callable[[str], Cluster]) -> None:
    for found in (cluster("try"), cluster("production")):
        text, _ = nats_file(found)
        (limit,) = re.findall(r"max_file: (\w+)", text)
        (claim,) = found.named("StatefulSet", "nats")["spec"]["volumeClaimTemplates"]
        assert size(limit) <= size(claim["spec"]["resources"]["requests"]["storage"])
