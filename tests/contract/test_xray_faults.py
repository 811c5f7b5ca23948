"""The window on Xray when answers and deeds differ: a relay before a real node that loses, hangs or hurries."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from turnpike_local.ports import free_port
from turnpike_local.xray import XrayNode
from vpn_provisioner.panels import xray_api_pb2 as wire
from vpn_provisioner.panels.protocol import PanelUnavailable, PanelUser, Wanted
from vpn_provisioner.panels.xray import LinkTemplate, XrayPanel, adding, user_with

CALL_TIMEOUT_S = 0.3
WRITE = "/xray.app.proxyman.command.HandlerService/AlterInbound"

Pass = Callable[[bytes], Awaitable[bytes]]


class Relay(grpc.GenericRpcHandler):
    """Hands every call on to the node, but writes in its own way: `write` is given the request and the way on."""

    def __init__(self, node_api: str) -> None:
        self.write: Callable[[bytes, Pass], Awaitable[bytes]] = faithfully
        self.node = grpc.aio.insecure_channel(node_api)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        method = handler_call_details.method
        ahead: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.node.unary_unary(method)

        async def hand_on(request: bytes) -> bytes:
            return await ahead(request, timeout=5)

        async def answer(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            try:
                return await (self.write(request, hand_on) if method == WRITE else hand_on(request))
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")

        return grpc.unary_unary_rpc_method_handler(answer)


async def faithfully(request: bytes, hand_on: Pass) -> bytes:
    return await hand_on(request)


async def claiming_only(_request: bytes, _hand_on: Pass) -> bytes:
    """Success, and nothing done."""
    return b""


async def too_late(request: bytes, hand_on: Pass) -> bytes:
    """Done, and the answer comes when nobody waits any more."""
    answer = await hand_on(request)
    await asyncio.sleep(2 * CALL_TIMEOUT_S)
    return answer


async def never(_request: bytes, _hand_on: Pass) -> bytes:
    await asyncio.sleep(60)
    return b""


@pytest.fixture(scope="module")
async def relay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Relay, XrayPanel]]:
    node = await XrayNode.start(tmp_path_factory.mktemp("xray"), page_port=free_port())
    server, standing_before = grpc.aio.server(), Relay(node.api)
    server.add_generic_rpc_handlers([standing_before])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    flow = LinkTemplate(node.link_template).flow
    panel = XrayPanel(f"127.0.0.1:{port}", node.inbound, flow=flow, call_timeout_s=CALL_TIMEOUT_S)
    yield standing_before, panel
    await panel.close()
    await server.stop(grace=0)
    await standing_before.node.close()
    await node.stop()


def somebody() -> Wanted:
    return Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))


async def test_a_success_that_was_only_claimed_is_none(relay: tuple[Relay, XrayPanel]) -> None:
    """P-05, P-15, P-21: neither access nor its end is believed before it was read back."""
    standing_before, panel = relay
    standing_before.write = faithfully
    alice, bob = somebody(), somebody()
    await panel.ensure([bob])
    standing_before.write = claiming_only
    (ensured,), (removed,) = await panel.ensure([alice]), await panel.remove([bob.person_id])
    assert isinstance(ensured, PanelUnavailable)
    assert isinstance(removed, PanelUnavailable)
    (reissued,) = await panel.ensure([replace(bob, key=uuid4())])
    assert isinstance(reissued, PanelUnavailable)


async def test_a_user_made_after_the_time_out_is_found_and_made_once(relay: tuple[Relay, XrayPanel]) -> None:
    """P-04: what was read decides, not which call was answered in time."""
    standing_before, panel = relay
    standing_before.write = too_late
    alice = somebody()
    assert list(await panel.ensure([alice])) == [PanelUser(alice.label, alice.key)]
    assert list(await panel.remove([alice.person_id])) == [None]
    standing_before.write = faithfully
    assert await panel.read(alice.person_id) is None


async def test_a_node_that_hangs_on_writes_is_waited_for_once_a_batch(relay: tuple[Relay, XrayPanel]) -> None:
    """P-03: a thousand wishes do not wait a thousand time-outs, however many go at once."""
    standing_before, panel = relay
    standing_before.write = never
    started = time.monotonic()
    outcomes = await panel.ensure([somebody() for _ in range(2_000)])
    assert {type(outcome) for outcome in outcomes} == {PanelUnavailable}
    assert time.monotonic() - started < 8 * CALL_TIMEOUT_S  # One by one, 64 at once, it would be 32 of them.


async def test_losing_a_race_for_a_label_is_worth_another_try(relay: tuple[Relay, XrayPanel]) -> None:
    """P-06: an older job that got its key in first makes the newer one come again, not die."""
    standing_before, panel = relay
    alice = somebody()
    older = adding(user_with(alice.label, uuid4(), flow=""))

    async def after_another(request: bytes, hand_on: Pass) -> bytes:
        standing_before.write = faithfully
        await hand_on(wire.AlterInboundRequest(tag="people", operation=older.operation).SerializeToString())
        return await hand_on(request)

    standing_before.write = after_another
    (outcome,) = await panel.ensure([alice])
    assert isinstance(outcome, PanelUnavailable)
    assert list(await panel.ensure([alice])) == [PanelUser(alice.label, alice.key)]
