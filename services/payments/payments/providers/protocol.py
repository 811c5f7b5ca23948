"""The one protocol of payment providers: no call raises, and every outcome is a value."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from payments.domain.provider import (
    Asked,
    Balances,
    Failure,
    Finding,
    FiscalKind,
    FiscalReceipt,
    Notice,
    Opened,
    Page,
    Payment,
    Refund,
    RefundDone,
    RefundPage,
    RefundPending,
    Registering,
    Registration,
    Returning,
    Unreadable,
    Unsupported,
    Way,
)

Known = Mapping[str, Payment | Unreadable]
"""Payments by their references. A reference that the provider does not know is absent."""


class Provider(Protocol):
    """A payment provider. Every call ends within the client's own time-out and size bound.

    It is made outside any loop, opened inside one, and closed once. No call raises for what a
    provider answers or does not answer.
    """

    @property
    def name(self) -> str:
        """The acquirer of its receipts, and the name of its clearing accounts."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """How a person can pay, the first offered first."""

    @property
    def reads_at_once(self) -> int:
        """How many references one `read` takes. It takes one call."""

    @property
    def returning(self) -> Returning | Unsupported:
        """How it returns money, or what to do instead."""

    async def start(self) -> None:
        """Make the HTTP session. Nothing is called."""

    async def close(self) -> None:
        """Release the connections. No call follows."""

    async def check(self) -> tuple[Finding, ...]:
        """Ask the provider for our account: wrong keys, a disabled account, missing ways.

        A provider that does not answer is a finding that blocks nothing.
        """

    async def open(self, asked: Asked) -> Opened | Failure:
        """Open an invoice. `Unknown` says whether to repeat the call or to `find` first.

        Providers keep a key for a day: more than that after `asked.since`, `find` first.
        """

    async def find(self, asked: Asked) -> Opened | Failure | None:
        """Look a lost answer up, without opening anything. None: there is surely no invoice.

        The walk is bounded. `Unknown` means that its bound was met, or that the provider did not
        answer: then no other invoice may be opened for `asked`.
        """

    async def read(self, references: Sequence[str]) -> Known | Failure:
        """Read payments back, at most `reads_at_once`. All or nothing."""

    def parse_notice(self, headers: Mapping[str, str], body: bytes, peer: str | None) -> Notice:
        """Read the request of a webhook. It is pure, and its size is bounded.

        `peer` is the sender's address. Give it only where it is the provider's own or a trusted
        proxy tells it; None leaves it unchecked.
        """

    async def list_payments(
        self, since: datetime, until: datetime, after: str | None
    ) -> Page | Failure:
        """Payments that were paid in [since, until): one page, one call.

        Others that were made in it are among them where the provider lists them too.

        `after` is `next` of the page before, with the same window; None begins. None comes twice
        in one walk, unless the provider moves its pages under us.
        """

    async def list_refunds(
        self, since: datetime, until: datetime, after: str | None
    ) -> RefundPage | Failure | Unsupported:
        """Refunds that were made in [since, until), in pages as those of payments."""

    async def balance(self) -> Balances | Failure | Unsupported:
        """The provider's balances for the shop now. A currency that is absent is zero."""

    async def refund(
        self,
        reference: str,
        amount_minor: int,
        currency: str,
        key: UUID,
        receipt: FiscalReceipt | None = None,
    ) -> RefundDone | RefundPending | Failure | Unsupported:
        """Send money of this payment back. The same key again is the same refund.

        `receipt` is that of the refund, for the tax office: keep it and repeat it unchanged.
        """

    async def read_refund(
        self, reference: str
    ) -> Refund | Unreadable | Failure | Unsupported | None:
        """The state of a refund, by its own reference. None: the provider does not know it."""

    async def capture(
        self, reference: str, amount_minor: int, currency: str
    ) -> Payment | Unreadable | Failure | Unsupported:
        """Take held money, in full or in part. A repeat is the same capture."""

    async def cancel(self, reference: str) -> Payment | Unreadable | Failure | Unsupported:
        """Let held money go back to the payer. A repeat is the same cancellation."""

    async def register(
        self, payment: str, receipt: FiscalReceipt, key: UUID
    ) -> Registering | Failure | Unsupported:
        """Register the offset of an advance that came by this payment.

        The same key again is the same receipt, for a day.
        """

    async def read_registration(
        self, kind: FiscalKind, reference: str
    ) -> Registration | Failure | Unsupported | None:
        """The registration of a receipt, by the id of its payment, refund, or its own.

        None: the provider knows no receipt there.
        """
