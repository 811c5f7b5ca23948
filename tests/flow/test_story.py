"""The demo's proof: the story holds on real parts, and the proof fails when something is off."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from shared.bus import Bus
from turnpike_cli.audit import Found, audit
from turnpike_local.demo import as_dict, faults_of, timeline
from turnpike_local.faults import Kill, WipeBroker
from turnpike_local.processes import StartError
from turnpike_local.sandbox.client import SandboxClient
from turnpike_local.stack import Stack
from turnpike_local.story import Check, Story, play, tree


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Stack]:
    async with Stack(servers_dir / "story") as stack:
        yield stack


@pytest.fixture(scope="module")
async def story(shop: Stack) -> Story:
    return await play(shop)


async def test_one_purchase_reaches_its_reward_its_key_and_its_messages(story: Story) -> None:
    assert [check for check in story.checks if not check.holds] == []
    assert [found for found in story.invariants if found.finding.violations] == []
    assert story.ok


async def test_every_owner_and_every_invariant_of_the_story_is_asked(story: Story) -> None:
    assert {found.owner for found in story.invariants} == {
        "bot", "payments", "referrals", "vpn", "notifier", "all", "bus",
    }  # fmt: skip
    asked = {found.finding.invariant for found in story.invariants}
    assert asked >= {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I12", "I13"}


async def test_the_story_is_one_tree_with_every_step_once(story: Story) -> None:
    """The handlers' names are in the trace, each at its place below the payment's report."""
    names = [span["name"] for _, span in tree(story.spans)]
    for step in ("payments_confirms_reported", "referrals_rewards_confirmed", "vpn_grants_confirmed", "xray.ensure"):
        assert names.count(step) == 1, step
    depths = {span["name"]: depth for depth, span in tree(story.spans)}
    assert depths["buy with stars"] < depths["payments_confirms_reported"] < depths["vpn_grants_confirmed"]
    assert len(timeline(story)) > 10


async def test_the_story_for_a_machine_says_the_same(story: Story) -> None:
    told = json.loads(json.dumps(as_dict(story, 1.0)))
    assert told["ok"] is True
    assert {line["account"] for line in told["book"]["after"]} >= {"revenue", "earned", "wallet"}
    assert told["trace"][0]["depth"] == 0


async def broken(shop: Stack, sql: str) -> list[Found]:
    """The audit's violations after a superuser broke something; it is mended by the inverse at the caller's."""
    connection = await asyncpg.connect(shop.postgres.dsn())
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
    bus = Bus(shop.broker.url, "test")
    await bus.open()
    try:
        return [found for found in await audit(bus) if found.finding.violations]
    finally:
        await bus.close()


@pytest.mark.parametrize(
    ("breaks", "mends", "invariant"),
    [
        (
            "update payments.accounts set balance_minor = balance_minor + 1 where kind = 'earned'",
            "update payments.accounts set balance_minor = balance_minor - 1 where kind = 'earned'",
            "I3",
        ),
        (
            "update payments.transfers set reason = 'receipt' where cause like 'reward:%'",
            "update payments.transfers set reason = 'reward' where cause like 'reward:%'",
            "I7",
        ),
        (
            "update notifier.deliveries set kind = 'topped_up', story = null, rank = 0 where kind = 'paid_issuing'",
            "select 1",
            "I6",
        ),
    ],
    ids=["a balance that is no sum", "a reward that was not booked", "a purchase nobody was told of"],
)
async def test_the_audit_sees_what_was_broken_by_hand(
    shop: Stack, story: Story, breaks: str, mends: str, invariant: str
) -> None:
    assert story.ok
    assert invariant in {found.finding.invariant for found in await broken(shop, breaks)}
    await broken(shop, mends)


def test_a_story_with_one_false_sentence_is_not_ok() -> None:
    assert Story(checks=[Check("true", True)]).ok
    assert not Story(checks=[Check("true", True), Check("false", False)]).ok


def vain(story: Story) -> list[str]:
    return [check.seen for check in story.checks if check.sentence == "nobody waited in vain"]


async def test_a_story_that_goes_wrong_is_told_to_its_end(servers_dir: Path) -> None:
    """W-30: a refused payment and a missing key are sentences; what was seen, book, trace and invariants stay."""
    async with Stack(servers_dir / "wrong") as shop, SandboxClient(shop.urls["sandbox"]) as sandbox:
        await sandbox.stumble("500", method="answerPreCheckoutQuery", calls=1000)
        refused = await play(shop, patience_s=2)
        await sandbox.recover()
        assert not refused.ok
        assert vain(refused)[0] == "without a payment there is nothing to wait for"
        assert {found.owner for found in refused.invariants} >= {"bot", "payments", "referrals", "vpn", "notifier"}

        shop.services["notifier"].kill()
        untold = await play(shop, patience_s=2)
        assert not untold.ok
        assert "Bob waited 2 s for the key" in vain(untold)[0]
        assert timeline(untold)
        assert ("revenue", 14900) in {(line.account, line.amount_minor) for line in untold.book_after}
        silent = [found.owner for found in untold.invariants if found.finding.truth.startswith("every owner answers")]
        assert silent == ["notifier"]
        assert as_dict(untold, 1.0)["ok"] is False


async def test_a_fault_that_does_not_happen_is_no_proof(shop: Stack) -> None:
    """CI plays the demo with every service killed and the broker wiped; that each happened is one of its checks."""
    assert not (await Kill("payments").proof(shop)).holds
    assert not (await WipeBroker(await shop.broker.incarnations()).proof(shop)).holds


def test_a_service_that_there_is_not_is_one_sentence() -> None:
    with pytest.raises(StartError, match="There is no service gateway; --kill takes bot-gateway, payments"):
        faults_of(["payments", "gateway"], wipe_broker=False)
