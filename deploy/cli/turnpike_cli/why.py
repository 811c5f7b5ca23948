"""`turnpike why PAYMENT`: asks every owner what it knows of one payment, and says what is true of it now."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import click

from shared.bus import Bus, UnansweredError
from shared.contract import Question, Refused, Value
from shared.inspection import (
    AskDeliveries,
    AskFacts,
    AskGrant,
    AskPayment,
    AskPayments,
    AskPerson,
    AskReports,
    AskRewards,
    FactsSeen,
    PaymentLine,
)
from shared.owners import OWNERS
from turnpike_cli.account import Account, fact_ids, stuck, verdict
from turnpike_cli.asking import ASK_TIMEOUT_S, REFUSED_STATUS, each, nobody_answered, run
from turnpike_cli.telling import lines
from turnpike_cli.writing import moment, money, table

MOST_LETTERS = 300
MOST_FACTS = 500

Answer = TypeVar("Answer", bound=Value)


@click.command("why")
@click.argument("payment")
@click.option("--entries", is_flag=True, help="The entries of each transfer, too.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it for a machine.")
def why_command(*, payment: str, entries: bool, as_json: bool) -> None:
    """Tell the story of one payment.

    PAYMENT is a charge id, an invoice's payload, or the id of an order, an invoice or a receipt; with a person's
    Telegram id, that person's payments are listed. Each service is asked for its own records; the last line says in
    one sentence what is true now, or where it is stuck and what to do. Times are the databases', in UTC.
    """
    run(lambda bus: Asking(bus, entries=entries, as_json=as_json).why(payment.strip()))


class Asking:
    """One run: whoever did not answer once is not waited for again."""

    def __init__(self, bus: Bus, *, entries: bool, as_json: bool) -> None:
        self.bus = bus
        self.entries = entries
        self.as_json = as_json
        self.silent: list[str] = []

    async def why(self, named: str) -> int:
        account = await self.account(named[:MOST_LETTERS])
        if account is None and named.lstrip("-").isdecimal():
            return await self.of_person(int(named))
        if account is None:
            return self.unknown(named)
        if self.as_json:
            click.echo(json.dumps(as_dict(account), indent=2, ensure_ascii=False))
        else:
            click.echo("\n".join(lines(account, entries=self.entries)))
        return REFUSED_STATUS if account.silent else 0

    def unknown(self, named: str) -> int:
        if self.silent:
            click.echo(f"{nobody_answered(self.silent)} Who answered has not heard of {named}.", err=True)
            return REFUSED_STATUS
        click.echo(f"Nobody has heard of a payment {named}.", err=True)
        return 1

    async def account(self, named: str) -> Account | None:
        """What all of them say, each asked for what the ones before named; None for what nobody knows."""
        payment = await self.asked("payments", AskPayment(named=named))
        order = payment.order.order if payment and payment.order else _order_in(named)
        charges = [receipt.charge for receipt in payment.receipts] if payment else [named, named.partition(":")[2]]
        reports = await self.asked("bot", AskReports(charges=tuple(charges[:100]), order=order))
        if payment is None and not (reports and reports.reports):
            return None
        account = await self.effects(Account(named, payment=payment, reports=reports))
        account = replace(account, facts=await self.facts(fact_ids(account)))
        return replace(account, silent=tuple(self.silent))

    async def effects(self, account: Account) -> Account:
        receipts = [receipt for receipt in account.receipts if receipt.payer is not None]
        if receipts and receipts[0].payer:
            question = AskRewards(receipts=tuple(receipt.receipt for receipt in receipts), payer=receipts[0].payer)
            account = replace(account, rewards=await self.asked("referrals", question))
        order = account.payment.order if account.payment else None
        if order is not None and account.bought is not None:
            account = replace(account, grant=await self.asked("vpn", AskGrant(order=order.order)))
        people = {receipt.payer for receipt in receipts if receipt.payer}
        people |= {one.partner for one in (account.rewards.rewards if account.rewards else ()) if one.partner}
        causes = [str(receipt.receipt) for receipt in receipts] + ([str(order.order)] if order else [])
        if people and causes:
            wanted = AskDeliveries(people=tuple(sorted(people))[:100], causes=tuple(causes[:200]))
            account = replace(account, deliveries=await self.asked("notifier", wanted))
        return account

    async def facts(self, facts: Sequence[UUID]) -> dict[str, FactsSeen]:
        """Who told and heard what, side by side of all who answer."""
        wanted = tuple(facts[:MOST_FACTS])
        answers, silent = await each({owner: self.seen(owner, wanted) for owner in OWNERS if owner not in self.silent})
        self.silent += silent
        return answers

    async def seen(self, owner: str, facts: tuple[UUID, ...]) -> FactsSeen:
        answer = await self.bus.ask(AskFacts.of(owner)(facts=facts), timeout_s=ASK_TIMEOUT_S)
        assert isinstance(answer, FactsSeen), answer
        return answer

    async def asked(self, owner: str, question: Question[Answer]) -> Answer | None:
        """The answer; None for one who has not heard of it, and for one who does not answer."""
        if owner in self.silent:
            return None
        try:
            answer = await self.bus.ask(question, timeout_s=ASK_TIMEOUT_S)
        except UnansweredError:
            self.silent.append(owner)
            return None
        return None if isinstance(answer, Refused) else answer

    async def of_person(self, telegram_id: int) -> int:
        person = await self.asked("bot", AskPerson(telegram_id=telegram_id)) if abs(telegram_id) < 2**63 else None
        answer = await self.asked("payments", AskPayments(person=person.person)) if person else None
        if person is None or answer is None or not answer.payments:
            return self.unknown(str(telegram_id))
        if len(answer.payments) == 1:
            return await self.why(str(answer.payments[0].named))
        if self.as_json:
            found = {"person": str(person.person), "payments": [one.model_dump(mode="json") for one in answer.payments]}
            click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            click.echo(f"Payments of person {person.person}, the newest first; ask `turnpike why ID`:")
            click.echo("\n".join(listed(answer.payments)))
        return 0


def listed(payments: Sequence[PaymentLine]) -> list[str]:
    rows = [
        (str(one.named), moment(one.at)[:19], money(one.amount_minor, one.currency), f"{one.what}, {one.state}")
        for one in payments
    ]
    return table(("ID", "WHEN (UTC)", "AMOUNT", "WHAT"), rows)


def _order_in(named: str) -> UUID | None:
    """The order that a payload begins with, or that the name may be: payments may not know it, bot-gateway may."""
    try:
        return UUID(named.partition(".")[0])
    except ValueError:
        return None


def as_dict(account: Account) -> dict[str, Any]:
    parts: dict[str, Value | None] = {"payment": account.payment, "reports": account.reports}
    parts |= {"rewards": account.rewards, "grant": account.grant, "deliveries": account.deliveries}
    found = stuck(account)
    return {
        "named": account.named,
        "trace": account.trace,
        **{name: part.model_dump(mode="json") if part else None for name, part in parts.items()},
        "facts": {owner: seen.model_dump(mode="json") for owner, seen in account.facts.items()},
        "silent": list(account.silent),
        "stuck": [{"where": one.where, "why": one.why, "do": one.do, "passing": one.passing} for one in found],
        "verdict": verdict(account),
    }
