"""Values of panels: labels, and whether a panel holds the wanted user."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from vpn_provisioner.domain.panel import PanelUser, Wanted, agrees, label_of, person_of
from vpn_provisioner.panels.xray.messages import user_with
from vpn_provisioner.panels.xray.panel import XrayPanel

ALICE = UUID("0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59")
KEY = UUID("5c6b5cea-da8f-476d-804a-3b8439d436c9")
UNTIL = datetime(2027, 1, 31, 12, tzinfo=UTC)


def test_a_label_leads_back_to_its_person() -> None:
    assert person_of(label_of(ALICE)) == ALICE


@pytest.mark.parametrize(
    "label", ["", "alice", str(ALICE).upper(), ALICE.hex, f"{{{ALICE}}}", f"dev_{ALICE}"]
)
def test_a_label_of_another_form_is_foreign(label: str) -> None:
    assert person_of(label) is None


def test_an_end_without_a_time_zone_is_refused() -> None:
    with pytest.raises(AssertionError):
        Wanted(ALICE, KEY, UNTIL.replace(tzinfo=None))


@pytest.mark.parametrize(
    "held",
    [
        None,
        PanelUser(label_of(ALICE), UUID(int=1), until=UNTIL, devices=5),
        PanelUser(label_of(ALICE), KEY, active=False, until=UNTIL, devices=5),
        PanelUser(label_of(ALICE).upper(), KEY, until=UNTIL, devices=5),
        PanelUser(label_of(ALICE), KEY, until=UNTIL, devices=10),
        PanelUser(label_of(ALICE), KEY, until=UNTIL - timedelta(days=30), devices=5),
        PanelUser(label_of(ALICE), KEY, until=None, devices=5),
    ],
)
def test_a_panel_with_another_user_does_not_agree(held: PanelUser | None) -> None:
    """P-15: the renewal is not done while the panel holds the old date."""
    assert not agrees(held, Wanted(ALICE, KEY, UNTIL, devices=5), frozenset({"until", "devices"}))


def test_a_limit_unknown_to_the_panel_is_ignored() -> None:
    wanted = Wanted(ALICE, KEY, UNTIL, devices=5, traffic_bytes=1)
    assert agrees(PanelUser(label_of(ALICE), KEY), wanted, frozenset())


def test_ends_agree_by_the_second() -> None:
    held = PanelUser(label_of(ALICE), KEY, until=UNTIL)
    assert agrees(
        held, Wanted(ALICE, KEY, UNTIL + timedelta(milliseconds=999)), frozenset({"until"})
    )


class Listing:
    """A node with 5 000 users."""

    async def everybody(self) -> dict[str, Any]:
        labels = [label_of(UUID(int=number)) for number in range(5_000)]
        return {label: user_with(label, KEY, "") for label in labels}


async def test_reading_many_users_lets_others_run() -> None:
    """W-50: half a million users take seconds, and a lease is renewed twice a second."""
    panel, turns = XrayPanel("localhost:1", "in", flow=""), 0
    node: Any = panel
    node._client, client = Listing(), node._client

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    busy = asyncio.create_task(others())
    assert len([user async for user in panel.users()]) == 5_000
    busy.cancel()
    assert turns >= 9
    await client.close()
