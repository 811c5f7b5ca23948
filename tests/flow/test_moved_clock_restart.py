"""A local shop goes on where its clock was. No other shop runs beside it."""

from pathlib import Path

import asyncpg

from shared.platform.roles import role
from turnpike_local.sandbox.client import SandboxClient
from turnpike_local.stack import Stack

DAY_S = 86_400
AHEAD = "select extract(epoch from shop_now() - now())::int"


async def test_a_restart_keeps_the_time(servers_dir: Path) -> None:
    """W-80: `turnpike up` goes on where the clock was; only `turnpike clean` forgets it."""
    async with Stack(servers_dir / "restarted") as stack:
        assert stack.sandbox is not None
        async with SandboxClient(stack.sandbox.url) as sandbox:
            await sandbox.post("/sandbox/clock", {"by_s": DAY_S})
    async with Stack(servers_dir / "restarted") as stack:
        assert stack.sandbox is not None
        async with SandboxClient(stack.sandbox.url) as sandbox:
            assert (await sandbox.get("/sandbox/clock"))["ahead_s"] == DAY_S
        connection = await asyncpg.connect(stack.postgres.dsn(role("vpn", "app")))
        assert await connection.fetchval(AHEAD) == DAY_S
        await connection.close()
