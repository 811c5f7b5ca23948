"""The client of Crypto Pay: thin calls of `/api/<method>`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from payments.domain.provider import (
    Asked,
    Balances,
    Failure,
    Finding,
    FiscalKind,
    FiscalReceipt,
    Malformed,
    Notice,
    Opened,
    Page,
    Refusal,
    Unknown,
    Unsupported,
    Way,
)
from payments.providers.caller import CALL_TIMEOUT_S, Answer, Caller
from payments.providers.cryptobot.messages import (
    LIFETIME_S,
    PAGE,
    balances_from,
    findings_from,
    invoice_body,
    is_oldest_first,
    items_of,
    made_before,
    notice_from,
    opened_by,
    opened_from,
    payload_of,
    payment_from,
    result_by,
)
from payments.providers.protocol import Known
from payments.providers.reading import Json, apart, readable
from payments.settings import Settings

NAME = "cryptobot"
CURRENCY = "RUB"  # Prices. The payer chooses the asset.
FIND_PAGES = 5
CLOCKS_DIFFER = timedelta(minutes=5)
LIFETIME = timedelta(seconds=LIFETIME_S)
NOTICE_BYTES = 128 * 1024
OFFSET_DIGITS = 9
SETTLES_IN_S = 30.0  # A call that timed out may still be executed: a look before that is no proof.
TOKEN_HEADER = "Crypto-Pay-API-Token"  # noqa: S105 - the name of the header, no secret.
NO_REFUND = Unsupported(
    "Crypto Pay has no refunds. Credit the wallet (turnpike balance add), or transfer the money "
    "in @CryptoBot."
)
NO_RECEIPTS = Unsupported("Crypto Pay registers no receipts.")
NO_HOLD = Unsupported("Crypto Pay holds no money: a paid invoice is final.")


def provider_from(settings: Settings) -> "Cryptobot":
    assert settings.cryptobot_token is not None, "the table asks for it"
    return Cryptobot(settings.cryptobot_token.get_secret_value(), settings.cryptobot_api_url)


class Cryptobot:
    """One app of Crypto Pay. It has no idempotence keys: `find` comes before another try."""

    name = NAME
    ways: tuple[Way, ...] = ("crypto",)
    reads_at_once = PAGE
    returning = NO_REFUND

    def __init__(
        self,
        token: str,
        api_url: str,
        *,
        proxy: str | None = None,
        call_timeout_s: float = CALL_TIMEOUT_S,
        page: int = PAGE,
    ) -> None:
        self._token = token
        self._page = page
        headers = {TOKEN_HEADER: token}
        self._caller = Caller(NAME, api_url, headers, proxy=proxy, call_timeout_s=call_timeout_s)

    async def start(self) -> None:
        await self._caller.start()

    async def close(self) -> None:
        await self._caller.close()

    async def check(self) -> tuple[Finding, ...]:
        return findings_from(await self._call("getMe", {}))

    async def open(self, asked: Asked) -> Opened | Failure:
        if asked.way not in self.ways or asked.currency != CURRENCY:
            return Refusal("way", f"Crypto Pay takes no {asked.currency} by {asked.way}.")
        invoice = await self._call("createInvoice", invoice_body(asked))
        opened = invoice if isinstance(invoice, Failure) else opened_by(invoice)
        if isinstance(opened, Unknown):
            return replace(opened, then="find", retry_after_s=SETTLES_IN_S)
        return opened

    async def find(self, asked: Asked) -> Opened | Failure | None:
        """The invoice with this payload among those that were made since the first try."""
        oldest = asked.since - CLOCKS_DIFFER
        for number in range(FIND_PAGES):
            items = await self._walk({"offset": number * self._page})
            if not isinstance(items, list):
                return replace(items, then="find") if isinstance(items, Unknown) else items
            for one, name in items:
                if payload_of(one) == asked.payload:
                    found = readable(opened_from, one, name)
                    return found if isinstance(found, Opened) else Unknown(found.sentence, "find")
            if len(items) < self._page or made_before(items[-1][0], oldest):
                return None
        return Unknown(f"not among the first {FIND_PAGES} pages of invoices", "find")

    async def read(self, references: Sequence[str]) -> Known | Failure:
        assert len(references) <= self.reads_at_once
        numbers = [one for one in references if one.isascii() and one.isdecimal()]
        if not numbers:
            return {}
        items = await self._list({"invoice_ids": ",".join(numbers), "count": PAGE})
        if not isinstance(items, list):
            return items
        known = {name: readable(payment_from, one, name) for one, name in items}
        return {reference: known[reference] for reference in numbers if reference in known}

    def parse_notice(self, headers: Mapping[str, str], body: bytes, peer: str | None) -> Notice:
        """The signature speaks for it. The amounts are read back all the same."""
        if len(body) > NOTICE_BYTES:
            return Malformed(f"more than {NOTICE_BYTES} bytes")
        return notice_from(body, headers, self._token)

    async def list_payments(
        self, since: datetime, until: datetime, after: str | None
    ) -> Page | Failure:
        """Paid invoices, newest first. The walk ends at what no payment in the window can pay."""
        if after is not None and not (after.isdecimal() and len(after) <= OFFSET_DIGITS):
            return Refusal("cursor", "The text does not continue a list of Crypto Pay.")
        offset = int(after or 0)
        items = await self._walk({"status": "paid", "offset": offset})
        if not isinstance(items, list):
            return items
        horizon = since - LIFETIME
        recent = [one for one in items if not made_before(one[0], horizon)]
        payments, unreadable = apart([readable(payment_from, *one) for one in recent])
        is_last = len(items) < self._page or made_before(items[-1][0], horizon)
        return Page(
            tuple(one for one in payments if one.paid_at and since <= one.paid_at < until),
            tuple(unreadable),
            None if is_last else str(offset + self._page),
        )

    async def list_refunds(
        self, since: datetime, until: datetime, after: str | None
    ) -> Unsupported:
        return NO_REFUND

    async def balance(self) -> Balances | Failure:
        """Available money and what is on hold, of every asset."""
        result = await self._call("getBalance", {})
        return result if isinstance(result, Failure) else balances_from(result)

    async def refund(
        self,
        reference: str,
        amount_minor: int,
        currency: str,
        key: UUID,
        receipt: FiscalReceipt | None = None,
    ) -> Unsupported:
        return NO_REFUND

    async def read_refund(self, reference: str) -> Unsupported:
        return NO_REFUND

    async def capture(self, reference: str, amount_minor: int, currency: str) -> Unsupported:
        return NO_HOLD

    async def cancel(self, reference: str) -> Unsupported:
        return NO_HOLD

    async def register(self, payment: str, receipt: FiscalReceipt, key: UUID) -> Unsupported:
        return NO_RECEIPTS

    async def read_registration(self, kind: FiscalKind, reference: str) -> Unsupported:
        return NO_RECEIPTS

    async def _walk(self, body: Json) -> list[tuple[object, str]] | Failure:
        """A page of a walk that ends at the first old invoice: another order would hide newer."""
        items = await self._list(body | {"count": self._page})
        if isinstance(items, list) and is_oldest_first([one for one, _ in items]):
            return Unknown("the list is not newest first")
        return items

    async def _list(self, body: Json) -> list[tuple[object, str]] | Failure:
        result = await self._call("getInvoices", body)
        return result if isinstance(result, Failure) else items_of(result)

    async def _call(self, method: str, body: Json) -> object | Failure:
        answer = await self._caller.ask("POST", f"api/{method}", call=method, body=body)
        return result_by(answer) if isinstance(answer, Answer) else answer
