"""A payment provider in memory: it keeps state, and can lose its answers."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from payments.domain.provider import (
    Asked,
    Failure,
    Finding,
    FiscalKind,
    FiscalReceipt,
    Forged,
    Hint,
    Ignored,
    Malformed,
    Notice,
    Opened,
    Page,
    Payment,
    Refund,
    RefundDone,
    RefundPage,
    RefundPending,
    RefundState,
    Refusal,
    Registering,
    Registration,
    Returning,
    Sum,
    Unreadable,
    Unsupported,
    Way,
)
from payments.providers.protocol import Known

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NO_BALANCE = Unsupported("this provider tells no balance")
BY_KEY = Returning(in_parts=True, keyed=True)
NO_REFUNDS = Unsupported("this provider returns no money")


@dataclass
class Fault:
    """One answer of a call. `done`: it takes effect before. `hangs`: it answers never."""

    answer: Failure | None = None
    done: bool = False
    hangs: bool = False


@dataclass
class FakeProvider:
    """`keyed`: the same invoice is opened once, as at YooKassa; else each call opens another."""

    name: str = "yookassa"
    ways: tuple[Way, ...] = ("sbp", "card", "crypto")
    reads_at_once: int = 3
    returning: Returning | Unsupported = BY_KEY
    keyed: bool = True
    refunds: dict[UUID, Refund] = field(default_factory=dict)
    """By key. A call without a new key is the same refund."""
    refund_state: RefundState = "succeeded"
    """Of the next refunds."""
    payments: dict[str, Payment | Unreadable] = field(default_factory=dict)
    opened: dict[str, Asked] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    asked_for: list[tuple[str, ...]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Failure] = field(default_factory=dict)
    """By reference: what each reading of it answers."""
    findings: tuple[Finding, ...] = ()
    expires_at: datetime | None = None
    receipts: dict[UUID, tuple[str, FiscalReceipt]] = field(default_factory=dict)
    """By key: the offsets that were registered."""
    registrations: dict[str, Registration] = field(default_factory=dict)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a call hangs."""

    def fails(self, call: str, *faults: Fault) -> None:
        self.faults.setdefault(call, []).extend(faults)

    async def _fault(self, call: str) -> Fault | None:
        self.calls.append(call)
        await asyncio.sleep(0)
        planned = self.faults.get(call)
        return planned.pop(0) if planned else None

    async def start(self) -> None:
        self.calls.append("start")

    async def close(self) -> None:
        self.calls.append("close")

    async def check(self) -> tuple[Finding, ...]:
        return self.findings

    async def open(self, asked: Asked) -> Opened | Failure:
        fault = await self._fault("open")
        if fault and fault.answer and not fault.done:
            return fault.answer
        reference = self._reference_of(asked)
        if fault and fault.hangs:
            self.reached.set()
            await asyncio.Event().wait()
        return fault.answer if fault and fault.answer else self._opened(reference)

    def _reference_of(self, asked: Asked) -> str:
        for reference, known in self.opened.items():
            if self.keyed and known.invoice == asked.invoice:
                assert known == asked, "the same key comes with the same request"
                return reference
        reference = f"{self.name}-{len(self.opened)}-{asked.invoice.hex[:6]}"
        self.opened[reference] = asked
        self.payments[reference] = Payment(
            reference, "pending", asked.currency, asked.amount_minor, asked.payload, NOON
        )
        return reference

    def _opened(self, reference: str) -> Opened:
        return Opened(reference, f"https://pay.example/{reference}", self.expires_at)

    async def find(self, asked: Asked) -> Opened | Failure | None:
        fault = await self._fault("find")
        if fault and fault.answer:
            return fault.answer
        for reference, known in self.opened.items():
            if known.payload == asked.payload:
                return self._opened(reference)
        return None

    async def read(self, references: Sequence[str]) -> Known | Failure:
        assert len(references) <= self.reads_at_once
        self.asked_for.append(tuple(references))
        fault = await self._fault("read")
        if fault and fault.hangs:
            self.reached.set()
            await asyncio.Event().wait()
        if fault and fault.answer:
            return fault.answer
        for reference in references:
            if reference in self.always:
                return self.always[reference]
        return {one: self.payments[one] for one in references if one in self.payments}

    def parse_notice(self, headers: Mapping[str, str], body: bytes, peer: str | None) -> Notice:
        """A notice is JSON with a reference; `x-sign: wrong` is a forgery."""
        if headers.get("x-sign") == "wrong" or peer == "203.0.113.9":
            return Forged("the signature is wrong")
        try:
            told = json.loads(body)
        except ValueError:
            return Malformed("no JSON")
        if "reference" not in told:
            return Ignored(str(told.get("event")))
        kind = told.get("kind", "payment")
        return Hint(told["reference"], kind, told.get("refund"))

    async def list_payments(
        self, since: datetime, until: datetime, after: str | None
    ) -> Page | Failure:
        ours = (one for one in self.payments.values() if isinstance(one, Payment))
        return Page(tuple(one for one in ours if since <= one.created_at < until))

    async def list_refunds(
        self, since: datetime, until: datetime, after: str | None
    ) -> RefundPage | Failure | Unsupported:
        return RefundPage(tuple(self.refunds.values()))

    async def balance(self) -> Unsupported:
        return NO_BALANCE

    async def refund(
        self,
        reference: str,
        amount_minor: int,
        currency: str,
        key: UUID,
        receipt: FiscalReceipt | None = None,
    ) -> RefundDone | RefundPending | Failure | Unsupported:
        fault = await self._fault("refund")
        if fault and fault.answer and not fault.done:
            return fault.answer
        refund = self._refund_of(reference, amount_minor, currency, key)
        if fault and fault.hangs:
            self.reached.set()
            await asyncio.Event().wait()
        if fault and fault.answer:
            return fault.answer
        if isinstance(refund, Refusal):
            return refund
        done = refund.state == "succeeded"
        return RefundDone(refund.reference) if done else RefundPending(refund.reference)

    def _refund_of(
        self, reference: str, amount_minor: int, currency: str, key: UUID
    ) -> Refund | Refusal:
        known = self.refunds.get(key)
        if known is not None:
            assert (known.payment, known.amount_minor) == (reference, amount_minor), "one request"
            return known
        payment = self.payments.get(reference)
        if not isinstance(payment, Payment) or payment.state != "succeeded":
            return Refusal("not_found", "The payment doesn't exist.")
        if amount_minor > payment.amount_minor - payment.refunded_minor:
            return Refusal("invalid_request", "The amount is greater than what is left.")
        self.becomes(reference, refunded_minor=payment.refunded_minor + amount_minor)
        name = f"refund-{len(self.refunds)}-{key.hex[:6]}"
        amount = currency, amount_minor
        self.refunds[key] = Refund(name, reference, self.refund_state, *amount, NOON)
        return self.refunds[key]

    async def read_refund(
        self, reference: str
    ) -> Refund | Unreadable | Failure | Unsupported | None:
        fault = await self._fault("read_refund")
        if fault and fault.answer:
            return fault.answer
        return next((one for one in self.refunds.values() if one.reference == reference), None)

    def end_refund(self, state: RefundState, reason: str | None = None) -> None:
        """The refunds that wait at the provider end."""
        for key, one in self.refunds.items():
            self.refunds[key] = replace(one, state=state, cancel_reason=reason)

    async def capture(
        self, reference: str, amount_minor: int, currency: str
    ) -> Payment | Unreadable | Failure | Unsupported:
        fault = await self._fault("capture")
        if fault and fault.answer:
            return fault.answer
        held = self.payments[reference]
        assert isinstance(held, Payment)
        assert (held.currency, held.amount_minor) == (currency, amount_minor)
        return self.pay(reference)

    async def cancel(self, reference: str) -> Payment | Unreadable | Failure | Unsupported:
        self.cancelled.append(reference)
        return NO_REFUNDS

    async def register(
        self, payment: str, receipt: FiscalReceipt, key: UUID
    ) -> Registering | Failure | Unsupported:
        fault = await self._fault("register")
        if fault and fault.answer and not fault.done:
            return fault.answer
        known = self.receipts.setdefault(key, (payment, receipt))
        assert known == (payment, receipt), "the same key comes with the same request"
        self.registrations.setdefault(f"rt-{key}", "pending")
        return fault.answer if fault and fault.answer else Registering(f"rt-{key}", "pending")

    async def read_registration(
        self, kind: FiscalKind, reference: str
    ) -> Registration | Failure | Unsupported | None:
        fault = await self._fault("read_registration")
        if fault and fault.answer:
            return fault.answer
        return self.registrations.get(reference)

    # At the provider

    def pay(self, reference: str, *, arrived: Sum | None = None, fee: Sum | None = None) -> Payment:
        return self.becomes(reference, state="succeeded", paid_at=NOON, arrived=arrived, fee=fee)

    def becomes(self, reference: str, **changes: object) -> Payment:
        known = self.payments[reference]
        assert isinstance(known, Payment)
        values: dict[str, Any] = changes
        self.payments[reference] = changed = replace(known, **values)
        return changed

    def ends(self, after: timedelta) -> None:
        """Its invoices end so long from now."""
        self.expires_at = datetime.now(UTC) + after
