"""The acts of the provider, of its app and of payers, in one transaction each."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import cast

from turnpike_local.standin.clock import Clock
from turnpike_local.standin.outside import (
    Act,
    Fault,
    NotPossibleError,
    Outside,
    OutsideState,
    Tell,
)
from turnpike_local.standin.posting import is_address

from . import amounts, rules
from .currencies import ASSETS, FIATS
from .limits import CENT, DOLLAR, MOST_USD, Limits
from .planned_faults import Answer, CallFault, NoticeFault, PlannedFaults
from .records import Invoice, Payment, Rate, Transfer
from .refusals import Refused
from .rules import InvoiceDraft, TransferDraft
from .shapes import in_fiat
from .state import State


class Unable(Exception):  # noqa: N818 - A refusal is an answer, not an error.
    """A person cannot do this. `reason` is one word, and the text is a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass
class Provider:
    """The state, the rules and the clock. `notices_changed` wakes the loop that posts.

    `chat_url` is where a payer's links into Telegram lead.
    """

    state: State
    limits: Limits
    clock: Clock
    url: Callable[[], str]
    chat_url: str = ""
    faults: PlannedFaults = field(default_factory=PlannedFaults)
    notices_changed: asyncio.Event = field(default_factory=asyncio.Event)
    tell: Tell = lambda _: None
    """Told of every invoice that was made or changed, after the commit."""

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def pay_url(self, invoice: Invoice) -> str:
        return f"{self.url()}/pay/{invoice.hash}"

    # The app

    def create_invoice(self, draft: InvoiceDraft) -> Invoice:
        with self.state.transaction():
            usd = self._usd(draft)
            rules.check_usd(usd, CENT, MOST_USD)
            made = self.state.add_invoice(draft, self.now_ms)
        self.tell(self.outside(made))
        return made

    def transfer(self, draft: TransferDraft) -> Transfer:
        """Move money once for a `spend_id`. Raises `Refused` for every later call with it."""
        with self.state.transaction():
            if not self.state.setting("transfers", False):
                raise Refused(403, "METHOD_DISABLED")
            known = self.state.transfers(
                rules.Page(0, 1), asset=None, ids=None, spend_id=draft.spend_id
            )
            if known:
                raise Refused(400, "SPEND_ID_ALREADY_USED")
            self._check_transfer(draft)
            self.state.add_to_balance(draft.asset, -draft.amount)
            return self.state.add_transfer(draft, self.now_ms)

    def _check_transfer(self, draft: TransferDraft) -> None:
        if not self.state.is_known(draft.user_id):
            raise Refused(400, "USER_NOT_FOUND")
        if draft.comment is not None and not self.state.setting("comments", False):
            raise Refused(400, "CANNOT_ATTACH_COMMENT")
        usd = draft.amount * self.state.rates()[draft.asset].usd
        rules.check_usd(usd, DOLLAR, MOST_USD)
        if self.state.balances().get(draft.asset, Decimal(0)) < draft.amount:
            raise Refused(400, "INSUFFICIENT_FUNDS")

    def _usd(self, draft: InvoiceDraft) -> Decimal:
        amount = Decimal(draft.amount)
        if draft.is_fiat:
            return amount / FIATS[draft.currency].per_usd
        return amount * self.state.rates()[draft.currency].usd

    # A payer

    def to_pay(self, draft: InvoiceDraft, asset: str, rate: Rate) -> Decimal:
        if not draft.is_fiat:
            return Decimal(draft.amount)
        price = in_fiat(rate, FIATS[draft.currency])
        return amounts.at_rate(Decimal(draft.amount), price, ASSETS[asset].places)

    def pay(self, invoice: Invoice, asset: str, *, anonymously: bool, comment: str) -> None:
        """Raises `Unable`. The balance, the payment and the notice are one transaction."""
        with self.state.transaction():
            rate = self._check_payable(invoice, asset, anonymously=anonymously, comment=comment)
            payment = self._payment(invoice, asset, rate, anonymously=anonymously, comment=comment)
            self.state.keep_payment(invoice.invoice_id, payment)
            arrives = Decimal(payment.amount) - Decimal(payment.fee_amount)
            self.state.add_to_balance(asset, arrives)
            self._queue_notices(invoice.invoice_id)
        self.notices_changed.set()
        self._tell_of(invoice)

    def _check_payable(
        self, invoice: Invoice, asset: str, *, anonymously: bool, comment: str
    ) -> Rate:
        status = invoice.status(self.now_ms)
        if status != "active":
            raise Unable(status, f"The invoice is {status}.")
        if asset not in invoice.draft.accepted_assets:
            raise Unable("asset", "The invoice does not accept this asset.")
        if comment and (not invoice.draft.allow_comments or len(comment) > rules.COMMENT_CHARS):
            raise Unable("comment", "The invoice takes no comment, or none that long.")
        if anonymously and not invoice.draft.allow_anonymous:
            raise Unable("anonymous", "The invoice cannot be paid anonymously.")
        rate = self.state.rates()[asset]
        if invoice.draft.is_fiat and not rate.is_valid:
            raise Unable("rate", "The rate of this asset is not valid now.")
        return rate

    def _payment(
        self, invoice: Invoice, asset: str, rate: Rate, *, anonymously: bool, comment: str
    ) -> Payment:
        amount = self.to_pay(invoice.draft, asset, rate)
        fee = amounts.percent_of(amount, self.limits.fee_percent)
        fiat = FIATS[invoice.draft.currency] if invoice.draft.is_fiat else None
        return Payment(
            asset=asset,
            amount=amounts.written(amount),
            usd_rate=amounts.written(rate.usd),
            fiat_rate=None if fiat is None else amounts.written(in_fiat(rate, fiat)),
            fee_amount=amounts.written(fee),
            fee_in_usd=amounts.written(amounts.rounded(fee * rate.usd)),
            paid_at_ms=self.now_ms,
            anonymously=anonymously,
            comment=comment or None,
        )

    def expire(self, invoice: Invoice) -> None:
        """Let an open invoice end now. A person who waits gets the same."""
        with self.state.transaction():
            if invoice.status(self.now_ms) == "active":
                self.state.expire(invoice.invoice_id, self.now_ms)
        self._tell_of(invoice)

    # The sandbox

    def _tell_of(self, invoice: Invoice) -> None:
        if changed := self.state.invoice(invoice.invoice_id):
            self.tell(self.outside(changed))

    def outside(self, invoice: Invoice) -> Outside:
        draft = invoice.draft
        states = {"paid": "paid", "expired": "ended", "active": "open"}
        return Outside(
            provider="Crypto Pay",
            reference=str(invoice.invoice_id),
            payload=draft.payload or "",
            way="crypto",
            title=draft.description or "",
            amount_minor=int(Decimal(draft.amount) * 100),
            currency=draft.currency,
            url=self.pay_url(invoice),
            state=cast("OutsideState", states[invoice.status(self.now_ms)]),
        )

    def plan(self, fault: Fault) -> None:
        if fault == "notice":
            self.faults.notices.add(NoticeFault("never", 0))
        else:
            answer: Answer = "lost" if fault == "lost" else "500_after"
            self.faults.calls.add(CallFault(answer, "createInvoice"))

    def act(self, act: Act, reference: str) -> None:
        """Coins do not come back by themselves. Raises `NotPossibleError`."""
        raise NotPossibleError("Crypto Pay returns no payment, and knows no chargebacks.")

    # Notices

    @property
    def webhook(self) -> str:
        """The address for notices; empty when there is none or it was switched off."""
        return str(self.state.setting("webhook", ""))

    def set_webhook(self, url: str) -> None:
        """Use this address, or none. The count of failures begins anew."""
        if url and not is_address(url):
            raise Unable("webhook", "A webhook has HTTPS, or is on this machine.")
        with self.state.transaction():
            self.state.put_setting("webhook", url)
            self.state.forget_failures()

    def repeat_notice(self, invoice: Invoice) -> None:
        if invoice.payment is None:
            raise Unable("unpaid", "The invoice is not paid.")
        with self.state.transaction():
            self._add_notice(invoice.invoice_id, self.now_ms)
        self.notices_changed.set()

    def _queue_notices(self, invoice_id: int) -> None:
        fault = self.faults.notices.take()
        fate = None if fault is None else fault.fate
        late_ms = fault.late_s * 1000 if fault is not None and fate == "late" else 0
        for _ in range({"never": 0, "twice": 2}.get(fate or "", 1)):
            self._add_notice(invoice_id, self.now_ms + late_ms)

    def _add_notice(self, invoice_id: int, due_at_ms: int) -> None:
        if self.webhook:
            self.state.add_notice(invoice_id, due_at_ms)
