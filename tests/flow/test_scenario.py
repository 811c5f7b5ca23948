"""The demo's scenario: its checks hold on real parts, and fail when a part is broken."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from rich.cells import cell_len
from rich.text import Text

from shared.messaging.rpc import Bus
from turnpike_cli.audit import Found, audit
from turnpike_local.demo import faults_of
from turnpike_local.details import as_dict, timeline
from turnpike_local.faults import Kill, WipeBroker
from turnpike_local.processes import StartError
from turnpike_local.sandbox.client import SandboxClient
from turnpike_local.scenario import Check, Scenario, play, tree
from turnpike_local.stack import Stack
from turnpike_local.summary import summary_lines, verdict


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Stack]:
    async with Stack(servers_dir / "scenario") as stack:
        yield stack


@pytest.fixture(scope="module")
async def scenario(shop: Stack) -> Scenario:
    return await play(shop)


async def test_a_purchase_leads_to_key_and_reward(scenario: Scenario) -> None:
    assert [check for check in scenario.checks if not check.holds] == []
    assert [found for found in scenario.invariants if found.finding.violations] == []
    assert scenario.ok


async def test_every_owner_and_invariant_is_audited(scenario: Scenario) -> None:
    assert {found.owner for found in scenario.invariants} == {
        "bot", "payments", "referrals", "vpn", "notifier", "all", "bus",
    }  # fmt: skip
    audited = {found.finding.invariant for found in scenario.invariants}
    assert audited >= {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I12", "I13"}


async def test_the_trace_has_every_step_once(scenario: Scenario) -> None:
    """It is one tree, with the handlers' names below the payment's report."""
    names = [span["name"] for _, span in tree(scenario.spans)]
    for step in (
        "payments_confirms_reported",
        "referrals_rewards_confirmed",
        "vpn_grants_confirmed",
        "xray.ensure",
    ):
        assert names.count(step) == 1, step
    depths = {span["name"]: depth for depth, span in tree(scenario.spans)}
    assert (
        depths["buy with stars"]
        < depths["payments_confirms_reported"]
        < depths["vpn_grants_confirmed"]
    )
    assert len(timeline(scenario)) > 10
    assert {"bot-gateway", "vpn-provisioner"} <= {line["service"] for line in timeline(scenario)}


async def test_the_results_are_json(scenario: Scenario) -> None:
    results = json.loads(json.dumps(as_dict(scenario, 1.0)))
    assert results["ok"] is True
    assert {line["account"] for line in results["ledger"]["after"]} >= {
        "revenue",
        "earned",
        "wallet",
    }
    assert results["trace"][0]["depth"] == 0
    assert {one["service"] for one in results["invariants"]} >= {"bot-gateway", "vpn-provisioner"}


async def test_the_summary_tells_the_purchase_in_order(scenario: Scenario) -> None:
    """R-44: each service that did something is named, by the name that it has everywhere."""
    lines = [Text.from_markup(line).plain for line in summary_lines(scenario)]
    steps = [line.split(maxsplit=2) for line in lines if re.match(r"\s+\d+\.\d{3} ", line)]
    assert [float(at) for at, _, _ in steps] == sorted(float(at) for at, _, _ in steps)
    assert {service for _, service, _ in steps} == {
        "sandbox", "bot-gateway", "payments", "referrals", "vpn-provisioner", "notifier",
    }  # fmt: skip
    did = [what for _, _, what in steps]
    assert did[0] == "Bob pays 99\xa0⭐ for a month of Basic"
    assert did.index("gives Bob access for a month") < did.index("sends Bob his key")
    assert "tells Alice what she earned" in did
    assert any("revenue" in line and "0\xa0₽ → 149\xa0₽" in line for line in lines)
    assert max(cell_len(line) for line in lines) <= 80


async def broken(shop: Stack, sql: str) -> list[Found]:
    """The audit's violations after a superuser ran this statement. The caller runs the inverse."""
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
            "update notifier.deliveries set kind = 'topped_up', thread = null, rank = 0"
            " where kind = 'paid_issuing'",
            "select 1",
            "I6",
        ),
    ],
    ids=[
        "a balance that is not the sum",
        "a reward that was not booked",
        "a purchase without a message",
    ],
)
async def test_the_audit_finds_a_broken_row(
    shop: Stack, scenario: Scenario, breaks: str, mends: str, invariant: str
) -> None:
    assert scenario.ok
    assert invariant in {found.finding.invariant for found in await broken(shop, breaks)}
    await broken(shop, mends)


def test_one_false_check_makes_a_scenario_fail() -> None:
    assert Scenario(checks=[Check("true", True)]).ok
    assert not Scenario(checks=[Check("true", True), Check("false", False)]).ok


def failures(scenario: Scenario) -> list[str]:
    return [check.seen for check in scenario.checks if check.sentence == "every step succeeded"]


async def test_a_failed_scenario_reports_all_results(servers_dir: Path) -> None:
    """W-30: a refused payment and a missing key are failed checks.

    Messages, ledger, trace and invariants are reported all the same.
    """
    async with Stack(servers_dir / "wrong") as shop, SandboxClient(shop.urls["sandbox"]) as sandbox:
        await sandbox.plan_fault("500", method="answerPreCheckoutQuery", calls=1000)
        refused = await play(shop, patience_s=2)
        await sandbox.recover()
        assert not refused.ok
        assert failures(refused)[0] == "without a payment there is nothing to wait for"
        assert {found.owner for found in refused.invariants} >= {
            "bot",
            "payments",
            "referrals",
            "vpn",
            "notifier",
        }

        shop.services["notifier"].kill()
        silent = await play(shop, patience_s=2)
        assert not silent.ok
        assert "Bob waited 2 s for the key" in failures(silent)[0]
        assert timeline(silent)
        assert ("revenue", 14900) in {
            (line.account, line.amount_minor) for line in silent.ledger_after
        }
        missing = [
            found.owner
            for found in silent.invariants
            if found.finding.truth.startswith("every service answers")
        ]
        assert missing == ["notifier"]
        assert as_dict(silent, 1.0)["ok"] is False
        assert any("✗ every step succeeded" in line for line in summary_lines(silent))
        assert "Exit status 1" in verdict(silent, 1.0, 1)


async def test_a_missing_fault_is_not_proved(shop: Stack) -> None:
    """CI plays the demo with every service killed and the broker wiped.

    Each fault's proof is one of the checks.
    """
    assert not (await Kill("payments").proof(shop)).holds
    assert not (await WipeBroker(await shop.broker.incarnations()).proof(shop)).holds


def test_an_unknown_service_is_refused() -> None:
    with pytest.raises(
        StartError, match="There is no service gateway; --kill takes bot-gateway, payments"
    ):
        faults_of(["payments", "gateway"], wipe_broker=False)
