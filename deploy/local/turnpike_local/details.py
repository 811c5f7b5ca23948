"""Everything that a scenario recorded: as tables for `turnpike demo --verbose`, and as JSON."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.contracts.money import shown
from shared.contracts.payments import TrialBalanceLine
from turnpike_local.scenario import Scenario, tree
from turnpike_local.services import title_of

CLIENT_ATTRIBUTES = ("db.system.name", "http.request.method")


def timeline(scenario: Scenario) -> list[dict[str, Any]]:
    """Each step with its service and the milliseconds since the payment, without SQL and HTTP."""
    began_ns = scenario.paid_at_ns or min((span["start_ns"] for span in scenario.spans), default=0)
    steps = [
        (span["start_ns"], service_of(span), span["name"], took_ms(span), False)
        for span in scenario.spans
        if not any(kind in span["attributes"] for kind in CLIENT_ATTRIBUTES)
    ]
    steps += [
        (incident.at_ns, title_of(incident.part), incident.what, 0.0, True)
        for incident in scenario.incidents
    ]
    return [
        {
            "ms": round((at_ns - began_ns) / 1e6, 1),
            "service": service,
            "what": what,
            "took_ms": took,
            "on_purpose": on_purpose,
        }
        for at_ns, service, what, took, on_purpose in sorted(steps, key=lambda step: step[0])
    ]


def service_of(span: dict[str, Any]) -> str:
    """The span's service by its name for people: `bot-gateway`."""
    return str(span["service"])


def took_ms(span: dict[str, Any]) -> float:
    return round(int(span["end_ns"] - span["start_ns"]) / 1e6, 1)


def as_dict(scenario: Scenario, took_s: float) -> dict[str, Any]:
    return {
        "ok": scenario.ok,
        "took_s": round(took_s, 1),
        "order": scenario.order,
        "charge": scenario.charge,
        "timeline": timeline(scenario),
        "ledger": {
            "before": [line.model_dump() for line in scenario.ledger_before],
            "after": [line.model_dump() for line in scenario.ledger_after],
        },
        "messages": [{"to": name, "text": text} for name, text in scenario.messages],
        "trace": [
            {
                "depth": depth,
                "service": service_of(span),
                "name": span["name"],
                "took_ms": took_ms(span),
            }
            for depth, span in tree(scenario.spans)
        ],
        "checks": [
            {"sentence": check.sentence, "holds": check.holds, "seen": check.seen}
            for check in scenario.checks
        ],
        "invariants": [
            {"service": found.service, **found.finding.model_dump()}
            for found in scenario.invariants
        ],
    }


def show_details(console: Console, scenario: Scenario) -> None:
    """The rest of `--verbose`: every step, message, account, span, check and invariant."""
    console.print("\n[bold]Every step[/] (ms since the payment)")
    for line in timeline(scenario):
        what = f"[red]{escape(line['what'])}[/]" if line["on_purpose"] else escape(line["what"])
        console.print(f"  {line['ms']:>9.1f}  {line['service']:<15} {what}", soft_wrap=True)
    show_messages(console, scenario)
    console.print(ledger_table(scenario))
    show_trace(console, scenario)
    console.print("\n[bold]Checks[/]")
    for check in scenario.checks:
        seen = " ".join(check.seen.split())[:90] if check.holds else check.seen
        mark = "[green]✓[/]" if check.holds else "[red]✗[/]"
        console.print(f"  {mark} {escape(check.sentence)} [dim]{escape(seen)}[/]", soft_wrap=True)
    console.print(invariants_table(scenario))


def show_messages(console: Console, scenario: Scenario) -> None:
    console.print("\n[bold]The bot's messages at the end[/]")
    for name, text in scenario.messages:
        first, *rest = text.splitlines()
        console.print(f"  {name}: {escape(first)}{' …' if rest else ''}")


def ledger_table(scenario: Scenario) -> Table:
    before = {(line.account, line.currency): line.amount_minor for line in scenario.ledger_before}
    table = Table(
        "account", "before", "after", title="Ledger", title_justify="left", title_style="bold"
    )
    for line in scenario.ledger_after:
        was = TrialBalanceLine(
            account=line.account,
            currency=line.currency,
            amount_minor=before.get((line.account, line.currency), 0),
        )
        table.add_row(
            line.account,
            shown(was.amount_minor, was.currency),
            shown(line.amount_minor, line.currency),
        )
    return table


def show_trace(console: Console, scenario: Scenario) -> None:
    console.print(f"\n[bold]The trace[/] {scenario.order}")
    for depth, span in tree(scenario.spans):
        service = service_of(span)
        name = " ".join(span["name"].split())[: max(20, 72 - 2 * depth)]
        console.print(
            f"  {'  ' * depth}{service} [dim]·[/] {escape(name)} [dim]{took_ms(span)} ms[/]",
            soft_wrap=True,
        )


def invariants_table(scenario: Scenario) -> Table:
    table = Table(
        "",
        "service",
        "invariant",
        "violations",
        title="Invariants",
        title_justify="left",
        title_style="bold",
    )
    for found in scenario.invariants:
        finding = found.finding
        seen = f"{finding.violations} {'; '.join(finding.examples)}".strip()
        table.add_row(finding.invariant, found.service, escape(finding.truth), escape(seen))
    return table
