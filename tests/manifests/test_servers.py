"""The real Xray and PostgreSQL accept the configuration of the overlays."""

import copy
import json
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.contracts.owners import OWNERS
from shared.platform.migrate import migrate
from shared.platform.roles import DUTIES, role
from tests.kit.servers import UNSYNCED
from tests.kit.waiting import HANG_S
from tests.manifests.cluster import Cluster, pod_of
from tests.manifests.jobs import PSQL, environment_on, job_of
from tests.manifests.kustomize import KUBERNETES, ROOT, run
from turnpike_local.ports import LOOPBACK, accepts, free_port
from turnpike_local.postgres import Postgres
from turnpike_local.processes import Child
from turnpike_local.xray import NotFetchedError, fetch_through, new_identity, node_config
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.panel import Wanted
from vpn_provisioner.panels.xray.panel import XrayPanel

CREATE_MANAGER = """
create role manager login createrole password '{password}';
alter database turnpike owner to manager
"""
DROP_ROLE = "drop owned by {role} cascade; drop role {role}"


async def test_key_reaches_no_private_address(
    cluster: Callable[[str], Cluster], servers_dir: Path
) -> None:
    """W-56: the pod may reach PostgreSQL; a person with a key may not, by address or by name.

    The node runs with the drawn keys. Without its routing rules the same addresses are reachable.
    """
    found = cluster("try")
    pod = pod_of(found.named("Deployment", "vpn-provisioner"))
    (volume,) = (volume for volume in pod.spec["volumes"] if "secret" in volume)
    config = json.loads(found.contents("Secret", volume["secret"]["secretName"])["node.json"])
    variables = found.environment(pod.container("service"))
    assert config["inbounds"][0]["port"] == pod.ports["vless"]
    assert config["api"]["listen"] == variables["TURNPIKE_VPN_XRAY_API"] == "127.0.0.1:10085"

    restricted = on_loopback(config)
    unrestricted = on_loopback(config) | {"routing": {}}
    async with TestServer(pages()) as server:
        urls = [str(server.make_url("/")), f"http://localhost:{server.port}/"]
        file = servers_dir / "unrestricted.json"
        assert await fetched(unrestricted, variables, file, urls) == ["the page", "the page"]
        file = servers_dir / "restricted.json"
        assert await fetched(restricted, variables, file, urls) == [None, None]


async def test_key_sends_no_mail(cluster: Callable[[str], Cluster], servers_dir: Path) -> None:
    """S-16: a page on a port of mail is refused by the node, and by nothing else.

    25 is a port of administrators, so the page's own port stands in its place.
    """
    found = cluster("try")
    pod = pod_of(found.named("Deployment", "vpn-provisioner"))
    variables = found.environment(pod.container("service"))
    (secret,) = (volume["secret"] for volume in pod.spec["volumes"] if "secret" in volume)
    config = on_loopback(json.loads(found.contents("Secret", secret["secretName"])["node.json"]))
    (mail,) = (rule for rule in config["routing"]["rules"] if "port" in rule)
    assert mail["port"].split(",") == ["25", "465", "587"]
    async with TestServer(pages()) as server:
        url = str(server.make_url("/"))
        for port, answer in ((server.port, None), (free_port(), "the page")):
            rule = mail | {"port": mail["port"].replace("25", str(port))}
            config["routing"] = {"rules": [rule]}
            file = servers_dir / f"mail-{port}.json"
            assert await fetched(config, variables, file, [url]) == [answer]


def pages() -> web.Application:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="the page")

    app = web.Application()
    app.router.add_get("/", page)
    return app


def on_loopback(config: dict[str, Any]) -> dict[str, Any]:
    """The node on free ports, with a REALITY target on this machine.

    Its outbound allows every address, so only the routing rules can refuse one.
    """
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


async def fetched(
    config: dict[str, Any], variables: dict[str, str], file: Path, urls: list[str]
) -> list[str | None]:
    """The answer of each URL through a key that the node's API issued; None for no answer.

    Meanwhile the node is healthy by the check of its image, and afterwards it is not.
    """
    check = sys.executable, "-I", ROOT / "deploy/docker/healthy.py", file
    api, port = config["api"]["listen"], config["inbounds"][0]["port"]
    file.write_text(json.dumps(config))  # noqa: ASYNC240 - no other task runs.
    argv = [sys.executable, "-I", str(ROOT / "deploy/docker/node.py"), str(file)]

    async def ready() -> bool:
        return await accepts(port) and await accepts(int(api.split(":")[1]))

    child = await Child.start("node", argv, log=file.with_suffix(".log"), ready=ready)
    links = LinkTemplate(variables["TURNPIKE_VPN_XRAY_LINK"])
    panel = XrayPanel(api, variables["TURNPIKE_VPN_XRAY_INBOUND"], flow=links.flow)
    texts: list[str | None] = []
    try:
        person = Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))
        await panel.ensure([person])
        run(*check)
        link = links.link(person.key).replace("@vpn.shop.test:30443", f"@{LOOPBACK}:{port}")
        for url in urls:
            try:
                texts.append(await fetch_through(link, url, timeout_s=HANG_S))
            except NotFetchedError:
                texts.append(None)
    finally:
        await panel.close()
        await child.stop()
    with pytest.raises(AssertionError, match="not healthy: "):
        run(*check)
    return texts


def test_failing_node_names_its_file(tmp_path: Path) -> None:
    wrong = tmp_path / "node.json"
    wrong.write_text('{"inbounds": 1}')
    with pytest.raises(AssertionError, match=rf"(?s)ended with 23:.*{wrong}"):
        run(sys.executable, "-I", ROOT / "deploy/docker/node.py", wrong)


@pytest.mark.parametrize("user", ["postgres", "manager"])
async def test_roles_job_works_from_nothing_and_again(
    cluster: Callable[[str], Cluster], servers_dir: Path, user: str
) -> None:
    """The job runs as the superuser, and as a database owner without that right.

    Then each service is migrated as its owner and connects as its application role, with the
    passwords of the DSNs.
    """
    found = cluster("try")
    postgres = await Postgres.start(servers_dir / f"manifests-{user}", settings=UNSYNCED)
    try:
        password = re.findall(r":(\w+)@", postgres.dsn())[0]
        await remove_roles(postgres, manager_password=password if user == "manager" else None)

        script = KUBERNETES / "base/jobs/build-roles"
        env = environment_on(postgres, job_of(found, "make-roles"), found)
        env |= {
            "PGHOST": LOOPBACK,
            "PGPORT": str(postgres.port),
            "PGUSER": user,
            "PGPASSWORD": password,
            "PATH": f"{PSQL}:{os.environ['PATH']}",
        }
        for _ in range(2):
            assert run("sh", script, env=env) == "all roles are ready\n"
        wrong = {"TURNPIKE_VPN_DSN": "postgresql://vpn_app:it's@postgres/turnpike"}
        with pytest.raises(AssertionError, match="the password of vpn_app must be 8 or more"):
            run("sh", script, env=env | wrong)

        for owner, package in OWNERS.items():
            job = job_of(found, f"migrate-{owner}-")
            variables = environment_on(postgres, job, found)
            assert await migrate(variables[f"TURNPIKE_{owner.upper()}_OWNER_DSN"], package)
            app = await asyncpg.connect(env[f"TURNPIKE_{owner.upper()}_DSN"])
            assert await app.fetchval("select count(*) from migrations")
            await app.close()
    finally:
        await postgres.stop()


async def remove_roles(postgres: Postgres, manager_password: str | None) -> None:
    """Drop the services' roles; with a password, make the role `manager` the database's owner."""
    superuser = await asyncpg.connect(postgres.dsn())
    for owner in OWNERS:
        for duty in DUTIES:
            await superuser.execute(DROP_ROLE.format(role=role(owner, duty)))
    if manager_password is not None:
        await superuser.execute(CREATE_MANAGER.format(password=manager_password))
    await superuser.close()
