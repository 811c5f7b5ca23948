"""A service that cannot start names the wrong variable in one sentence, and ends."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE

import pytest

RUN_TIMEOUT_S = 120.0
UNREACHABLE = {
    "TURNPIKE_PAYMENTS_DSN": "postgresql://payments_app@127.0.0.1:1/turnpike",
    "TURNPIKE_NATS_URL": "nats://127.0.0.1:1",
}


async def refusal_of_payments(**variables: str) -> tuple[int | None, str]:
    """Its exit status and its standard error."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")
    }
    argv = (sys.executable, "-m", "payments")
    process = await asyncio.create_subprocess_exec(
        *argv, env=environment | UNREACHABLE | variables, stdout=DEVNULL, stderr=PIPE
    )
    try:
        _, written = await asyncio.wait_for(process.communicate(), RUN_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, written.decode()


async def test_a_taken_port_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert await refusal_of_payments(TURNPIKE_HTTP_PORT=str(port)) == (
            2,
            f"TURNPIKE_HTTP_PORT is not usable: port {port} of 127.0.0.1 "
            "is taken by another program.\n",
        )


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
async def test_an_address_of_another_machine_is_reported(host: str) -> None:
    status, written = await refusal_of_payments(TURNPIKE_HTTP_HOST=host, TURNPIKE_HTTP_PORT="0")
    assert status == 2
    assert written.startswith(
        f"TURNPIKE_HTTP_HOST is not usable: {host} is no address of this machine"
    )
    assert written.count("\n") == 1
