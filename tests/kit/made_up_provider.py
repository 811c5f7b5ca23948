"""A provider that exists in a test only: it shows what one more provider takes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from payments.domain.provider import (
    Asked,
    Failure,
    Finding,
    FiscalKind,
    FiscalReceipt,
    Ignored,
    Notice,
    Opened,
    Page,
    Payment,
    Refusal,
    Unsupported,
    Way,
)
from payments.providers.protocol import Known, Provider

NOTHING = Unsupported("The made-up provider cannot do that.")


def provider_from(settings: Any) -> Provider:
    return MadeUp(settings.made_up_key)


class MadeUp:
    """It opens invoices and forgets them at once."""

    name = "made_up"
    ways: tuple[Way, ...] = ("card",)
    reads_at_once = 1
    returning = NOTHING

    def __init__(self, key: str) -> None:
        self.key = key

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> tuple[Finding, ...]:
        return ()

    async def open(self, asked: Asked) -> Opened | Failure:
        return Opened(str(asked.invoice), "https://example.org/pay")

    async def find(self, asked: Asked) -> Opened | Failure | None:
        return None

    async def read(self, references: Sequence[str]) -> Known | Failure:
        return {}

    def parse_notice(self, headers: Mapping[str, str], body: bytes, peer: str | None) -> Notice:
        return Ignored("made up")

    async def list_payments(
        self, since: datetime, until: datetime, after: str | None
    ) -> Page | Failure:
        return Page(())

    async def list_refunds(
        self, since: datetime, until: datetime, after: str | None
    ) -> Unsupported:
        return NOTHING

    async def balance(self) -> Unsupported:
        return NOTHING

    async def refund(
        self,
        reference: str,
        amount_minor: int,
        currency: str,
        key: UUID,
        receipt: FiscalReceipt | None = None,
    ) -> Unsupported:
        return NOTHING

    async def read_refund(self, reference: str) -> Unsupported:
        return NOTHING

    async def capture(
        self, reference: str, amount_minor: int, currency: str
    ) -> Payment | Refusal | Unsupported:
        return NOTHING

    async def cancel(self, reference: str) -> Unsupported:
        return NOTHING

    async def register(self, payment: str, receipt: FiscalReceipt, key: UUID) -> Unsupported:
        return NOTHING

    async def read_registration(self, kind: FiscalKind, reference: str) -> Unsupported:
        return NOTHING
