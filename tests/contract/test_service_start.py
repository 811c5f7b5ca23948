"""A service that cannot begin says in one sentence which variable is to blame, and ends."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE

import pytest

RUN_TIMEOUT_S = 120.0
NOBODY_THERE = {
    "TURNPIKE_PAYMENTS_DSN": "postgresql://payments_app@127.0.0.1:1/turnpike",
    "TURNPIKE_NATS_URL": "nats://127.0.0.1:1",
}


async def said_by_payments(**variables: str) -> tuple[int | None, str]:
    """Its status and what it wrote."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")}
    argv = (sys.executable, "-m", "payments")
    process = await asyncio.create_subprocess_exec(
        *argv, env=environment | NOBODY_THERE | variables, stdout=DEVNULL, stderr=PIPE
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), RUN_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()


async def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert await said_by_payments(TURNPIKE_HTTP_PORT=str(port)) == (
            2,
            f"TURNPIKE_HTTP_PORT is not usable: port {port} of 127.0.0.1 is taken by another program.\n",
        )


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
async def test_an_address_of_another_machine_is_said(host: str) -> None:
    status, said = await said_by_payments(TURNPIKE_HTTP_HOST=host, TURNPIKE_HTTP_PORT="0")
    assert status == 2
    assert said.startswith(f"TURNPIKE_HTTP_HOST is not usable: {host} is no address of this machine")
    assert said.count("\n") == 1
