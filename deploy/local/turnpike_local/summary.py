"""A scenario in a few lines of 80 columns: what happened, the ledger, the checks, the verdict."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.markup import escape

from shared.contracts.money import shown
from shared.platform.telemetry import FAILED
from turnpike_local.sandbox.client import Json
from turnpike_local.scenario import CHARGED, Check, Scenario
from turnpike_local.services import title_of

COLUMN = 39
ONE_COLUMN = 76


@dataclass(frozen=True)
class Step:
    """A step of the purchase, by the span that it left; a message by its kind."""

    span: str
    sentence: str
    message: str = ""


STEPS = (
    Step("answer pre-checkout", "lets Telegram charge Bob for his order"),
    Step("payments_confirms_reported", "books the payment, and Bob's order spends it"),
    Step("referrals_rewards_confirmed", "decides the reward of Alice, who invited Bob"),
    Step("vpn_grants_confirmed", "gives Bob access for a month"),
    Step("xray.ensure", "has the VPN node accept Bob's key"),
    Step("deliver", "tells Bob that he paid", "paid_issuing"),
    Step("deliver", "sends Bob his key", "access_ready"),
    Step("deliver", "tells Alice what she earned", "reward_earned"),
)
"""The first successful span of each is shown."""


def summary_lines(scenario: Scenario) -> list[str]:
    """Lines with rich's marks."""
    return [
        "[bold]What happened[/] (seconds since Bob paid)",
        *_happened(scenario),
        "[bold]Ledger[/] (before → after)",
        *_in_columns([_account(*line) for line in changed_accounts(scenario)]),
        "[bold]Checks[/]",
        *_checks(scenario),
        *_invariants(scenario),
    ]


def verdict(scenario: Scenario, took_s: float, status: int) -> str:
    """The last line."""
    if scenario.ok:
        return (
            f"[green]Every check holds: paid, rewarded and granted once.[/] "
            f"Exit status {status} after {took_s:.0f} s."
        )
    return (
        f"[red]A check failed; --verbose prints every step.[/] "
        f"Exit status {status} after {took_s:.0f} s."
    )


def _happened(scenario: Scenario) -> Iterator[str]:
    """The steps and the faults in their order."""
    paid = ("sandbox", f"Bob pays {escape(_price(scenario))}", False)
    events = [(scenario.paid_at_ns, *paid)] if scenario.charge else []
    for step in STEPS:
        found = next((span for span in _in_order(scenario) if _is(span, step)), None)
        if found is not None:
            events.append((found["start_ns"], str(found["service"]), step.sentence, False))
    for incident in scenario.incidents:
        if not incident.intermediate:
            events.append((incident.at_ns, title_of(incident.part), incident.what, True))
    if not events:
        yield "           nobody paid"
    for at_ns, service, what, on_purpose in sorted(events, key=lambda event: event[0]):
        seconds = (at_ns - scenario.paid_at_ns) / 1e9
        colour = ("[red]", "[/]") if on_purpose else ("", "")
        yield f"{seconds:9.3f}  {service:<15}  {what.join(colour)}"


def _in_order(scenario: Scenario) -> list[Json]:
    return sorted(scenario.spans, key=lambda span: int(span["start_ns"]))


def _is(span: Json, step: Step) -> bool:
    attributes = span["attributes"]
    done = FAILED not in attributes and attributes.get("outcome", "sent") == "sent"
    named = span["name"] == step.span and attributes.get("message", "") == step.message
    return bool(done and named)


def _price(scenario: Scenario) -> str:
    stars = -scenario.gains.get(CHARGED, 0)
    return f"{shown(stars, 'XTR')} for a month of Basic" if stars else "for a month of Basic"


def changed_accounts(scenario: Scenario) -> list[tuple[str, str, int, int]]:
    """Account, currency, and the balances before and after, where they differ."""
    before = {(one.account, one.currency): one.amount_minor for one in scenario.ledger_before}
    return [
        (one.account, one.currency, was, one.amount_minor)
        for one in scenario.ledger_after
        if (was := before.get((one.account, one.currency), 0)) != one.amount_minor
    ]


def _account(account: str, currency: str, before: int, after: int) -> str:
    name = account.partition(":")[0]
    return f"{name:<10} {shown(before, currency):>7} → {shown(after, currency)}"


def _checks(scenario: Scenario) -> Iterator[str]:
    """Those that hold in two columns; one that fails has a line, and what was seen below it."""
    failed = [check for check in scenario.checks if not check.holds]
    yield from _in_columns([f"✓ {one.sentence}" for one in scenario.checks if one.holds])
    for check in failed:
        yield f"  [red]✗ {escape(check.sentence)}[/]"
        yield f"      {escape(_shortened(check))}"


def _shortened(check: Check) -> str:
    seen = " ".join(check.seen.split())
    return seen if len(seen) <= ONE_COLUMN else f"{seen[: ONE_COLUMN - 2]} …"


def _invariants(scenario: Scenario) -> Iterator[str]:
    found = scenario.invariants
    violated = [one for one in found if one.finding.violations]
    count = len({one.finding.invariant for one in found})
    if found and not violated:
        yield f"  ✓ {count} invariants hold, by {len(found)} checks in and between the services"
    for one in violated:
        yield (
            f"  [red]✗ {one.finding.invariant} {one.service}: {escape(one.finding.truth)}, "
            f"{one.finding.violations} violations[/]"
        )


def _in_columns(cells: list[str]) -> list[str]:
    """Two cells a line; a sentence that is too long for a column has its own line."""
    lines: list[str] = []
    left: str | None = None
    for cell in cells:
        if cell_len(cell) >= COLUMN:
            lines.append(f"  {escape(cell)}")
        elif left is None:
            left = cell
        else:
            lines.append(f"  {escape(left)}{' ' * (COLUMN - cell_len(left))}{escape(cell)}")
            left = None
    return lines if left is None else [*lines, f"  {escape(left)}"]
