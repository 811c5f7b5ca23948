"""The Xray panel when answers and effects differ.

A proxy in front of a real node loses, delays or hurries writes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from turnpike_local.ports import free_port
from turnpike_local.xray import XrayNode
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.panel import PanelUnavailable, PanelUser, Wanted
from vpn_provisioner.panels.xray import xray_api_pb2 as wire
from vpn_provisioner.panels.xray.messages import adding, user_with
from vpn_provisioner.panels.xray.panel import CALLS_AT_ONCE, XrayPanel

WRITE = "/xray.app.proxyman.command.HandlerService/AlterInbound"

Pass = Callable[[bytes], Awaitable[bytes]]


class FaultyProxy(grpc.GenericRpcHandler):
    """Passes every call on to the node. A write goes to `write`, which may pass it on."""

    def __init__(self, node_api: str) -> None:
        self.write: Callable[[bytes, Pass], Awaitable[bytes]] = faithfully
        self.writes = 0
        self.node = grpc.aio.insecure_channel(node_api)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        method = handler_call_details.method
        ahead: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.node.unary_unary(method)

        async def pass_on(request: bytes) -> bytes:
            return await ahead(request, timeout=5)

        async def answer(
            request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]"
        ) -> bytes:
            self.writes += method == WRITE
            try:
                return await (self.write(request, pass_on) if method == WRITE else pass_on(request))
            except TimeoutError:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")

        return grpc.unary_unary_rpc_method_handler(answer)


async def faithfully(request: bytes, pass_on: Pass) -> bytes:
    return await pass_on(request)


async def not_at_all(_request: bytes, _pass_on: Pass) -> bytes:
    """Answer success without a write."""
    return b""


async def too_late(request: bytes, pass_on: Pass) -> bytes:
    """Write, and answer what the caller sees after its time-out."""
    await pass_on(request)
    raise TimeoutError


async def never(_request: bytes, _pass_on: Pass) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.fixture(scope="module")
async def faulty(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[FaultyProxy, XrayPanel]]:
    node = await XrayNode.start(tmp_path_factory.mktemp("xray"), page_port=free_port())
    server, proxy = grpc.aio.server(), FaultyProxy(node.api)
    server.add_generic_rpc_handlers([proxy])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    flow = LinkTemplate(node.link_template).flow
    panel = XrayPanel(f"127.0.0.1:{port}", node.inbound, flow=flow)
    yield proxy, panel
    await panel.close()
    await server.stop(grace=0)
    await proxy.node.close()
    await node.stop()


def somebody() -> Wanted:
    return Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))


async def test_a_claimed_success_is_not_believed(faulty: tuple[FaultyProxy, XrayPanel]) -> None:
    """P-05, P-15, P-21: access and its end are read back before they count."""
    proxy, panel = faulty
    proxy.write = faithfully
    alice, bob = somebody(), somebody()
    await panel.ensure([bob])
    proxy.write = not_at_all
    (ensured,), (removed,) = await panel.ensure([alice]), await panel.remove([bob.person_id])
    assert isinstance(ensured, PanelUnavailable)
    assert isinstance(removed, PanelUnavailable)
    (reissued,) = await panel.ensure([replace(bob, key=uuid4())])
    assert isinstance(reissued, PanelUnavailable)


async def test_a_late_write_makes_one_user(
    faulty: tuple[FaultyProxy, XrayPanel],
) -> None:
    """P-04: the user that was read back decides, not the call that was answered in time."""
    proxy, panel = faulty
    proxy.write = too_late
    alice = somebody()
    assert list(await panel.ensure([alice])) == [PanelUser(alice.label, alice.key)]
    assert list(await panel.remove([alice.person_id])) == [None]
    proxy.write = faithfully
    assert await panel.read(alice.person_id) is None


async def test_a_batch_waits_for_a_hanging_node_once(
    faulty: tuple[FaultyProxy, XrayPanel],
) -> None:
    """P-03: two thousand wishes share the time-out of the calls that are made at once."""
    proxy, panel = faulty
    proxy.write, proxy.writes = never, 0
    outcomes = await panel.ensure([somebody() for _ in range(2_000)])
    assert {type(outcome) for outcome in outcomes} == {PanelUnavailable}
    assert 0 < proxy.writes <= CALLS_AT_ONCE


async def test_a_lost_race_for_a_label_is_retried(
    faulty: tuple[FaultyProxy, XrayPanel],
) -> None:
    """P-06: an older job wrote its key first; the newer job runs again and does not die."""
    proxy, panel = faulty
    alice = somebody()
    older = adding(user_with(alice.label, uuid4(), flow=""))

    async def after_another(request: bytes, pass_on: Pass) -> bytes:
        proxy.write = faithfully
        await pass_on(
            wire.AlterInboundRequest(tag="people", operation=older.operation).SerializeToString()
        )
        return await pass_on(request)

    proxy.write = after_another
    (outcome,) = await panel.ensure([alice])
    assert isinstance(outcome, PanelUnavailable)
    assert list(await panel.ensure([alice])) == [PanelUser(alice.label, alice.key)]
