"""The contract of every kind of panel. A new kind joins by its line in `PANELS`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from turnpike_local.ports import free_port
from turnpike_local.xray import XrayNode
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.panel import PanelError, PanelUnavailable, PanelUser, Wanted, agrees
from vpn_provisioner.panels.protocol import Panel
from vpn_provisioner.panels.xray.panel import XrayPanel

CALL_TIMEOUT_S = 0.3
HANG_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Clients:
    """Clients of a real panel, of a port without a listener, and of one that never answers."""

    panel: Panel
    away: Panel
    deaf: Panel


@asynccontextmanager
async def xray(folder: Path) -> AsyncIterator[Clients]:
    """A real Xray node."""
    node = await XrayNode.start(folder, page_port=free_port())
    deaf = await asyncio.start_server(lambda *_: asyncio.sleep(HANG_TIMEOUT_S), "127.0.0.1", 0)
    addresses = (
        node.api,
        f"127.0.0.1:{free_port()}",
        f"127.0.0.1:{deaf.sockets[0].getsockname()[1]}",
    )
    flow = LinkTemplate(node.link_template).flow
    clients = [
        XrayPanel(address, node.inbound, flow=flow, call_timeout_s=timeout_s, calls_at_once=at_once)
        for address, timeout_s, at_once in zip(
            addresses, (5.0, CALL_TIMEOUT_S, CALL_TIMEOUT_S), (64, 1, 1), strict=True
        )
    ]
    try:
        yield Clients(*clients)
    finally:
        for client in clients:
            await client.close()
        deaf.close()
        await node.stop()


PANELS: dict[str, Callable[[Path], AbstractAsyncContextManager[Clients]]] = {"xray": xray}


@pytest.fixture(scope="module", params=PANELS)
async def clients(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Clients]:
    async with PANELS[request.param](tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture
def panel(clients: Clients) -> Panel:
    return clients.panel


def somebody() -> Wanted:
    until = datetime.now(UTC) + timedelta(days=30)
    return Wanted(uuid4(), uuid4(), until, devices=5, traffic_bytes=100 * 2**30)


def are_held(
    outcomes: Sequence[PanelUser | PanelError], wanted: Sequence[Wanted], panel: Panel
) -> bool:
    """Whether the panel holds each wanted user, with each outcome in the place of its wish."""
    return all(
        isinstance(outcome, PanelUser) and agrees(outcome, wish, panel.enforces)
        for outcome, wish in zip(outcomes, wanted, strict=True)
    )


async def people_on(panel: Panel) -> list[UUID]:
    return [user.person_id async for user in panel.users() if user.person_id]


async def test_an_ensured_user_is_read_back(panel: Panel) -> None:
    """P-15: a success is the user that was read after the write."""
    alice = somebody()
    assert are_held(await panel.ensure([alice]), [alice], panel)
    assert agrees(await panel.read(alice.person_id), alice, panel.enforces)
    assert alice.person_id in await people_on(panel)


async def test_a_person_never_added_is_not_held(panel: Panel) -> None:
    absent = uuid4()
    assert await panel.read(absent) is None
    assert absent not in await people_on(panel)


async def test_ensuring_twice_holds_a_person_once(panel: Panel) -> None:
    """P-04: the key and the label are ours, so a repeated wish makes no second user."""
    alice = somebody()
    await panel.ensure([alice])
    users = (await panel.vitals()).users
    assert are_held(await panel.ensure([alice]), [alice], panel)
    assert (await panel.vitals()).users == users


async def test_concurrent_equal_wishes_leave_one_user(panel: Panel) -> None:
    """P-06: two workers of one job leave one key."""
    alice = somebody()
    for outcomes in await asyncio.gather(*(panel.ensure([alice]) for _ in range(20))):
        assert are_held(outcomes, [alice], panel)
    assert (await people_on(panel)).count(alice.person_id) == 1


async def test_another_key_under_our_label_is_replaced(panel: Panel) -> None:
    """P-15: a user that is present but differs from the wish is not a success."""
    alice = somebody()
    await panel.ensure([alice])
    reissued = replace(alice, key=uuid4())
    assert are_held(await panel.ensure([reissued]), [reissued], panel)
    assert (await people_on(panel)).count(alice.person_id) == 1


async def test_outcomes_come_in_the_order_asked(panel: Panel) -> None:
    """P-10: held, replaced and new users share a batch, and each has its own outcome."""
    held, replaced, *new = (somebody() for _ in range(100))
    await panel.ensure([held, replaced])
    wishes = [*new[:50], held, replace(replaced, key=uuid4()), *new[50:]]
    assert are_held(await panel.ensure(wishes), wishes, panel)


async def test_an_empty_batch_asks_for_nothing(clients: Clients) -> None:
    assert list(await clients.away.ensure([])) == []
    assert list(await clients.away.remove([])) == []


async def test_a_removed_person_is_gone(panel: Panel) -> None:
    """P-16, P-21: access ends when the panel holds the user no more, not when the call returns."""
    alice, bob = somebody(), somebody()
    await panel.ensure([alice, bob])
    assert await panel.remove([alice.person_id]) == [None]
    assert await panel.read(alice.person_id) is None
    assert agrees(await panel.read(bob.person_id), bob, panel.enforces)


async def test_removing_an_absent_person_succeeds(panel: Panel) -> None:
    alice = somebody()
    await panel.ensure([alice])
    assert await panel.remove([alice.person_id, uuid4()]) == [None, None]
    assert await panel.remove([alice.person_id]) == [None]


async def test_a_removed_person_returns_with_the_key(panel: Panel) -> None:
    alice = somebody()
    await panel.ensure([alice])
    await panel.remove([alice.person_id])
    assert are_held(await panel.ensure([alice]), [alice], panel)


async def test_users_do_not_change_the_incarnation(panel: Panel) -> None:
    before = await panel.vitals()
    alice = somebody()
    await panel.ensure([alice])
    assert (await panel.vitals()).users == before.users + 1
    await panel.remove([alice.person_id])
    assert (await panel.vitals()).users == len([user async for user in panel.users()])
    after = await panel.vitals()
    assert (after.incarnation, after.users) == (before.incarnation, before.users)


async def test_an_unused_key_has_no_traffic(panel: Panel) -> None:
    alice = somebody()
    await panel.ensure([alice])
    usage = (await panel.usage()).get(alice.person_id)
    assert usage is None or (usage.up_bytes, usage.down_bytes) == (0, 0)


@pytest.mark.parametrize("name", ["away", "deaf"])
async def test_a_silent_panel_is_unavailable_in_time(clients: Clients, name: str) -> None:
    """P-03: each request has one time-out and no retries; only the job retries.

    A time-out for each of the thousand would take five minutes.
    """
    panel: Panel = getattr(clients, name)
    batch = [somebody() for _ in range(1_000)]
    async with asyncio.timeout(HANG_TIMEOUT_S):
        outcomes = [
            *await panel.ensure(batch),
            *await panel.ensure(batch[:1]),
            *await panel.remove([uuid4()]),
        ]
        for ask in (panel.read(uuid4()), panel.usage(), panel.vitals(), people_on(panel)):
            with pytest.raises(PanelUnavailable):
                await ask
    assert {type(outcome) for outcome in outcomes} == {PanelUnavailable}


async def test_two_thousand_are_put_back(panel: Panel) -> None:
    crowd = [somebody() for _ in range(2_000)]
    started = time.monotonic()
    async with asyncio.timeout(HANG_TIMEOUT_S):
        outcomes = await panel.ensure(crowd)
    took_s = time.monotonic() - started
    print(f"2000 people put back in {took_s:.2f} s")  # noqa: T201 - for `pytest -s`.
    assert are_held(outcomes, crowd, panel)
    assert {wish.person_id for wish in crowd} <= set(await people_on(panel))
    async with asyncio.timeout(HANG_TIMEOUT_S):
        assert set(await panel.remove([wish.person_id for wish in crowd])) == {None}


async def test_no_outcome_shows_a_key(panel: Panel) -> None:
    """Outcomes are logged, and a key in a log opens the VPN."""
    alice = somebody()
    (outcome,) = await panel.ensure([alice])
    assert str(alice.key) not in repr(alice) + repr(outcome)
