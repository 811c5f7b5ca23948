"""What every kind of panel must do behind the one protocol. A new panel joins by its line in `PANELS`."""

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
from vpn_provisioner.panels.protocol import Panel, PanelError, PanelUnavailable, PanelUser, Wanted, agrees
from vpn_provisioner.panels.xray import LinkTemplate, XrayPanel

CALL_TIMEOUT_S = 0.3
HANG_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Windows:
    """Windows of one kind: on a real panel, on a port where nobody listens, on one that never answers."""

    panel: Panel
    away: Panel
    deaf: Panel


@asynccontextmanager
async def xray(folder: Path) -> AsyncIterator[Windows]:
    """A real Xray node."""
    node = await XrayNode.start(folder, page_port=free_port())
    deaf = await asyncio.start_server(lambda *_: asyncio.sleep(HANG_TIMEOUT_S), "127.0.0.1", 0)
    addresses = (node.api, f"127.0.0.1:{free_port()}", f"127.0.0.1:{deaf.sockets[0].getsockname()[1]}")
    flow = LinkTemplate(node.link_template).flow
    windows = [
        XrayPanel(address, node.inbound, flow=flow, call_timeout_s=timeout_s)
        for address, timeout_s in zip(addresses, (5.0, CALL_TIMEOUT_S, CALL_TIMEOUT_S), strict=True)
    ]
    try:
        yield Windows(*windows)
    finally:
        for window in windows:
            await window.close()
        deaf.close()
        await node.stop()


PANELS: dict[str, Callable[[Path], AbstractAsyncContextManager[Windows]]] = {"xray": xray}


@pytest.fixture(scope="module", params=PANELS)
async def windows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Windows]:
    async with PANELS[request.param](tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture
def panel(windows: Windows) -> Panel:
    return windows.panel


def somebody() -> Wanted:
    until = datetime.now(UTC) + timedelta(days=30)
    return Wanted(uuid4(), uuid4(), until, devices=5, traffic_bytes=100 * 2**30)


def are_held(outcomes: Sequence[PanelUser | PanelError], wanted: Sequence[Wanted], panel: Panel) -> bool:
    """Whether each wish came true, each outcome in its wish's place."""
    return all(
        isinstance(outcome, PanelUser) and agrees(outcome, wish, panel.enforces)
        for outcome, wish in zip(outcomes, wanted, strict=True)
    )


async def people_on(panel: Panel) -> list[UUID]:
    return [user.person_id async for user in panel.users() if user.person_id]


async def test_what_was_ensured_is_read_back(panel: Panel) -> None:
    """P-15: what the panel holds is read after it was written, not believed."""
    alice = somebody()
    assert are_held(await panel.ensure([alice]), [alice], panel)
    assert agrees(await panel.read(alice.person_id), alice, panel.enforces)
    assert alice.person_id in await people_on(panel)


async def test_somebody_never_added_is_not_held(panel: Panel) -> None:
    stranger = uuid4()
    assert await panel.read(stranger) is None
    assert stranger not in await people_on(panel)


async def test_ensuring_twice_holds_a_person_once(panel: Panel) -> None:
    """P-04: the key and the label are ours, so a repeated wish makes no second user."""
    alice = somebody()
    await panel.ensure([alice])
    users = (await panel.vitals()).users
    assert are_held(await panel.ensure([alice]), [alice], panel)
    assert (await panel.vitals()).users == users


async def test_many_workers_with_the_same_wish_leave_one_user(panel: Panel) -> None:
    """P-06: two workers on one job end with one key."""
    alice = somebody()
    for outcomes in await asyncio.gather(*(panel.ensure([alice]) for _ in range(20))):
        assert are_held(outcomes, [alice], panel)
    assert (await people_on(panel)).count(alice.person_id) == 1


async def test_another_key_under_our_label_is_replaced(panel: Panel) -> None:
    """P-15: a user that is there already, but otherwise than wanted, is not a success."""
    alice = somebody()
    await panel.ensure([alice])
    reissued = replace(alice, key=uuid4())
    assert are_held(await panel.ensure([reissued]), [reissued], panel)
    assert (await people_on(panel)).count(alice.person_id) == 1


async def test_outcomes_come_in_the_order_asked(panel: Panel) -> None:
    """P-10: who is held already, who must be replaced and who is new share a batch, each with an outcome of its own."""
    held, replaced, *new = (somebody() for _ in range(100))
    await panel.ensure([held, replaced])
    wishes = [*new[:50], held, replace(replaced, key=uuid4()), *new[50:]]
    assert are_held(await panel.ensure(wishes), wishes, panel)


async def test_an_empty_batch_asks_for_nothing(windows: Windows) -> None:
    assert list(await windows.away.ensure([])) == []
    assert list(await windows.away.remove([])) == []


async def test_somebody_removed_is_gone(panel: Panel) -> None:
    """P-16, P-21: access has ended when the panel no longer holds it, not when the call returned."""
    alice, bob = somebody(), somebody()
    await panel.ensure([alice, bob])
    assert await panel.remove([alice.person_id]) == [None]
    assert await panel.read(alice.person_id) is None
    assert agrees(await panel.read(bob.person_id), bob, panel.enforces)


async def test_removing_somebody_absent_is_a_success(panel: Panel) -> None:
    alice = somebody()
    await panel.ensure([alice])
    assert await panel.remove([alice.person_id, uuid4()]) == [None, None]
    assert await panel.remove([alice.person_id]) == [None]


async def test_somebody_removed_can_come_back_with_the_same_key(panel: Panel) -> None:
    alice = somebody()
    await panel.ensure([alice])
    await panel.remove([alice.person_id])
    assert are_held(await panel.ensure([alice]), [alice], panel)


async def test_the_incarnation_stays_while_users_come_and_go(panel: Panel) -> None:
    before = await panel.vitals()
    alice = somebody()
    await panel.ensure([alice])
    assert (await panel.vitals()).users == before.users + 1
    await panel.remove([alice.person_id])
    assert (await panel.vitals()).users == len([user async for user in panel.users()])
    after = await panel.vitals()
    assert (after.incarnation, after.users) == (before.incarnation, before.users)


async def test_a_key_that_nobody_used_has_no_traffic(panel: Panel) -> None:
    alice = somebody()
    await panel.ensure([alice])
    usage = (await panel.usage()).get(alice.person_id)
    assert usage is None or (usage.up_bytes, usage.down_bytes) == (0, 0)


@pytest.mark.parametrize("window", ["away", "deaf"])
async def test_a_panel_that_does_not_answer_is_unavailable_in_time(windows: Windows, window: str) -> None:
    """P-03: one time-out for each question, not retries within retries; the job decides when to come again."""
    panel: Panel = getattr(windows, window)
    batch = [somebody() for _ in range(1_000)]
    started = time.monotonic()
    outcomes = [*await panel.ensure(batch), *await panel.ensure(batch[:1]), *await panel.remove([uuid4()])]
    for ask in (panel.read(uuid4()), panel.usage(), panel.vitals(), people_on(panel)):
        with pytest.raises(PanelUnavailable):
            await ask
    assert {type(outcome) for outcome in outcomes} == {PanelUnavailable}
    assert time.monotonic() - started < 7 * CALL_TIMEOUT_S + 2


async def test_two_thousand_are_put_back(panel: Panel) -> None:
    crowd = [somebody() for _ in range(2_000)]
    started = time.monotonic()
    async with asyncio.timeout(HANG_TIMEOUT_S):
        outcomes = await panel.ensure(crowd)
    print(f"2000 people put back in {time.monotonic() - started:.2f} s")  # noqa: T201 - seen with `pytest -s`.
    assert are_held(outcomes, crowd, panel)
    assert {wish.person_id for wish in crowd} <= set(await people_on(panel))
    async with asyncio.timeout(HANG_TIMEOUT_S):
        assert set(await panel.remove([wish.person_id for wish in crowd])) == {None}


async def test_no_outcome_shows_a_key(panel: Panel) -> None:
    """Outcomes are logged; a key in a log opens the VPN."""
    alice = somebody()
    (outcome,) = await panel.ensure([alice])
    assert str(alice.key) not in repr(alice) + repr(outcome)
